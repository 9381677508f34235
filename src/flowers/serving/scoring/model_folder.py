"""The folder of the model that scores: its digest, and an archive of it that can be loaded anywhere."""

import hashlib
import zipfile
from pathlib import Path

from flowers.common import paths
from flowers.serving import models

_MLFLOW, _ARTIFACTS = "MLmodel", "artifacts"


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
    from flowers.model import classifier

    whole = not (folder / classifier.TRAINED).exists()
    with zipfile.ZipFile(archive, "w") as zipped:  # stored: tensors hardly shrink
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = file.relative_to(folder).as_posix()
            zipped.write(file, name if whole else f"{_ARTIFACTS}/model/{name}")
        if not whole:  # a folder of train, whose weights lie elsewhere: laid out as MLflow does
            zipped.write(models.weights_of(folder), f"{_ARTIFACTS}/{paths.WEIGHTS.name}")
            zipped.writestr(_MLFLOW, "")


def pack_code(archive: Path) -> None:
    """Write a zip of this package, to import it from."""
    root = Path(__file__).parents[2]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in sorted(root.rglob("*.py")):
            zipped.write(file, file.relative_to(root.parent).as_posix())
