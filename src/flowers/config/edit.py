"""Write values into params.yaml, keeping its comments and order, and find the edits that no git commit holds."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config import params

if TYPE_CHECKING:
    from ruamel.yaml import YAML


def write(values: Mapping[str, Any], path: Path = paths.PARAMS) -> None:
    """Set keys such as 'head.dropout' in a file; all else stays, except comments inside a list that changes.

    A value is a bool, int, float, str, None, or a list or tuple of ints. The file is replaced in one step. Raises
    UserError, and leaves the file as it is, if it lacks a key or cannot be read or written.
    """
    yaml = _round_trip()
    document = params.read(path, yaml)
    changed = False
    for name, value in values.items():
        section, _, key = name.partition(".")
        if key not in _section(document, section):
            raise UserError(f"{path}: key '{name}' is missing")
        new = list(value) if isinstance(value, tuple) else value
        if json.dumps(document[section][key]) != json.dumps(new):  # 1, 1.0 and true differ
            _set(document[section], key, new)
            changed = True
    if changed:
        stream = StringIO()
        yaml.dump(document, stream)
        newline = "\r\n" if b"\r\n" in path.read_bytes() else "\n"
        _replace(path, stream.getvalue().replace("\n", newline))


def uncommitted(names: Iterable[str], path: Path = paths.PARAMS) -> dict[str, tuple[Any, Any]]:
    """Of these keys, those whose value differs from git's last commit: name -> (committed, now); None if missing.

    Empty without git or a commit that has the file. Raises UserError if the file cannot be read.
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
        changes = console.listed([f"{name} ({written(old)}, now {written(now)})" for name, (old, now) in edits.items()])
        raise UserError(f"{path} has edits that no commit holds: {changes}. Commit them, or add --force")


def written(value: Any) -> str:
    """A value as text for a person or a shell: '[256, 128]', 'true', 'null', '1e-05', 'imagenet'."""
    return value if isinstance(value, str) else json.dumps(value)


def _round_trip() -> "YAML":
    """Reader and writer that keep comments, order and quotes, and write null and floats for every reader of YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.representer import RoundTripRepresenter

    class Representer(RoundTripRepresenter):  # a subclass, because representers are added to the class
        pass

    def represent_none(representer: Any, _: None) -> Any:
        return representer.represent_scalar("tag:yaml.org,2002:null", "null")

    def represent_float(representer: Any, value: float) -> Any:
        text = repr(value)  # readers of YAML 1.1 take 1e-05 for a string
        text = text if "." in text else text.replace("e", ".0e")
        return representer.represent_scalar("tag:yaml.org,2002:float", text)

    Representer.add_representer(type(None), represent_none)
    Representer.add_representer(float, represent_float)
    yaml = YAML()
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = 4096  # no line is wrapped
    return yaml


def _set(section: Any, key: str, value: Any) -> None:
    """Replace a value of a ruamel mapping; a list is in block style, because `dvc exp run -S` breaks other lists.

    ruamel keeps the comment and the blank lines after a value with the last item of a list in block style, and else
    with the key; they move along.
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
        if beside := of_keys.get(key):  # a comment on the line of the key
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
    """The content of the file in git's last commit; None if there is none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    target = path.resolve()
    command = ["git", "show", f"HEAD:./{target.name}"]
    try:
        done = subprocess.run(command, cwd=target.parent, capture_output=True, check=False, timeout=60)
        return YAML(typ="safe").load(done.stdout.decode("utf-8")) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError, YAMLError):
        return None
