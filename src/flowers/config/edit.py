"""Put values into params.yaml: theirs are the only bytes that change; and tell what git does not hold yet."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowers.common import paths
from flowers.common.errors import UserError

Edit = tuple[int, int, str]  # from, to, what shall stand there
Node = Any  # ruamel.yaml's, which knows where in the text it stands

_SPACES_BEFORE_COMMENT = re.compile(r" +(?=#)")


def write(values: Mapping[str, Any], path: Path = paths.PARAMS) -> None:
    """Give these keys ('head.dropout') these values in a parameter file; all else stays, byte for byte.

    A value is a bool, int, float, str, None, or a list or tuple of ints. The file is replaced in one step. Raises
    UserError, and leaves the file as it is, if it lacks a key, cannot be read or written, or is written in a way in
    which a value cannot be replaced alone.
    """
    text = _read(path)
    document = _parsed(text, path)
    edits: list[Edit] = []
    for name, (key, node) in _places(text, values, path).items():
        section, _, entry = name.partition(".")
        value = list(values[name]) if isinstance(values[name], tuple) else values[name]
        if repr(value) != repr(_value(document, name)):  # 1, 1.0 and True differ
            document[section] = document[section] | {entry: value}  # a copy: an alias of the section shall not change
            edits += _edits(text, key, node, value)
    if not edits:
        return
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    try:
        right = repr(_parsed(text, path)) == repr(document)
    except UserError:
        right = False
    if not right:
        raise UserError(f"{path}: {', '.join(values)} cannot be replaced as the file is written; edit it by hand")
    _replace(path, text)


def uncommitted(names: Iterable[str], path: Path = paths.PARAMS) -> dict[str, tuple[Any, Any]]:
    """Of these keys, those with another value than in git's last commit: name -> (committed, now); None if missing.

    Empty where there is no git or no commit, or the file is not in it. Raises UserError if the file cannot be read.
    """
    committed = _committed(path)
    if committed is None:
        return {}
    now = _parsed(_read(path), path)
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


def _places(text: str, names: Iterable[str], path: Path) -> dict[str, tuple[Node, Node]]:
    """The nodes of keys and of their values."""
    from ruamel.yaml import YAML

    def entries(node: Node) -> dict[str, tuple[Node, Node]]:
        return {pair[0].value: pair for pair in node.value} if node and node.id == "mapping" else {}

    places = {}
    sections = entries(YAML(typ="safe", pure=True).compose(text))
    for name in names:
        section, _, entry = name.partition(".")
        pair = entries(sections[section][1]).get(entry) if section in sections else None
        if not pair:
            raise UserError(f"{path}: key '{name}' is missing")
        places[name] = pair
    return places


def _edits(text: str, key: Node, node: Node, value: Any) -> Iterator[Edit]:
    """A list is in block form, as DVC wants it (`-S` breaks a flow list that has a comment), unless it is empty."""
    block = node.id == "sequence" and not node.flow_style
    old = node.value if block else []
    new = value if isinstance(value, list) else []
    after_colon = text.index(":", key.end_mark.index) + 1
    start = end = after_colon  # for a block, and for nothing, whose marks lie further on
    if not block and node.start_mark.index != node.end_mark.index:
        start = node.start_mark.index
        end = start + len(text[start : node.end_mark.index].rstrip())
    inline = "" if new else (text[after_colon:start] or " ") + ("[]" if value == [] else _scalar(value))
    yield _beside_comment(text, after_colon, end, inline)

    for item, number in zip(old, new, strict=False):
        yield _beside_comment(text, item.start_mark.index, item.end_mark.index, _scalar(number))
    for item in old[len(new) :]:
        line_before = text[: text.rindex("\n", 0, item.start_mark.index)].removesuffix("\r")
        yield len(line_before), _line_end(text, item.end_mark.index), ""
    indentation = " " * (node if block else key).start_mark.column
    newline = "\r\n" if "\r\n" in text else "\n"
    last = _line_end(text, old[-1].end_mark.index if old else end)
    yield last, last, "".join(f"{newline}{indentation}- {_scalar(number)}" for number in new[len(old) :])


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text[:end].removesuffix("\r")) if end >= 0 else len(text)


def _beside_comment(text: str, start: int, end: int, new: str) -> Edit:
    """Replace a value on a line; a comment behind it keeps its column if there is room."""
    spaces = _SPACES_BEFORE_COMMENT.match(text, end)
    if not spaces:
        return start, end, new
    room = spaces.end() - start - len(new)
    return start, spaces.end(), new + " " * (room if room >= 1 else 2)


def _scalar(value: bool | int | float | str | None) -> str:
    from io import StringIO

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 1_000_000  # one line
    stream = StringIO()
    yaml.dump({"k": value}, stream)
    text = stream.getvalue().removeprefix("k: ").removesuffix("\n")
    if isinstance(value, float) and "." not in text:
        return text.replace("e", ".0e")  # 1e-05 is a string to YAML 1.1
    return text


def _value(document: Any, name: str) -> Any:
    section, _, entry = name.partition(".")
    content = document.get(section) if isinstance(document, dict) else None
    return content.get(entry) if isinstance(content, dict) else None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")  # line ends as they are
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _parsed(text: str, path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


def _replace(path: Path, text: str) -> None:
    target = path.resolve()  # a link stays one
    temporary = None
    try:
        with (
            target.open("r+b"),  # a file that is read-only is meant to be
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
    """What the file holds in git's last commit; None if that cannot be told."""
    git, target = shutil.which("git"), path.resolve()
    if not git:
        return None
    command = [git, "show", f"HEAD:./{target.name}"]
    try:
        done = subprocess.run(command, cwd=target.parent, capture_output=True, check=False, timeout=60)
        return _parsed(done.stdout.decode("utf-8"), path) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError, UserError):
        return None
