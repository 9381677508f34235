"""The images of a split: files, labels, and items of the activation cache."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.architecture import INPUT_SIZE
from flowers.config.params import AugmentationParams
from flowers.data import images
from flowers.training.activation_cache import Item

_SUBSETS = ("train", "val", "test")


@dataclass(frozen=True)
class Subset:
    """Images ordered by path: `table` has the columns of split and image list, `labels` are (n,) int32."""

    table: pd.DataFrame
    labels: np.ndarray
    classes: list[str]

    def __len__(self) -> int:
        return len(self.table)

    def first(self, count: int) -> "Subset":
        """The first `count` images, or all if there are fewer."""
        return self.at(slice(count))

    def at(self, rows: np.ndarray | slice) -> "Subset":
        """The images of these rows."""
        return Subset(self.table.iloc[rows], self.labels[rows], self.classes)

    def plain(self, size: int = INPUT_SIZE) -> list[Item]:
        """The plain view of every image, `size` pixels on each side."""
        return [Item(paths.IMAGES / row["path"], row["sha256"], images.View(size=size)) for row in self._rows()]

    def with_flips(self, mirror: bool, size: int = INPUT_SIZE) -> list[Item]:
        """The plain view of every image, followed with `mirror` by the mirror image of every one (test-time flips)."""
        plain = self.plain(size)
        return plain + [replace(item, view=images.View(flip=True, size=size)) for item in plain if mirror]

    def augmented(self, params: AugmentationParams, size: int = INPUT_SIZE) -> list[list[Item]]:
        """For every image its plain view and `params.views` random ones."""
        found = []
        drawn = (params.views, params.seed, params.min_area, params.flip)
        for item, row in zip(self.plain(), self._rows(), strict=True):
            random = images.random_views(item.sha256, int(row["width"]), int(row["height"]), *drawn)
            found.append([replace(item, view=replace(view, size=size)) for view in [images.PLAIN, *random]])
        return found

    def _rows(self) -> list[dict[str, str]]:
        return [{str(key): value for key, value in row.items()} for row in self.table.to_dict("records")]


def read(*subsets: str) -> Subset:
    """The images of these subsets (train, val, test); classes are those of the whole split, in alphabetical order.

    Raises UserError if the outputs of the download or split stage are missing or inconsistent, or if the subsets have
    no images.
    """
    split = _table(paths.SPLIT, "path", "label", "subset")
    listed = _table(paths.IMAGE_LIST, "path", "label", "sha256", "width", "height")
    if odd := sorted({*split["path"]} ^ {*listed["path"]}):
        raise UserError(f"{paths.SPLIT} is not a split of the images in {paths.IMAGE_LIST} ({odd[0]}); run `dvc repro`")
    listed = listed.drop(columns="subset", errors="ignore")
    table = split.merge(listed, on="path", validate="one_to_one", suffixes=("", "_listed"))
    right = (table["label"] == table.pop("label_listed")) & table["subset"].isin(_SUBSETS)
    if not right.all():
        raise UserError(f"{paths.SPLIT}: damaged at '{table['path'][~right].iloc[0]}'; run `dvc repro`")
    classes = sorted(table["label"].unique())
    table = table[table["subset"].isin(subsets)].sort_values("path", ignore_index=True)
    if table.empty:
        raise UserError(f"{paths.SPLIT}: no images in {' and '.join(subsets)}")
    numbers = {label: number for number, label in enumerate(classes)}
    return Subset(table, table["label"].map(numbers).to_numpy(np.int32), classes)


def _table(path: Path, *columns: str) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro`") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable table ({error}); run `dvc repro`") from None
    if lost := [name for name in columns if name not in table]:
        raise UserError(f"{path}: column '{lost[0]}' is missing; run `dvc repro`")
    return table
