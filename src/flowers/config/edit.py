"""Write values into params.yaml, whose comments and order stay; and find edits that git does not hold yet."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from flowers.common import paths
from flowers.common.errors import UserError


def write(values: Mapping[str, Any], path: Path = paths.PARAMS) -> None:
    """Give these keys ('head.dropout') these values in a parameter file; comments, order and other values stay.

    A value is a bool, int, float, str, None, or a list or tuple of ints. The file is replaced in one step. Raises
    UserError, and leaves the file as it is, if it lacks a key or cannot be read or written.
    """
    yaml = _round_trip()
    document = _parsed(yaml, _read(path), path)
    changed = False
    for name, new in values.items():
        section, _, key = name.partition(".")
        content = document.get(section) if isinstance(document, dict) else None
        if not isinstance(content, dict) or key not in content:
            raise UserError(f"{path}: key '{name}' is missing")
        value = list(new) if isinstance(new, tuple) else new
        if repr(_plain(content[key])) == repr(value):  # 1, 1.0 and True differ
            continue
        changed = True
        if isinstance(value, list) and isinstance(content[key], list):
            _replace_list(content, key, value)
        else:
            content[key] = value
    if changed:
        stream = StringIO()
        yaml.dump(document, stream)
        _replace(path, stream.getvalue())


def uncommitted(names: Iterable[str], path: Path = paths.PARAMS) -> dict[str, tuple[Any, Any]]:
    """Of these keys, those with another value than in git's last commit: name -> (committed, now); None if missing.

    Empty without git or a commit that has the file. Raises UserError if the file cannot be read.
    """
    committed = _committed(path)
    if committed is None:
        return {}
    now = _parsed(_safe(), _read(path), path)
    pairs = {name: (_value(committed, name), _value(now, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def refuse(edits: Mapping[str, tuple[Any, Any]], path: Path = paths.PARAMS) -> None:
    """Raise UserError if there are edits: name -> (what is kept elsewhere, now)."""
    if edits:
        changes = ", ".join(f"{name} ({written(before)}, now {written(now)})" for name, (before, now) in edits.items())
        raise UserError(f"{path} has edits that no commit holds: {changes}. Commit them, or add --force")


def written(value: Any) -> str:
    """A value as a person writes it into a parameter file: '[256, 128]', 'true', 'null', '1e-05', 'imagenet'."""
    return value if isinstance(value, str) else json.dumps(value)


def _safe() -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True)


def _round_trip() -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import RoundTripRepresenter

    class Representer(RoundTripRepresenter):  # one of our own: representers are added to the class
        pass

    Representer.add_representer(type(None), _represent_none)
    Representer.add_representer(float, _represent_float)
    yaml = YAML()
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = 4096  # no line is wrapped
    return yaml


def _represent_none(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _represent_float(representer: Any, value: float) -> Any:
    text = repr(value)
    # 1e-05 is a string to readers of YAML 1.1.
    return representer.represent_scalar("tag:yaml.org,2002:float", text if "." in text else text.replace("e", ".0e"))


def _replace_list(content: Any, key: str, value: list[int]) -> None:
    """Replace the items of a list; a comment behind its last item, and the lines after it, follow the new last one."""
    items = content[key]
    after = items.ca.items.pop(len(items) - 1, None)
    items[:] = value
    if not value:
        items.fa.set_flow_style()  # []
    if after and value:
        items.ca.items[len(value) - 1] = after
    elif after:
        content.ca.items[key] = [None, None, after[0], None]


def _plain(value: Any) -> Any:
    """A value of a round-trip document as a plain Python one."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _value(document: Any, name: str) -> Any:
    section, _, entry = name.partition(".")
    content = document.get(section) if isinstance(document, dict) else None
    return content.get(entry) if isinstance(content, dict) else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _parsed(yaml: Any, text: str, path: Path) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        return yaml.load(text)
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def _replace(path: Path, text: str) -> None:
    target = path.resolve()  # a link stays one
    temporary = None
    try:
        with (
            target.open("r+b"),  # raises an error if the file is read-only
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
    """The content of the file in git's last commit; None if that is not known."""
    git, target = shutil.which("git"), path.resolve()
    if not git:
        return None
    command = [git, "show", f"HEAD:./{target.name}"]
    try:
        done = subprocess.run(command, cwd=target.parent, capture_output=True, check=False, timeout=60)
        return _parsed(_safe(), done.stdout.decode("utf-8"), path) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError, UserError):
        return None
