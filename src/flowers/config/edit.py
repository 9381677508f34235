"""Write values into params.yaml, keeping its comments and order, and find the values that no git commit holds."""

import io
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config import params


def write(values: Mapping[str, Any], path: Path = paths.PARAMS) -> None:
    """Set keys such as 'head.dropout' in a parameter file; comments, order and all other values stay.

    A value is a bool, int, float, str, None, or a list or tuple of ints. The file is replaced in one step. Raises
    UserError, and leaves the file as it is, if it lacks a key or cannot be read or written.
    """
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 1_000_000  # never wrap a line
    document = params.read(path, yaml)
    changed = False
    for name, value in values.items():
        section, _, key = name.partition(".")
        if key not in _section(document, section):
            raise UserError(f"{path}: key '{name}' is missing")
        new = list(value) if isinstance(value, tuple) else value
        if document[section][key] != new:
            _set(document[section], key, new)
            changed = True
    if changed:
        stream = io.StringIO()
        yaml.dump(document, stream)
        _replace(path, stream.getvalue())


def uncommitted(names: Iterable[str], path: Path = paths.PARAMS) -> dict[str, tuple[Any, Any]]:
    """Of these keys, those whose value differs from git's last commit: name -> (committed, now); None if missing.

    Empty without git, without a commit, and if the commit lacks the file. Raises UserError if the file cannot be read.
    """
    committed = _committed(path)
    if committed is None:
        return {}
    now = params.read(path)
    pairs = {name: (_value(committed, name), _value(now, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def refuse(edits: Mapping[str, tuple[Any, Any]], path: Path = paths.PARAMS) -> None:
    """Raise UserError if there are edits: name -> (committed value, value now)."""
    if edits:
        changes = ", ".join(f"{name} ({written(before)}, now {written(now)})" for name, (before, now) in edits.items())
        raise UserError(f"{path} has edits that no commit holds: {changes}. Commit them, or add --force")


def written(value: Any) -> str:
    """A value as text for a person or a shell: '[256, 128]', 'true', 'null', '1e-05', 'imagenet'."""
    return value if isinstance(value, str) else json.dumps(value)


def _set(section: Any, key: str, value: Any) -> None:
    """Replace a value of a ruamel mapping. A list is in block style, because DVC's `-S` breaks a commented flow list.

    ruamel attaches the comment and the blank lines after a value to the last item of a list in block style, and to the
    key otherwise; they move along.
    """
    from ruamel.yaml.comments import CommentedSeq

    old, of_keys = section[key], section.ca.items
    after = None
    if _in_block_style(old):
        after = old.ca.items.pop(len(old) - 1, [None])[0]
    elif key in of_keys:
        after = of_keys.pop(key)[2]
    section[key] = new = CommentedSeq(value) if isinstance(value, list) else value
    if after and _in_block_style(new):
        new.ca.items[len(new) - 1] = [after, None, None, None]
    elif after:
        if beside := of_keys.get(key):  # the comment on the line of the key
            after.value = f"{beside[2].value.rstrip()} {after.value}"
        of_keys[key] = [None, None, after, None]


def _in_block_style(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and not value.fa.flow_style()  # type: ignore[attr-defined]


def _section(document: Any, name: str) -> Mapping[str, Any]:
    content = document.get(name) if isinstance(document, dict) else None
    return content if isinstance(content, dict) else {}


def _value(document: Any, name: str) -> Any:
    section, _, key = name.partition(".")
    return _section(document, section).get(key)


def _replace(path: Path, text: str) -> None:
    target = path.resolve()  # keeps a symbolic link
    temporary = None
    try:
        with (
            target.open("r+b"),  # raises an error for a file that is read-only on purpose
            tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False) as file,
        ):
            temporary = Path(file.name)
            file.write(text.encode("utf-8"))
        shutil.copymode(target, temporary)
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def _committed(path: Path) -> Any:
    """The content of the file in git's last commit; None if there is no such commit or content."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    target = path.resolve()
    command = ["git", "show", f"HEAD:./{target.name}"]
    try:
        done = subprocess.run(command, cwd=target.parent, capture_output=True, check=False, timeout=60)
        return YAML(typ="safe").load(done.stdout.decode("utf-8")) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError, YAMLError):
        return None
