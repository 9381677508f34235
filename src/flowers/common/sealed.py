"""JSON documents that hold a digest of their own content, so that a damaged one raises an error."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DIGEST = "digest"


def write(content: Mapping[str, Any], file: Path) -> None:
    """Write the content, and under `digest` its SHA-256."""
    file.write_text(text(content), encoding="utf-8")


def text(content: Mapping[str, Any]) -> str:
    """The document with this content."""
    return json.dumps({**content, _DIGEST: _digest(content)}, indent=2, ensure_ascii=False) + "\n"


def read(file: Path) -> dict[str, Any]:
    """The content. Raises OSError, or ValueError if it is damaged; a document of an earlier version has no digest."""
    return parsed(file.read_text(encoding="utf-8"), file.name)


def parsed(document: str, name: str) -> dict[str, Any]:
    """The content of a document, which an error calls `name`. Raises ValueError if it is damaged."""
    content = json.loads(document)
    if not isinstance(content, dict):
        raise ValueError(f"{name} is not a JSON object")
    if content.pop(_DIGEST, None) not in (None, _digest(content)):
        raise ValueError(f"{name} was changed since it was written")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
