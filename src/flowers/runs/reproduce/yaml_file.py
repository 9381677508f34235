"""YAML files of a run or of its commit."""

from pathlib import Path
from typing import Any

from flowers.common.errors import UserError


def read(file: Path, keep_form: bool = False) -> Any:
    """The mapping in a file; with `keep_form` it can be written back with its comments. Raises UserError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="rt" if keep_form else "safe").load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file.name} of the run or of its commit cannot be read: {reason}") from None
    if not isinstance(document, dict):
        raise UserError(f"{file.name} of the run or of its commit holds no keys and values")
    return document


def write(document: Any, file: Path) -> None:
    """Write what `read` gave with `keep_form`."""
    from ruamel.yaml import YAML

    YAML().dump(document, file)
