"""Readers from a folder on disk to a list of images with labels, one for each layout."""

import os
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowers.common.console import listed, warn
from flowers.common.errors import UserError
from flowers.data.catalogue import Reader

SUBSETS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_IGNORED = {"thumbs.db", "desktop.ini", "__macosx"}
_BIDI_CONTROLS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")  # they reverse the text around them


@dataclass(frozen=True)
class ImageFile:
    """A file that should be an image, its class, and its official subset (train, val or test) if there is one."""

    source: Path
    label: str
    subset: str | None


def read(reader: Reader, root: Path, class_names: Sequence[str] = ()) -> list[ImageFile]:
    """List the images below `root`, sorted by label, subset and name.

    Raises UserError for a folder that is missing, empty or not laid out as the reader expects; files that belong to no
    class are named in a warning. Files are not opened, so some of them may not be images.
    """
    try:
        if not root.is_dir():
            raise UserError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}")
        found = _READERS[reader](root, class_names)
    except OSError as error:
        raise UserError(f"{error.filename or root}: {error.strerror or error}") from None
    if not found:
        raise UserError(f"{root}: holds no images; expected <class>/<image> or {{train,val,test}}/<class>/<image>")
    return sorted(found, key=lambda image: (image.label, image.subset or "", image.source.name))


def _folder(root: Path, _: Sequence[str]) -> list[ImageFile]:
    """`<class>/<image>`, or `{train,val,test}/<class>/<image>`, which is an official split."""
    folders, strays = _entries(root)
    subsets = _subsets(root, folders)
    found: list[tuple[Path, str | None]] = [] if subsets else [(folder, None) for folder in folders]
    for folder, subset in subsets:
        classes, more = _entries(folder)
        found += [(each, subset) for each in classes]
        strays += more
    if strays:
        warn(f"{root}: files outside class folders are not read: {listed(_below(root, strays))}")
    return _classes(root, found)


def _subsets(root: Path, folders: list[Path]) -> list[tuple[Path, str]]:
    """The folders of an official split; empty if the folders are classes."""
    named = [(folder, SUBSETS[folder.name.lower()]) for folder in folders if folder.name.lower() in SUBSETS]
    others = [folder.name for folder in folders if folder.name.lower() not in SUBSETS]
    if len(named) < 2 and others:
        return []  # a class may be called 'train'
    names = listed([folder.name for folder, _ in named])
    if others:
        raise UserError(f"{root}: holds subsets ({names}) beside other folders ({listed(others)}); keep one kind")
    if len({subset for _, subset in named}) < len(named):
        raise UserError(f"{root}: two folders of the same subset ({names}); keep one")
    return named


def _classes(root: Path, folders: list[tuple[Path, str | None]]) -> list[ImageFile]:
    """The files of every class folder; a class without files is an error, and in one of several subsets a warning."""
    if unsafe := [repr(folder.name) for folder, _ in folders if _unsafe(folder.name)]:
        raise UserError(
            f"{root}: class names that begin with = + - @, which a spreadsheet takes for a formula, or hold control "
            f"characters: {listed(unsafe)}; rename these folders"
        )
    found: list[ImageFile] = []
    empty, nested = [], []
    for folder, subset in folders:
        inner, files = _entries(folder)
        found += [ImageFile(file, folder.name, subset) for file in files]
        nested += inner
        if not files:
            empty.append(folder)
    filled = {image.label for image in found}
    if lost := [folder for folder in empty if folder.name not in filled]:
        inside = [folder for folder in nested if folder.parent in lost]
        hint = f"; they hold folders ({listed(_below(root, inside))}): is it one level too high?" if inside else ""
        raise UserError(f"{root}: class folders without an image: {listed(_below(root, lost))}{hint}")
    if empty:
        warn(f"{root}: empty class folders: {listed(_below(root, empty))}")
    if nested:
        warn(f"{root}: folders inside class folders are not read: {listed(_below(root, nested))}")
    return found


def _unsafe(name: str) -> bool:
    """Whether a name would be dangerous in tables, on terminals and on pages."""
    kinds = {unicodedata.category(letter) for letter in name} | {unicodedata.bidirectional(letter) for letter in name}
    return name[0] in "=+-@" or not kinds.isdisjoint({"Cc", *_BIDI_CONTROLS})


def _five_classes(root: Path, class_names: Sequence[str]) -> list[ImageFile]:
    """An archive with one top folder that holds the known classes (and perhaps a licence)."""
    tops = [folder for folder in _entries(root)[0] if all((folder / name).is_dir() for name in class_names)]
    if len(tops) != 1:
        raise UserError(f"{root}: the archive has no folder with {', '.join(class_names)} in it")
    others = [folder for folder in _entries(tops[0])[0] if folder.name not in class_names]
    if others:
        warn(f"{tops[0]}: folders that are no class of this data set are not read: {listed(_below(root, others))}")
    return _classes(tops[0], [(tops[0] / name, None) for name in class_names])


def _oxford102(root: Path, class_names: Sequence[str]) -> list[ImageFile]:
    """`jpg/image_NNNNN.jpg` with imagelabels.mat (the label of image 1, 2, ...) and setid.mat (the official split).

    Labels and image numbers count from 1.
    """
    labels = _vector(root / "imagelabels.mat", "labels", highest=len(class_names))
    found = []
    for subset, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        for number in _vector(root / "setid.mat", key, highest=len(labels)):
            source = root / "jpg" / f"image_{number:05d}.jpg"
            found.append(ImageFile(source, class_names[labels[number - 1] - 1], subset))
    if len({image.source for image in found}) < len(found):
        raise UserError(f"{root / 'setid.mat'}: an image is in two subsets")
    if missing := [image.source.name for image in found if not image.source.is_file()]:
        raise UserError(f"{root / 'jpg'}: {len(missing)} of {len(found)} images are missing: {listed(missing)}")
    return found


def _vector(file: Path, key: str, highest: int) -> list[int]:
    """One variable of a MATLAB file, as integers from 1 to `highest`."""
    import scipy.io

    try:
        with file.open("rb") as content:
            values = np.asarray(scipy.io.loadmat(content)[key]).ravel().astype(int).tolist()
    except FileNotFoundError:
        raise UserError(f"{file}: no such file") from None
    except Exception as error:  # the parser raises many kinds of errors for a damaged file
        raise UserError(f"{file}: '{key}' cannot be read ({' '.join(str(error).split())})") from None
    if not values or min(values) < 1 or max(values) > highest:
        raise UserError(f"{file}: '{key}' must hold numbers from 1 to {highest}")
    return list(values)


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the other files directly inside, sorted, without hidden ones."""
    visible = [path for path in sorted(folder.iterdir()) if path.name[0] != "." and path.name.lower() not in _IGNORED]
    for path in visible:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise UserError(f"{os.fsencode(path)!r}: the name is not valid UTF-8; rename it") from None
    folders = {path for path in visible if path.is_dir()}
    return sorted(folders), [path for path in visible if path not in folders]


def _below(root: Path, found: Iterable[Path]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


_READERS: dict[Reader, Callable[[Path, Sequence[str]], list[ImageFile]]] = {
    "folder": _folder,
    "oxford102": _oxford102,
    "five_classes": _five_classes,
}
