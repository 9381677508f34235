"""docs/parameters.md, made from the descriptions in params.py: python -m flowers.config.parameters_page."""

import json
from pathlib import Path
from typing import Any

from flowers.common import paths
from flowers.config import params

PAGE = Path("docs/parameters.md")

_INTRODUCTION = """\
# Parameters

Every parameter is in `params.yaml`; none has a default in the code. An unknown key, a wrong type or a value out of
range is an error that names it. Try a value without editing: `dvc exp run -S head.dropout=0.3`.

This page is made from `src/flowers/config/params.py`: `python -m flowers.config.parameters_page`.
"""

_HEADING = "| Key | Values | Shipped | Meaning |\n|---|---|---|---|\n"


def page(shipped: params.Params) -> str:
    """The page as Markdown: a table per section of params.yaml, with the values that it ships with."""
    schema = params.Params.model_json_schema()
    parts = [_INTRODUCTION]
    for section, reference in schema["properties"].items():
        described = schema["$defs"][reference["$ref"].rpartition("/")[2]]
        values = getattr(shipped, section).model_dump(mode="json", exclude_unset=True)
        parts.append(f"\n## {section}\n\n{described['description']}\n\n{_HEADING}")
        for key, of in described["properties"].items():
            shown = "see the file" if key == "space" else f"`{json.dumps(values[key])}`"
            parts.append(f"| `{section}.{key}` | {_values(of)} | {shown} | {of['description']} |\n")
    return "".join(parts)


def _values(of: dict[str, Any]) -> str:
    """The type of a field and its bounds, from its JSON schema."""
    if "anyOf" in of:
        return " or ".join(_values(option) for option in of["anyOf"])
    if "enum" in of:
        return ", ".join(f"`{choice}`" for choice in of["enum"])
    if of.get("type") == "array":
        return f"list of: {_values(of['items'])}"
    names = {"boolean": "`true`, `false`", "integer": "whole number", "number": "number", "string": "text"}
    words = [names.get(of.get("type", ""), of.get("type", "mapping"))]
    for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")):
        if key in of and of[key] != 2**31:
            words.append(f"{sign} {of[key]:,}")
    if "multipleOf" in of:
        words.append(f"multiple of {of['multipleOf']}")
    return ", ".join(words).replace("object", "mapping")


if __name__ == "__main__":
    PAGE.write_text(page(params.load(paths.PARAMS)), encoding="utf-8")
