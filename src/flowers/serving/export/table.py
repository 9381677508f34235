"""The table of a proof, as Markdown that also reads well on a terminal."""

from flowers.common import console
from flowers.serving.export.proof import Proof


def markdown(title: str, found: Proof, size: int) -> str:
    """The figures of the model and of the export side by side; `size` is in bytes."""
    speeds = [f"{value:.1f}" for value in found.speed] if found.speed else ["too few images", "too few images"]
    rows = [
        (f"{found.validation:,} validation images", "model, float32", title),
        ("right", *(console.percent(right / found.validation) for right in (found.right_before, found.right_after))),
        (f"other labels, of {found.compared:,}", "", f"{found.changed:,}"),
        ("largest difference of a probability", "", f"{found.difference:.1e}"),
        ("images/s", *speeds),
        ("size", "", f"{size / 1e6:.1f} MB"),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        _line(
            [f"{row[0]:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    rule = _line(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join([lines[0], rule, *lines[1:]])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
