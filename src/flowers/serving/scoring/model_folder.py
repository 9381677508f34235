"""The folder of the model that scores: its digest, and an archive of it that can be loaded on any machine."""

import hashlib
import zipfile
from pathlib import Path

from flowers.common import paths
from flowers.model import classifier
from flowers.serving import models


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
    with zipfile.ZipFile(archive, "w") as zipped:  # stored: compression hardly shrinks tensors
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            zipped.write(file, Path("model", file.relative_to(folder)))
        if (folder / classifier.TRAINED).exists():
            zipped.write(models.weights_of(folder), paths.WEIGHTS.relative_to(paths.BUILD))
