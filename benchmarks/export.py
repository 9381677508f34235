"""Every format of `flowers export` for the model of a trained checkout: size, speed, agreement, and what int8 loses.

    cd CHECKOUT && python PATH/benchmarks/export.py "Five classes, balanced" [--formats onnx-int8,litert-int8]

An export that is there already, of the same model, is not written again: its proof on the validation images holds the
figures. In int8 the test images are read as well, once for each format. The figures go to
benchmarks/results/export.json, and the table of all models to the section of docs/exports.md.
"""

import argparse
import datetime
import json
import re
from typing import Any, get_args

import scratch

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config import params
from flowers.model import weights
from flowers.serving import models
from flowers.serving.export import formats, proof, run
from flowers.serving.export.names import Name
from flowers.training import subsets

RESULT = scratch.ROOT / "benchmarks" / "results" / "export.json"
PAGE = scratch.ROOT / "docs" / "exports.md"
HEADER = (
    "| Format | Size | Images/s | of the model | Other labels | Largest difference | Test, model | Test, export |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|\n"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("title", help="of the model in the table")
    parser.add_argument("--formats", help="names with commas between them, instead of all")
    options = parser.parse_args()
    names = [name for name in get_args(Name) if name in (options.formats or ",".join(get_args(Name))).split(",")]
    model = run.trained(models.load(paths.MODEL), str(paths.MODEL), "openvino")
    digest = weights.digest({**model.pretrained, **model.trained})
    for name in names:
        row = {"model": options.title, "format": name, **measured(name, digest)}
        if formats.FORMATS[name].precision == "int8" and not name.startswith("web") and "refused" not in row:
            test = subsets.read("test")
            exported = models.load(run.EXPORTS / name)
            found = proof.compare(model, exported, test.plain(model.size), test.labels)
            row["test"] = {"images": found.validation, "before": found.right_before, "after": found.right_after}
        row |= {"machine": scratch.machine(), "date": str(datetime.date.today())}
        print(json.dumps(row), flush=True)
        rows = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
        rows = [old for old in rows if (old["model"], old["format"]) != (row["model"], name)] + [row]
        RESULT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    write_page(json.loads(RESULT.read_text(encoding="utf-8")))


def measured(name: Name, digest: str) -> dict[str, Any]:
    """The proof of an export, which is written unless it is there; or why it was refused."""
    file = run.EXPORTS / name / run.PROOF
    if not file.exists():
        try:
            run.export(name, None, str(paths.MODEL), params.load)
        except UserError as error:
            return {"refused": str(error)}
    content = json.loads(file.read_text(encoding="utf-8"))
    if content["origin"]["model_digest"] != digest:
        raise SystemExit(f"{file.parent} is of another model; remove it")
    return {"bytes": content["bytes"], **content["proof"]}


def write_page(rows: list[dict[str, Any]]) -> None:
    """Put the tables into the page, between its two marks."""
    parts = []
    for title in dict.fromkeys(row["model"] for row in rows):
        own = sorted(
            (row for row in rows if row["model"] == title), key=lambda row: get_args(Name).index(row["format"])
        )
        images = next((row["validation"] for row in own if "validation" in row), 0)
        parts.append(f"**{title}** ({images} validation images):\n\n{HEADER}{''.join(map(_line, own))}")
    text = PAGE.read_text(encoding="utf-8")
    start, end = "<!-- benchmarks/export.py writes what follows -->\n", "<!-- to here -->"
    text = re.sub(f"{start}.*{end}", lambda _: f"{start}\n{chr(10).join(parts)}\n{end}", text, flags=re.DOTALL)
    PAGE.write_text(text, encoding="utf-8")


def _line(row: dict[str, Any]) -> str:
    if "refused" in row:
        return f"| `{row['format']}` | refused: {row['refused'].partition(' as ')[2]} | | | | | | |\n"
    model, export = row["speed"] or ("", "")
    test = row.get("test")
    scores = [console.percent(test[key] / test["images"]) for key in ("before", "after")] if test else ["", ""]
    cells = [
        f"`{row['format']}`",
        f"{row['bytes'] / 1e6:.1f} MB",
        f"{export:.1f}" if export else "",
        f"{model:.1f}" if model else "",
        f"{row['changed']} of {row['compared']}",
        f"{row['difference']:.1e}",
        *scores,
    ]
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    main()
