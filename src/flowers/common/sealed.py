"""JSON documents that hold a digest of their own content, so that a damaged one raises an error."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DIGEST = "digest"


def write(content: Mapping[str, Any], file: Path) -> None:
    """Write the content, and under `digest` its SHA-256."""
    text = json.dumps({**content, _DIGEST: _digest(content)}, indent=2, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


def read(file: Path) -> dict[str, Any]:
    """The content. Raises OSError, or ValueError if it is damaged; a document of an earlier version has no digest."""
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} is not a JSON object")
    if content.pop(_DIGEST, None) not in (None, _digest(content)):
        raise ValueError(f"{file.name} was changed since it was written")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
