"""Split the images into train, val and test: by the data set's official split, or stratified by a keyed hash.

Duplicates and near-duplicates form a group, which stays in one subset. A keyed hash of the pixels, not of the file
name, ranks the groups of a class, and the ranking is cut at the fractions of params.yaml. Adding an image therefore
moves at most the groups at the cuts. A group with several labels has no single ranking: its hash, read as a number from
0 to 1, determines the subset of all its images.
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
COPIES = 4  # images named of a group of duplicates in a warning; split.json lists all

_COLUMNS = ["path", "label", "pixels", "phash", "mirrored_phash", "subset"]


class Image(NamedTuple):
    """An image: file, class, SHA-256 of its pixels, official subset or "", and the name of its group of duplicates."""

    path: str
    label: str
    pixels: str
    subset: str
    group: str


def run(split: SplitParams) -> None:
    """Read build/images.csv, write build/split.csv (path, label, subset; by path) and build/split.json.

    Raises UserError if the image list is missing or malformed, if `split.method` asks for an official split that the
    data set lacks, and if a class is too small to be split.
    """
    images = _read()
    shares = {"train": split.train, "val": split.val, "test": split.test}
    method = _method(images, split.method)
    subset_of = deal(images, shares, split.seed) if method == "random" else _official(images, shares, split.seed)
    _check_train(images, subset_of)
    report = _report(images, subset_of, method)
    _warn(report)
    paths.SPLIT.parent.mkdir(parents=True, exist_ok=True)
    rows = [(image.path, image.label, subset_of[image.path]) for image in images]
    pd.DataFrame(rows, columns=["path", "label", "subset"]).to_csv(paths.SPLIT, index=False, lineterminator="\n")
    text = json.dumps(report, indent=2, ensure_ascii=False)
    paths.SPLIT_REPORT.write_text(text + "\n", encoding="utf-8", newline="\n")
    totals = ", ".join(f"{count} {subset}" for subset, count in report["totals"].items())
    console.say(f"split: {len(images)} images of {len(report['classes'])} classes, {method}: {totals}")


def deal(images: Sequence[Image], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Assign images to the subsets named in `shares`, class by class; returns each path's subset.

    `shares` gives the fraction of each subset, in order; they need not add up to 1. Raises UserError naming the class
    that has fewer different images than there are subsets.
    """
    bounds = [round(total / sum(shares.values()), 12) for total in itertools.accumulate(shares.values())]
    subsets = list(shares)
    labels: dict[str, set[str]] = {}
    for image in images:
        labels.setdefault(image.group, set()).add(image.label)
    subset_of: dict[str, str] = {
        group: subsets[min(bisect_right(bounds, _rank(group, seed)), len(subsets) - 1)]
        for group, of_group in labels.items()
        if len(of_group) > 1
    }
    for label in sorted({image.label for image in images}):
        sizes = Counter(image.group for image in images if image.label == label)
        fixed = Counter(dict.fromkeys(subsets, 0))
        for group in sizes.keys() & subset_of.keys():
            fixed[subset_of[group]] += sizes[group]
        free = sorted(sizes.keys() - subset_of.keys(), key=lambda group: (_rank(group, seed), group))
        cuts = _cuts(label, [sizes[group] for group in free], dict(zip(subsets, bounds, strict=True)), fixed)
        for subset, (start, stop) in zip(subsets, itertools.pairwise(cuts), strict=True):
            subset_of.update(dict.fromkeys(free[start:stop], subset))
    return {image.path: subset_of[image.group] for image in images}


def _cuts(label: str, sizes: Sequence[int], bounds: Mapping[str, float], fixed: Mapping[str, int]) -> list[int]:
    """Where to cut a class's ranked groups: len(bounds) + 1 positions between groups, from 0 to len(sizes).

    `sizes` are the numbers of images of the groups, `bounds` the fraction of the class up to the end of each subset,
    `fixed` the number of images that each subset already has. A cut is at the position closest to its quota (the
    earlier one if two are equally close).
    """
    files = [0, *itertools.accumulate(sizes)]
    total = files[-1] + sum(fixed.values())
    needs = [int(fixed[subset] == 0) for subset in bounds]  # every subset gets at least one group
    if sum(needs) > len(sizes):
        groups = len(sizes) + sum(count > 0 for count in fixed.values())
        copies = "" if groups >= total else f" ({total - groups} of them copies, which must stay together)"
        raise UserError(
            f"{paths.IMAGE_LIST}: class '{label}' has {total} image{'s' * (total != 1)}{copies} to split into "
            f"{', '.join(bounds)}; at least {len(bounds)} different ones are needed: add images or remove the class"
        )
    cuts = [0]
    taken = 0
    for place, (subset, bound) in enumerate(bounds.items()):
        taken += fixed[subset]
        quota = round(total * bound - taken, 6)
        lowest, highest = cuts[-1] + needs[place], len(sizes) - sum(needs[place + 1 :])
        cuts.append(min(range(lowest, highest + 1), key=lambda cut: abs(files[cut] - quota)))
    return cuts


