"""The report of a check: a summary for the terminal, and a page with the images."""

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd

from flowers.common import console
from flowers.reporting import thumbnails
from flowers.reporting.document import Card, Document, Gallery, Part, Section
from flowers.stages.check.findings import Findings

FIRST = 10  # on the terminal
COPIES = 4  # images named of a group of near-duplicates on the terminal
CARDS = 12  # images of a group of near-duplicates on the page
SHOWN = 60  # doubtful labels, and groups of a kind, on the page: 20 kB each

TITLE = "Check of the data"
ACROSS, SEVERAL_LABELS, HARMLESS = (
    "Near-duplicates across subsets",
    "Near-duplicates with different labels",
    "Near-duplicates in one subset with one label",
)


def summary(found: Findings) -> Document:
    """The numbers, and the first doubtful labels and near-duplicates."""
    sections = []
    if len(found.doubtful):
        lines = [
            f"{row['path']}: {row['label']} {_percent(row['p_label'])}, "
            f"suggested {row['suggested']} {_percent(row['p_suggested'])}"
            for row in _rows(found.doubtful.head(FIRST))
        ]
        sections.append(_list("Doubtful labels", lines, len(found.doubtful)))
    groups = _groups(found)
    for title in (ACROSS, SEVERAL_LABELS):
        if kind := groups[title]:
            files = ([f"{row['path']} ({row['subset']})" for row in _rows(group)] for group in kind[:FIRST])
            lines = [console.listed(names, " ~ ", COPIES) for names in files]
            sections.append(_list(title, lines, len(kind)))
    return Document(TITLE, _lead(found, groups), sections)


def page(found: Findings) -> Document:
    """All findings with thumbnails."""
    meanings = {
        ACROSS: "A score on such images is too high, because the model has learned from a copy. An official split is "
        "left as it is; a random one keeps near-duplicates in one subset.",
        SEVERAL_LABELS: "One of the labels is wrong, or the image shows both.",
        HARMLESS: "Harmless for the scores; such an image only counts several times.",
    }
    groups = _groups(found)
    near = [_near_duplicates(title, meaning, groups[title]) for title, meaning in meanings.items()]
    return Document(TITLE, _lead(found, groups), [_doubtful(found), *near])


def _groups(found: Findings) -> dict[str, list[pd.DataFrame]]:
    """The groups of near-duplicates by kind; one may be both across subsets and with different labels."""
    several = found.images[found.images.duplicated("picture", keep=False)]
    groups = [group for _, group in several.groupby("picture", sort=False)]
    return {
        ACROSS: [group for group in groups if group["subset"].nunique() > 1],
        SEVERAL_LABELS: [group for group in groups if group["label"].nunique() > 1],
        HARMLESS: [group for group in groups if group["subset"].nunique() == group["label"].nunique() == 1],
    }


def _lead(found: Findings, groups: dict[str, list[pd.DataFrame]]) -> list[str]:
    count, tested = len(found.images), int((found.images["subset"] == "test").sum())
    left_out = tested and found.judged <= count - tested
    lines = [
        f"{count:,} images of {found.images['label'].nunique()} classes. {found.judged:,} labels were checked by "
        f"models of the other images: {len(found.doubtful):,} are doubtful."
        + (f" The {tested:,} test images were not checked (--test)." if left_out else ""),
        f"Groups of near-duplicates: {len(groups[ACROSS])} across subsets, {len(groups[SEVERAL_LABELS])} with "
        f"different labels, {len(groups[HARMLESS])} in one subset with one label.",
    ]
    if found.unjudged:
        lines.append(f"Classes with too few images to check their labels: {console.listed(found.unjudged)}.")
    return lines


def _doubtful(found: Findings) -> Section:
    title = _titled("Doubtful labels", len(found.doubtful), SHOWN)
    if found.doubtful.empty:
        return Section(title, ["None."])
    typical = {label: thumbnails.of(row["path"], row["sha256"]) for label, row in found.typical.iterrows()}
    parts: list[Part] = [
        "Each image beside a typical one of its label and one of the suggested class, the least probable label first. "
        "Some of these labels are right. Move an image with a wrong label to the folder of its class.",
    ]
    for row in _rows(found.doubtful.head(SHOWN)):
        lines = [f"labelled {row['label']}", row["path"], row["subset"]]
        cards = [Card(thumbnails.of(row["path"], row["sha256"]), lines, "bad")]
        for kind, share in ((row["label"], row["p_label"]), (row["suggested"], row["p_suggested"])):
            if kind in typical:
                cards.append(Card(typical[kind], [f"a typical {kind}", f"probability {_percent(share)}"]))
        parts.append(Gallery(cards, f"{row['label']} or {row['suggested']}?"))
    return Section(title, parts)


def _near_duplicates(title: str, meaning: str, groups: Sequence[pd.DataFrame]) -> Section:
    if not groups:
        return Section(title, ["None."])
    parts: list[Part] = [meaning]
    for group in groups[:SHOWN]:
        kind = "equal pixels" if group["pixels"].nunique() == 1 else "similar"
        cards = [
            Card(thumbnails.of(row["path"], row["sha256"]), [row["label"], row["subset"], row["path"]])
            for row in _rows(group.head(CARDS))
        ]
        more = f", the first {CARDS} shown" if len(group) > CARDS else ""
        parts.append(Gallery(cards, f"{len(group):,} images, {kind}{more}"))
    return Section(_titled(title, len(groups), SHOWN), parts)


def _list(title: str, lines: Sequence[str], count: int) -> Section:
    return Section(_titled(title, count, FIRST), [Gallery([Card(None, [line]) for line in lines])])


def _titled(title: str, count: int, limit: int) -> str:
    return f"{title} ({count:,}{f', the first {limit}' if count > limit else ''})"


def _rows(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return frame.to_dict("records")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
