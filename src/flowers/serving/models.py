"""The model for inference: the champion, a run's, the latest trained one, or one in a folder."""

import contextlib
import hashlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.serving.export import formats
from flowers.serving.stream import Model

Settings = Callable[[], Params]  # called only to find a run: a folder needs no checkout


def choose(reference: str | None, settings: Settings) -> tuple[Model, str]:
    """The model that `reference` names (see `located`), and its name in messages. Raises UserError without one."""
    with located(reference, settings) as (folder, name):
        return load(folder), name


@contextlib.contextmanager
def located(reference: str | None, settings: Settings) -> Iterator[tuple[Path, str]]:
    """The folder or file of the model that `reference` names, for as long as it is needed, and its name in messages.

    A reference is a run (by name, id or alias), a folder that train, export or MLflow wrote, or an exported file. The
    default is the champion, or build/model without one. Raises UserError where the run or the folder does not exist.
    """
    # Path("") would be the current folder.
    if reference and (Path(reference) == paths.MODEL or Path(reference).exists()):
        yield Path(reference), reference
        return
    from flowers.tracking import StoreUnreachable, logged_models, lookup

    with contextlib.ExitStack() as held:
        found = None
        try:
            named = lookup.CHAMPION if reference is None else reference
            found = held.enter_context(logged_models.model(named, settings))
        except StoreUnreachable as error:
            if reference is not None:
                raise
            console.warn(f"{error}. Using {paths.MODEL}")
        if reference is None:
            yield (found[0], f"the {lookup.CHAMPION}, {found[1]}") if found else (paths.MODEL, str(paths.MODEL))
        elif found:
            yield found
        elif reference == lookup.CHAMPION:
            raise UserError("there is no champion yet; `flowers promote RUN` makes one")
        else:
            raise UserError(
                f"'{reference}' is neither a file, a folder nor a run's name, id or alias; `make ui` shows the runs"
            )


def load(place: Path) -> Model:
    """The model in a folder that train, export or MLflow wrote, or in an exported file. Raises UserError for others."""
    if file := place if place.is_file() else formats.find(place):
        return formats.load(file)
    from flowers.model import classifier

    if not (place / classifier.DESCRIPTION).exists() and (place / "model" / classifier.DESCRIPTION).exists():
        raise UserError(f"{place} holds no model itself; did you mean {place / 'model'}?")
    if (place / "MLmodel").exists():
        from flowers.tracking import shared_weights

        artifacts = place / "artifacts"
        return classifier.load(artifacts / "model", shared_weights.of(artifacts))
    return classifier.load(place, weights_of(place))


def weights_of(folder: Path) -> Path:
    """The weights of a model that train wrote: in the same checkout as the folder if possible, else in this one."""
    beside = folder.parent / paths.WEIGHTS.relative_to(paths.BUILD)
    return beside if beside.exists() else paths.WEIGHTS


def digest(place: Path) -> str:
    """SHA-256 (hex) of names and content of the model's files; one of them holds the digest of the ImageNet weights."""
    root = place / "artifacts" / "model" if (place / "MLmodel").exists() else place
    found = hashlib.sha256()
    for name, file in _files(root):
        found.update(f"{name.as_posix()}:{file.stat().st_size}:".encode())
        found.update(file.read_bytes())
    return found.hexdigest()


def pack(place: Path, archive: Path) -> None:
    """Write a zip with the model's files in `model`, and beside it the ImageNet weights if they lie elsewhere."""
    from flowers.model.classifier import TRAINED

    with zipfile.ZipFile(archive, "w") as zipped:  # stored: compression hardly shrinks tensors
        for name, file in _files(place):
            zipped.write(file, Path("model", name))
        if (place / TRAINED).exists():
            zipped.write(weights_of(place), paths.WEIGHTS.relative_to(paths.BUILD))
        elif (artifacts := place / "artifacts").is_dir() and not (artifacts / paths.WEIGHTS.name).exists():
            from flowers.tracking import shared_weights

            # The executors need no tracking server.
            zipped.write(shared_weights.of(artifacts), Path("model", "artifacts", paths.WEIGHTS.name))


def _files(place: Path) -> list[tuple[Path, Path]]:
    """The files of a model with their names in its folder; those of an exported file are that file and its weights."""
    if place.is_file():
        return [(Path(file.name), file) for file in formats.files(place)]
    return [(file.relative_to(place), file) for file in sorted(path for path in place.rglob("*") if path.is_file())]
