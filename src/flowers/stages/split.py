"""Deal the photos to train, val and test: by the data set's official split, or stratified by a keyed hash.

A photo's place is decided by what it shows, not by its name or by chance: a keyed hash of its picture ranks it within
its class, and the ranking is cut at the fractions of params.yaml. So one photo more moves at most the pictures at the
cuts, and files that show the same picture (equal pixels, or near-duplicates) have the same rank and stay on one side. A
picture that stands under several labels cannot follow several rankings: its hash alone, read as a number from 0 to 1,
decides for all its files.
"""

import hashlib
import itertools
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config.params import SplitParams
from flowers.data import near_duplicates

SUBSETS = ("train", "val", "test")
NAMED = 10  # groups of duplicates that a warning names; split.json has them all

_COLUMNS = ["path", "label", "pixels", "phash", "mirrored_phash", "subset"]


class Photo(NamedTuple):
    """A photo: the file, its class, the SHA-256 of its pixels, its official subset or "", and the picture it shows."""

    path: str
    label: str
    pixels: str
    subset: str
    picture: str


def run(split: SplitParams) -> None:
    """Read build/images.csv, write build/split.csv (path, label, subset; by path) and build/split.json.

    Raises UserError where the image list is missing or malformed, where an official split is wanted and not there, and
    where a class is too small to be split.
    """
    photos = _read()
    shares = {"train": split.train, "val": split.val, "test": split.test}
    method = _method(photos, split.method)
    dealt = deal(photos, shares, split.seed) if method == "random" else _official(photos, shares, split.seed)
    _check_train(photos, dealt)
    report = _report(photos, dealt, method)
    _warn(report)
    paths.SPLIT.parent.mkdir(parents=True, exist_ok=True)
    rows = [(photo.path, photo.label, dealt[photo.path]) for photo in photos]
    pd.DataFrame(rows, columns=["path", "label", "subset"]).to_csv(paths.SPLIT, index=False, lineterminator="\n")
    text = json.dumps(report, indent=2, ensure_ascii=False)
    paths.SPLIT_REPORT.write_text(text + "\n", encoding="utf-8", newline="\n")
    totals = ", ".join(f"{count} {subset}" for subset, count in report["totals"].items())
    console.say(f"split: {len(photos)} photos of {len(report['classes'])} classes, {method}: {totals}")


