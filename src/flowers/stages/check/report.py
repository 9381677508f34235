"""What a check says: a summary for the terminal, and a page with the pictures."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import pandas as pd

from flowers.reporting.document import Card, Document, Frame, Frames, Gallery, Part, Section
from flowers.stages.check.findings import Findings

Thumbnail = Callable[[str, str], bytes | None]  # of a photo's path and hash

FIRST = 10  # on the terminal
SHOWN = 60  # labels in doubt, and groups of a kind, on the page: 20 kB each

_SUBSETS = ("train", "val", "test")


def table(found: Findings) -> pd.DataFrame:
    """What build/doubtful.csv holds."""
    return found.doubtful[["path", "label", "subset", "p_label", "suggested", "p_suggested"]]


def summary(found: Findings) -> Document:
    """The numbers, and the first labels in doubt and near-duplicates."""
    groups = _Groups(found)
    sections = []
    if len(found.doubtful):
        lines = [
            f"{row['path']}: {row['label']} {_percent(row['p_label'])}, "
            f"rather {row['suggested']} {_percent(row['p_suggested'])}"
            for row in _rows(found.doubtful.head(FIRST))
        ]
        sections.append(_list("Labels in doubt", lines, len(found.doubtful)))
    for title, kind in (
        ("The same picture on several sides", groups.across),
        ("The same picture under several labels", groups.several_labels),
    ):
        if kind:
            lines = [" ~ ".join(f"{row['path']} ({row['subset']})" for row in _rows(group)) for group in kind[:FIRST]]
            sections.append(_list(title, lines, len(kind)))
    return Document("Check of the photos", _lead(found, groups), sections)


def page(found: Findings, thumbnail: Thumbnail) -> Document:
    """All of it with pictures."""
    groups = _Groups(found)
    sections = [
        _doubtful(found, thumbnail),
        _same(
            "The same picture on several sides",
            "What the model learned from one it is asked about with another, so a score on such photos says little. "
            "An official split is left as it is; a drawn one keeps them on one side.",
            groups.across,
            thumbnail,
        ),
        _same(
            "The same picture under several labels",
            "One of the labels is wrong, or the picture shows both.",
            groups.several_labels,
            thumbnail,
        ),
        _same(
            "The same picture several times on one side",
            "Harmless for the scores; such a picture only counts several times.",
            groups.harmless,
            thumbnail,
        ),
    ]
    return Document("Check of the photos", _lead(found, groups), sections)


class _Groups:
    """The groups of photos that show the same picture, by what is wrong with them."""

    def __init__(self, found: Findings) -> None:
        groups = found.groups()
        self.across = [group for group in groups if group["subset"].nunique() > 1]
        self.several_labels = [group for group in groups if group["label"].nunique() > 1]
        self.harmless = [group for group in groups if group["subset"].nunique() == group["label"].nunique() == 1]


def _lead(found: Findings, groups: _Groups) -> list[str]:
    count, tested = len(found.photos), int((found.photos["subset"] == "test").sum())
    left_out = tested and found.judged <= count - tested
    lines = [
        f"{count:,} photos of {found.photos['label'].nunique()} classes. {found.judged:,} were judged by models that "
        f"had not seen them: {len(found.doubtful):,} labels are in doubt."
        + (f" The {tested:,} test photos were not asked about (--test)." if left_out else ""),
        f"Pictures that several photos show: {len(groups.across)} on more than one side of the split, "
        f"{len(groups.several_labels)} under several labels, {len(groups.harmless)} on one side under one label.",
    ]
    if found.unjudged:
        few = ", ".join(found.unjudged[:FIRST]) + (", ..." if len(found.unjudged) > FIRST else "")
        lines.append(f"Classes with too few photos to judge a label of theirs: {few}.")
    return lines


def _doubtful(found: Findings, thumbnail: Thumbnail) -> Section:
    title = _titled("Labels in doubt", len(found.doubtful), SHOWN)
    if found.doubtful.empty:
        return Section(title, ["None: nowhere are the models of the other photos sure of another class."])
    typical = {label: (row["path"], row["sha256"]) for label, row in found.typical.iterrows()}
    pictures: dict[tuple[str, str], bytes | None] = {}

    def card(place: tuple[str, str], lines: Sequence[str], tone: str = "") -> Card:
        if place not in pictures:
            pictures[place] = thumbnail(*place)
        return Card(pictures[place], lines, tone)

    frames = []
    for row in _rows(found.doubtful.head(SHOWN)):
        cards = [card((row["path"], row["sha256"]), ["the photo", f"labelled {row['label']}"], "bad")]
        for kind, share in ((row["label"], row["p_label"]), (row["suggested"], row["p_suggested"])):
            if kind in typical:
                cards.append(card(typical[kind], [f"a typical {kind}", f"probability {_percent(share)}"]))
        frames.append(
            Frame([f"{row['label']}, or rather {row['suggested']}?", f"{row['subset']}: {row['path']}"], cards)
        )
    return Section(
        title,
        [
            "Each photo beside a typical one of its label and one of the class that the models see in it, the least "
            "probable label first. Not each of them is wrong: look, and move a photo to another folder where it is.",
            Frames(frames),
        ],
    )


def _same(title: str, meaning: str, groups: Sequence[pd.DataFrame], thumbnail: Thumbnail) -> Section:
    if not groups:
        return Section(title, ["None."])
    frames = []
    for group in groups[:SHOWN]:
        kind = "equal pixels" if group["pixels"].nunique() == 1 else "alike"
        cards = [
            Card(thumbnail(row["path"], row["sha256"]), [row["label"], row["subset"], row["path"]])
            for row in _rows(group)
        ]
        frames.append(Frame([f"{len(group)} photos, {kind}"], cards))
    parts: list[Part] = [meaning, Frames(frames)]
    return Section(_titled(title, len(groups), SHOWN), parts)


def _list(title: str, lines: Sequence[str], count: int) -> Section:
    return Section(_titled(title, count, FIRST), [Gallery([Card(None, [line]) for line in lines])])


def _titled(title: str, count: int, limit: int) -> str:
    return f"{title} ({count:,}{f', the first {limit}' if count > limit else ''})"


def _rows(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return frame.to_dict("records")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
