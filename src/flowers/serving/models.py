"""The model for inference: the champion, a run's, the latest trained one, or one in a folder."""

import contextlib
import hashlib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.serving.openvino import exported
from flowers.serving.stream import Model

Settings = Callable[[], Params]  # called only to find a run: a folder needs no checkout


def choose(reference: str | None, settings: Settings) -> tuple[Model, str]:
    """The model that `reference` names (see `located`), and its name in messages. Raises UserError without one."""
    with located(reference, settings) as (folder, name):
        return load(folder), name


@contextlib.contextmanager
def located(reference: str | None, settings: Settings) -> Iterator[tuple[Path, str]]:
    """The folder of the model that `reference` names, for as long as it is needed, and its name in messages.

    A reference is a run (by name, id or alias), or a folder that train, export --openvino or MLflow wrote. The default
    is the champion, or build/model without one. Raises UserError where the run or the folder does not exist.
    """
    # Path("") would be the current folder.
    if reference and (Path(reference) == paths.MODEL or Path(reference).is_dir()):
        yield Path(reference), reference
        return
    from flowers.tracking import StoreUnreachable, logged_models, lookup

    with contextlib.ExitStack() as held:
        found = None
        try:
            found = held.enter_context(
                logged_models.model(lookup.CHAMPION if reference is None else reference, settings())
            )
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
                f"'{reference}' is neither a folder nor a run's name, id or alias; `make ui` shows the runs"
            )


def load(folder: Path) -> Model:
    """The model in a folder that train, export --openvino or MLflow wrote. Raises UserError where it holds none."""
    from flowers.model import classifier

    if not (folder / classifier.DESCRIPTION).exists() and (folder / "model" / classifier.DESCRIPTION).exists():
        raise UserError(f"{folder} holds no model itself; did you mean {folder / 'model'}?")
    if exported.is_export(folder):
        return exported.Exported(folder)
    if (folder / "MLmodel").exists():
        artifacts = folder / "artifacts"
        return classifier.load(artifacts / "model", artifacts / paths.WEIGHTS.name)
    return classifier.load(folder, weights_of(folder))


def weights_of(folder: Path) -> Path:
    """The weights of a model that train wrote: in the same checkout as the folder if possible, else in this one."""
    beside = folder.parent / paths.WEIGHTS.relative_to(paths.BUILD)
    return beside if beside.exists() else paths.WEIGHTS


def digest(folder: Path) -> str:
    """SHA-256 (hex) of names and content of the model's files; one of them holds the digest of the ImageNet weights."""
    root = folder / "artifacts" / "model" if (folder / "MLmodel").exists() else folder
    found = hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        found.update(f"{file.relative_to(root).as_posix()}:{file.stat().st_size}:".encode())
        found.update(file.read_bytes())
    return found.hexdigest()


def pack(folder: Path, archive: Path) -> None:
    """Write a zip with the folder as `model`, and beside it the ImageNet weights if they lie elsewhere."""
    from flowers.model.classifier import TRAINED

    with zipfile.ZipFile(archive, "w") as zipped:  # stored: compression hardly shrinks tensors
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            zipped.write(file, Path("model", file.relative_to(folder)))
        if (folder / TRAINED).exists():
            zipped.write(weights_of(folder), paths.WEIGHTS.relative_to(paths.BUILD))
