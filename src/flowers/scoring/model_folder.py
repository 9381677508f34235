"""The folder of the model that scores: where it is, its digest, and an archive of it that can be loaded anywhere."""

import contextlib
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from flowers import console, paths
from flowers.errors import UserError
from flowers.params import Params

_MLFLOW, _ARTIFACTS = "MLmodel", "artifacts"


@contextlib.contextmanager
def located(reference: str | None, params: Params) -> Iterator[tuple[Path, str]]:
    """The folder of the model that `reference` names, as `flowers.serving.models.choose` finds it, and its name."""
    if reference is not None and Path(reference).is_dir():
        yield Path(reference), reference
        return
    from flowers.tracking import StoreUnreachable, lookup, stored

    with contextlib.ExitStack() as held:
        try:
            found = held.enter_context(stored.model(reference or lookup.CHAMPION, params))
        except StoreUnreachable as error:
            if reference is not None:
                raise
            console.warn(f"{error}. Using {paths.MODEL}")
            found = None
        if found is None and reference is not None:
            raise UserError(
                f"'{reference}' is neither a folder nor a run's name, id or alias; `make ui` shows the runs"
            )
        yield found or (paths.MODEL, str(paths.MODEL))


def digest(folder: Path) -> str:
    """SHA-256 (hex) of names and content of the model's files; the ImageNet weights' digest is in one of them."""
    root = folder / _ARTIFACTS / "model" if (folder / _MLFLOW).exists() else folder
    found = hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        found.update(f"{file.relative_to(root).as_posix()}:{file.stat().st_size}:".encode())
        found.update(file.read_bytes())
    return found.hexdigest()


def pack(folder: Path, archive: Path) -> None:
    """Write a zip which, unpacked, is a folder that `flowers.serving.models.load` takes wherever it lies."""
    from flowers.network import classifier

    whole = not (folder / classifier.TRAINED).exists()
    with zipfile.ZipFile(archive, "w") as zipped:  # stored: tensors hardly shrink
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = file.relative_to(folder).as_posix()
            zipped.write(file, name if whole else f"{_ARTIFACTS}/model/{name}")
        if not whole:  # a folder of train, whose weights lie elsewhere: laid out as MLflow does
            zipped.write(paths.WEIGHTS, f"{_ARTIFACTS}/{paths.WEIGHTS.name}")
            zipped.writestr(_MLFLOW, "")


def pack_code(archive: Path) -> None:
    """Write a zip of this package, to import it from."""
    root = Path(__file__).parents[1]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in sorted(root.rglob("*.py")):
            zipped.write(file, file.relative_to(root.parent).as_posix())
