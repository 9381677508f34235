"""The images of a folder that are scored, in a fixed order."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from flowers.serving import sources

# The same suffixes for Spark, whose patterns distinguish upper and lower case.
GLOB = (
    "*.{" + ",".join("".join(f"[{letter}{letter.upper()}]" for letter in suffix) for suffix in sources.SUFFIXES) + "}"
)


def walk(folder: Path) -> Iterator[str]:
    """The image files below a folder, by their suffix, as paths relative to it with forward slashes.

    The order is always the same: by name, folder by folder. The names of one folder are held in memory at a time.
    Hidden files are left out; links to folders are followed, but not in circles. A subfolder that cannot be listed
    counts as one unreadable image.
    """
    for source in sources.Images([str(folder)]):
        if source.place.parts:  # else the folder itself: empty, or not listable
            yield source.place.as_posix()


def ignored_by_spark(names: Iterable[str]) -> int:
    """How many of these paths Spark's readers ignore: a file or a folder in them begins with an underscore."""
    return sum("/_" in f"/{name}" for name in names)
