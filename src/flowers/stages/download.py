"""The stage `download`: the images of one data set, verified, measured and listed; and the ImageNet weights."""

import contextlib
import hashlib
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from flowers.common import ahead, console, paths
from flowers.common.console import progress, say, warn
from flowers.common.errors import UserError
from flowers.config.params import DatasetParams
from flowers.data import catalogue, fetch, images, readers, unpack, versioned
from flowers.data.readers import ImageFile

_MAX_WORKERS = 8  # each holds one decoded image: 0.4 GB for the largest that is read


class _Listed(NamedTuple):
    """A row of images.csv."""

    path: str
    label: str
    sha256: str
    pixels: str
    phash: str
    mirrored_phash: str
    width: int
    height: int
    subset: str


class _Skipped(NamedTuple):
    """A row of skipped.csv."""

    path: str
    reason: str


def run(dataset: DatasetParams, weights: str) -> None:
    """Write build/images/<class>/<file>, build/images.csv, build/skipped.csv and build/weights/.

    Everything is made in a temporary folder inside build/ and then moved into place. Raises UserError for a data set
    that cannot be fetched or read, for bad images if `dataset.bad_images` is 'refuse', and for fewer than two classes.
    """
    from flowers.model.weights import provide

    source = catalogue.find(dataset.name)
    with _workshop() as workshop:
        root = _root(source, dataset, workshop)
        files = readers.read(source.reader, root, source.class_names)
        listed, skipped = _verify(files, root, workshop / "images")
        _write(workshop / "skipped.csv", pd.DataFrame(skipped, columns=_Skipped._fields))
        if skipped:
            _report_bad_images(dataset.bad_images, skipped, workshop)
        _require_two_classes(root, files, listed)
        _write(workshop / "images.csv", pd.DataFrame(listed, columns=_Listed._fields))
        _install(workshop)
    say(f"{len(listed):,} images of {len({row.label for row in listed})} classes in {paths.IMAGES}")
    provide(weights, paths.WEIGHTS)


@contextlib.contextmanager
def _workshop() -> Iterator[Path]:
    """A temporary folder. Its place is fixed, so that the next run clears what a killed run left."""
    folder = paths.BUILD / ".download"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _root(source: catalogue.Source, dataset: DatasetParams, workshop: Path) -> Path:
    """The folder to read: the user's own, or that of the unpacked archives."""
    if source.name == "local":
        root = Path(dataset.path)
        if root == versioned.LINK:
            return versioned.folder()
        if not root.exists():
            raise UserError(f"params.yaml: dataset.path: there is no folder {root}; name a folder of <class>/<image>")
        return root
    files = [
        fetch.verified(
            archive.file_name, archive.addresses, archive.checksum, dataset.mirror, size=archive.size, hint=source.login
        )
        for archive in source.archives
    ]
    unpack.unpack(files, workshop / "unpacked")
    return workshop / "unpacked"


def _verify(files: Sequence[ImageFile], root: Path, destination: Path) -> tuple[list[_Listed], list[_Skipped]]:
    """Measure every image and copy the good ones to destination/<class>/<file>; both lists are sorted by path."""
    names = _file_names(files)
    for label in {file.label for file in files}:
        (destination / label).mkdir(parents=True)

    def check(file: ImageFile) -> _Listed | _Skipped:
        try:
            return _copy_one(file, names[file], destination)
        except images.UnreadableImage as error:
            return _Skipped(file.source.relative_to(root).as_posix(), str(error))

    # Pillow warns of odd metadata. The filter is global, so it is set before the threads start.
    with warnings.catch_warnings(action="ignore"):
        checked = ahead.computed(check, files, 2 * _MAX_WORKERS, _MAX_WORKERS)
        rows = list(progress(checked, "Checking images", total=len(files)))
    listed = [row for row in rows if isinstance(row, _Listed)]
    skipped = [row for row in rows if isinstance(row, _Skipped)]
    return sorted(listed), sorted(skipped)


def _copy_one(file: ImageFile, name: str, destination: Path) -> _Listed:
    """Read the file once, so that the same bytes are hashed, decoded and written."""
    content = images.read(file.source)
    measured = images.measure(content)
    path = Path(file.label) / name
    (destination / path).write_bytes(content)
    return _Listed(
        path=path.as_posix(),
        label=file.label,
        sha256=hashlib.sha256(content).hexdigest(),
        subset=file.subset or "",
        **vars(measured),
    )


def _file_names(files: Sequence[ImageFile]) -> dict[ImageFile, str]:
    """A unique name in its class for each image: its own, or <subset>_<name> if several subsets have the name."""
    taken = Counter((file.label, file.source.name) for file in files)
    names = {}
    for file in files:
        name = file.source.name
        if taken[file.label, name] > 1:
            name = f"{file.subset}_{name}"
            while taken[file.label, name]:
                name = f"_{name}"
            taken[file.label, name] += 1
        names[file] = name
    return names


def _report_bad_images(bad_images: str, skipped: Sequence[_Skipped], workshop: Path) -> None:
    """Warn of bad images, or raise UserError for them; skipped.csv stays on disk either way."""
    shown = "  " + console.listed([f"{row.path}: {row.reason}" for row in skipped], "\n  ")
    if bad_images == "skip":
        warn(f"{len(skipped)} files are not readable images and are skipped ({paths.SKIPPED_LIST}):\n{shown}")
        return
    (workshop / "skipped.csv").replace(paths.SKIPPED_LIST)
    raise UserError(
        f"{len(skipped)} files are not readable images ({paths.SKIPPED_LIST}):\n{shown}\n"
        "Repair or remove them, or set dataset.bad_images: skip"
    )


def _require_two_classes(root: Path, files: Sequence[ImageFile], listed: Sequence[_Listed]) -> None:
    """Raise UserError unless there are two classes, each with a readable image."""
    labels = {file.label for file in files}
    if lost := sorted(labels.difference(row.label for row in listed)):
        raise UserError(f"{root}: classes without a readable image: {console.listed(lost)}")
    if len(labels) < 2:
        raise UserError(f"{root}: only one class ({', '.join(labels)}); a classifier needs at least two")


def _write(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, lineterminator="\n")


def _install(workshop: Path) -> None:
    """Replace the files of an earlier run: the image list is removed first and written last."""
    paths.IMAGE_LIST.unlink(missing_ok=True)
    if paths.IMAGES.exists():
        paths.IMAGES.rename(workshop / "earlier")
    (workshop / "images").rename(paths.IMAGES)
    (workshop / "skipped.csv").replace(paths.SKIPPED_LIST)
    (workshop / "images.csv").replace(paths.IMAGE_LIST)