def _rank(group: str, seed: int) -> float:
    """A group's rank, 0 ... 1, for this seed: the keyed BLAKE2b (RFC 7693) of its name, which is a digest of pixels."""
    digest = hashlib.blake2b(group.encode(), key=str(seed).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _read() -> list[Image]:
    """The image list, sorted by path."""
    source = paths.IMAGE_LIST
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False).fillna("")
    except FileNotFoundError:
        raise UserError(f"{source}: no such file; run the download first: dvc repro download") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{source}: not a readable list ({reason}); recreate it: dvc repro -f download") from None
    for column in _COLUMNS:
        if column not in table.columns:
            raise UserError(f"{source}: column '{column}' is missing; recreate the list: dvc repro -f download")
    for path, label, pixels, phash, mirrored, subset in table[_COLUMNS].itertuples(index=False):
        hashed = re.fullmatch("[0-9a-f]{16} [0-9a-f]{16}", f"{phash} {mirrored}")
        if not label or not pixels or not hashed or subset not in ("", *SUBSETS):
            raise UserError(
                f"{source}: '{path}' needs a label, the digest of its pixels, two hashes of 16 hex digits, and as "
                "subset train, val, test or nothing"
            )
    columns = (table[name].tolist() for name in ("pixels", "phash", "mirrored_phash"))
    table = table.assign(group=near_duplicates.groups(*columns))
    images = sorted(Image(*row) for row in table[list(Image._fields)].itertuples(index=False))
    labels = {image.label for image in images}
    if len(labels) < 2:
        found = f"one class, '{labels.pop()}'" if labels else "no images"
        raise UserError(f"{source} lists {found}; at least two classes are needed, each a folder of images")
    return images


def _method(images: Sequence[Image], wanted: str) -> str:
    """The method of split.json; `auto` is official if every image has an official subset."""
    with_subset = sum(image.subset != "" for image in images)
    complete = with_subset == len(images)
    if wanted == "official" and not complete:
        reason = "this data set has no official split" if not with_subset else "an official split covers every image"
        example = next(image.path for image in images if not image.subset)
        raise UserError(
            f"split.method: {reason}; {len(images) - with_subset} of {len(images)} have no subset in "
            f"{paths.IMAGE_LIST} (for example '{example}'): use method: random, or auto"
        )
    if wanted == "auto" and with_subset and not complete:
        console.warn(f"only {with_subset} of {len(images)} images have an official subset: the split is random")
    if wanted == "random" or not complete:
        return "random"
    return "official" if any(image.subset == "val" for image in images) else "official, val out of train"


def _official(images: Sequence[Image], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The official subsets. If there is no val, val / (train + val) of train becomes val, as in a random split."""
    present = {image.subset for image in images}
    for subset in ("train", "test"):
        if subset not in present:
            raise UserError(f"split.method: the official split has no {subset} images; use method: random")
    subset_of = {image.path: image.subset for image in images}
    if "val" not in present:
        train = [image for image in images if image.subset == "train"]
        subset_of |= deal(train, {"train": shares["train"], "val": shares["val"]}, seed)
    return subset_of


def _check_train(images: Sequence[Image], subset_of: Mapping[str, str]) -> None:
    """Raise UserError if a class has no training image; warn if it has none in val or test."""
    missing = {subset: {image.label for image in images} for subset in SUBSETS}
    for image in images:
        missing[subset_of[image.path]].discard(image.label)
    if missing["train"]:
        raise UserError(
            f"the official split has no image of class '{min(missing['train'])}' in train: add some, remove the class, "
            "or set split.method to random"
        )
    for subset in ("val", "test"):
        if missing[subset]:
            listed = console.listed(sorted(missing[subset]), "; ", where=paths.SPLIT_REPORT)
            console.warn(f"the official split has no image in {subset} of: {listed}")


def _report(images: Sequence[Image], subset_of: Mapping[str, str], method: str) -> dict[str, Any]:
    """The content of split.json, in a fixed order."""
    counts = Counter((image.label, subset_of[image.path]) for image in images)
    labels = {image.path: image.label for image in images}
    pixels = {image.path: image.pixels for image in images}
    groups = {image.path: image.group for image in images}
    equal = [files for files in near_duplicates.gathered(labels, pixels).values() if len(files) > 1]
    alike = [files for files in near_duplicates.gathered(labels, groups).values() if len({*map(pixels.get, files)}) > 1]
    return {
        "method": method,
        "photos": len(images),
        "totals": {subset: sum(counts[key] for key in counts if key[1] == subset) for subset in SUBSETS},
        "classes": {
            label: {subset: counts[label, subset] for subset in SUBSETS} for label in sorted({*labels.values()})
        },
        "duplicates": near_duplicates.report(equal, subset_of, labels),
        "near_duplicates": near_duplicates.report(alike, subset_of, labels),
    }


def _warn(report: Mapping[str, Any]) -> None:
    """Warn of duplicates that may distort the scores."""
    for kind, sign in (("duplicates", " = "), ("near_duplicates", " ~ ")):
        for place, words in (
            ("across_subsets", "across subsets of the official split, not moved"),
            ("under_several_labels", "with several labels"),
        ):
            groups = report[kind][place]["list"]
            if groups:
                files = ([f"{file} ({key})" for key in group for file in group[key]] for group in groups)
                listed = [console.listed(names, sign, COPIES, paths.SPLIT_REPORT) for names in files]
                named = f"{len(groups)} group{'s' * (len(groups) != 1)} of {kind.replace('_', '-')}"
                console.warn(f"{named} {words}: {console.listed(listed, '; ', where=paths.SPLIT_REPORT)}")