def deal(photos: Sequence[Photo], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Deal photos to the sides named in `shares`, class by class; returns each path's side.

    `shares` gives each side's part, in order; they need not add up to 1. Raises UserError that names the class which
    has too few different pictures to give every side one.
    """
    bounds = [round(total / sum(shares.values()), 12) for total in itertools.accumulate(shares.values())]
    sides = list(shares)
    side_of: dict[str, str] = {
        picture: sides[min(bisect_right(bounds, _rank(picture, seed)), len(sides) - 1)]
        for picture, labels in _labels(photos).items()
        if len(labels) > 1
    }
    for label in sorted({photo.label for photo in photos}):
        sizes = Counter(photo.picture for photo in photos if photo.label == label)
        fixed = Counter(dict.fromkeys(sides, 0))
        for picture in sizes.keys() & side_of.keys():
            fixed[side_of[picture]] += sizes[picture]
        free = sorted(sizes.keys() - side_of.keys(), key=lambda picture: (_rank(picture, seed), picture))
        cuts = _cuts(label, [sizes[picture] for picture in free], dict(zip(sides, bounds, strict=True)), fixed)
        for side, (start, stop) in zip(sides, itertools.pairwise(cuts), strict=True):
            side_of.update(dict.fromkeys(free[start:stop], side))
    return {photo.path: side_of[photo.picture] for photo in photos}


def _labels(photos: Sequence[Photo]) -> dict[str, set[str]]:
    """The labels under which each picture stands."""
    labels: dict[str, set[str]] = {}
    for photo in photos:
        labels.setdefault(photo.picture, set()).add(photo.label)
    return labels


def _cuts(label: str, sizes: Sequence[int], bounds: Mapping[str, float], fixed: Mapping[str, int]) -> list[int]:
    """Where to cut a class's ranked pictures: len(bounds) + 1 positions between pictures, from 0 to len(sizes).

    `sizes` counts the files of each picture, `bounds` is the share of the class up to the end of each side, `fixed` the
    files each side has already. A cut falls between the two pictures closest to its quota (the earlier one when even).
    """
    files = [0, *itertools.accumulate(sizes)]
    total = files[-1] + sum(fixed.values())
    needs = [int(fixed[side] == 0) for side in bounds]  # every side gets at least one picture
    if sum(needs) > len(sizes):
        pictures = len(sizes) + sum(count > 0 for count in fixed.values())
        copies = "" if pictures >= total else f" ({total - pictures} of them copies that must stay together)"
        raise UserError(
            f"{paths.IMAGE_LIST}: class '{label}' has {total} photo{'s' * (total != 1)}{copies} to deal to "
            f"{', '.join(bounds)}; at least {len(bounds)} different ones are needed: add photos or remove the class"
        )
    cuts = [0]
    taken = 0
    for place, (side, bound) in enumerate(bounds.items()):
        taken += fixed[side]
        quota = round(total * bound - taken, 6)
        lowest, highest = cuts[-1] + needs[place], len(sizes) - sum(needs[place + 1 :])
        cuts.append(min(range(lowest, highest + 1), key=lambda cut: abs(files[cut] - quota)))
    return cuts


def _rank(picture: str, seed: int) -> float:
    """A picture's place from 0 to 1 under this seed: the keyed BLAKE2b (RFC 7693) of its name, a digest of pixels."""
    digest = hashlib.blake2b(picture.encode(), key=str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _read() -> list[Photo]:
    """The image list, sorted by path."""
    source = paths.IMAGE_LIST
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False).fillna("")
    except FileNotFoundError:
        raise UserError(f"{source}: no such file; run the download first: dvc repro download") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{source}: not a readable list ({reason}); make it anew: dvc repro -f download") from None
    for column in _COLUMNS:
        if column not in table.columns:
            raise UserError(f"{source}: column '{column}' is missing; make the list anew: dvc repro -f download")
    for path, label, pixels, phash, mirrored, subset in table[_COLUMNS].itertuples(index=False):
        hashed = re.fullmatch("[0-9a-f]{16} [0-9a-f]{16}", f"{phash} {mirrored}")
        if not label or not pixels or not hashed or subset not in ("", *SUBSETS):
            raise UserError(
                f"{source}: '{path}' needs a label, its pixels' digest, two hashes of 16 hex digits, and as subset "
                "train, val, test or nothing"
            )
    shown = near_duplicates.pictures(
        table["pixels"].tolist(), table["phash"].tolist(), table["mirrored_phash"].tolist()
    )
    table = table.assign(picture=shown)
    photos = sorted(Photo(*row) for row in table[list(Photo._fields)].itertuples(index=False))
    labels = {photo.label for photo in photos}
    if len(labels) < 2:
        found = f"one class, '{labels.pop()}'" if labels else "no photos"
        raise UserError(f"{source} lists {found}; it takes at least two classes, a folder of photos each")
    return photos


def _method(photos: Sequence[Photo], wanted: str) -> str:
    """Official, official without a val of its own, or random; `auto` is official where every photo has a subset."""
    with_subset = sum(photo.subset != "" for photo in photos)
    complete = with_subset == len(photos)
    if wanted == "official" and not complete:
        having = "this data set has no official split" if not with_subset else "an official split covers every photo"
        example = next(photo.path for photo in photos if not photo.subset)
        raise UserError(
            f"split.method: {having}; {len(photos) - with_subset} of {len(photos)} have no subset in "
            f"{paths.IMAGE_LIST} ('{example}' is one): use method: random, or auto"
        )
    if wanted == "auto" and with_subset and not complete:
        console.warn(f"only {with_subset} of {len(photos)} photos have an official subset: all are dealt at random")
    if wanted == "random" or not complete:
        return "random"
    return "official" if any(photo.subset == "val" for photo in photos) else "official, val out of train"


def _official(photos: Sequence[Photo], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The official sides as they are; where there is no val, it is taken out of train, and test is left alone.

    The part taken is val / (train + val) of train, dealt by the same ranking as a random split.
    """
    present = {photo.subset for photo in photos}
    for subset in ("train", "test"):
        if subset not in present:
            raise UserError(f"split.method: the official split has no {subset} photos; use method: random")
    dealt = {photo.path: photo.subset for photo in photos}
    if "val" not in present:
        train = [photo for photo in photos if photo.subset == "train"]
        dealt |= deal(train, {"train": shares["train"], "val": shares["val"]}, seed)
    return dealt


def _check_train(photos: Sequence[Photo], dealt: Mapping[str, str]) -> None:
    """Every class has a photo to learn from; that an official val or test lacks one is only worth a warning."""
    missing = {subset: {photo.label for photo in photos} for subset in SUBSETS}
    for photo in photos:
        missing[dealt[photo.path]].discard(photo.label)
    if missing["train"]:
        raise UserError(
            f"the official split has no photo of class '{min(missing['train'])}' in train: add some, remove the class, "
            "or set split.method to random"
        )
    for subset in ("val", "test"):
        if missing[subset]:
            console.warn(f"the official split has no photo in {subset} of: {_listed(sorted(missing[subset]))}")


def _report(photos: Sequence[Photo], dealt: Mapping[str, str], method: str) -> dict[str, Any]:
    """What split.json says; everything in it is in a fixed order."""
    counts = Counter((photo.label, dealt[photo.path]) for photo in photos)
    labels = {photo.path: photo.label for photo in photos}
    pixels = {photo.path: photo.pixels for photo in photos}
    pictures = {photo.path: photo.picture for photo in photos}
    equal = [group for group in near_duplicates.gathered(labels, pixels).values() if len(group) > 1]
    alike = [
        group for group in near_duplicates.gathered(labels, pictures).values() if len({*map(pixels.get, group)}) > 1
    ]
    return {
        "method": method,
        "photos": len(photos),
        "totals": {subset: sum(counts[key] for key in counts if key[1] == subset) for subset in SUBSETS},
        "classes": {
            label: {subset: counts[label, subset] for subset in SUBSETS}
            for label in sorted({photo.label for photo in photos})
        },
        "duplicates": near_duplicates.report(equal, dealt, labels),
        "near_duplicates": near_duplicates.report(alike, dealt, labels),
    }


def _warn(report: Mapping[str, Any]) -> None:
    """Say on the terminal which duplicates may spoil the scores."""
    for kind, sign, one, many in (
        ("duplicates", " = ", "picture", "pictures"),
        ("near_duplicates", " ~ ", "group of near-duplicates", "groups of near-duplicates"),
    ):
        across, labels = report[kind]["across_subsets"], report[kind]["under_several_labels"]
        if across["groups"]:
            named = [sign.join(file for files in group.values() for file in files) for group in across["list"]]
            counted = f"{across['groups']} {one if across['groups'] == 1 else many}"
            console.warn(f"{counted} on more than one side of the official split, kept as they are: {_listed(named)}")
        if labels["groups"]:
            named = [
                sign.join(f"{file} ({label})" for label, files in group.items() for file in files)
                for group in labels["list"]
            ]
            counted = f"{labels['groups']} {one if labels['groups'] == 1 else many}"
            console.warn(f"{counted} under several labels: {_listed(named)}")


def _listed(names: Sequence[str]) -> str:
    more = f"; and {len(names) - NAMED} more in {paths.SPLIT_REPORT}" if len(names) > NAMED else ""
    return "; ".join(names[:NAMED]) + more
