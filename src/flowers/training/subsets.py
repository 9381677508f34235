"""The photos of a split as the network's stages see them: files, labels, and items of the activation store."""

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


@dataclass(frozen=True)
class Subset:
    """Subset in the order of their paths: `table` has all that split and image list say, `labels` are (n,) int32."""

    table: pd.DataFrame
    labels: np.ndarray
    classes: list[str]

    def __len__(self) -> int:
        return len(self.table)

    def first(self, count: int) -> "Subset":
        """So many of the photos, or all where there are fewer."""
        return Subset(self.table.iloc[:count], self.labels[:count], self.classes)

    def plain(self, size: int = INPUT_SIZE) -> list[Item]:
        """The plain view of every photo, `size` pixels on each side."""
        return [Item(paths.IMAGES / row["path"], row["sha256"], images.View(size=size)) for row in self._rows()]

    def looks(self, mirror: bool, size: int = INPUT_SIZE) -> list[Item]:
        """The plain view of every photo, then, if it is asked for, the mirror image of every one."""
        plain = self.plain(size)
        return plain + [replace(item, view=images.View(flip=True, size=size)) for item in plain if mirror]

    def augmented(self, params: AugmentationParams, size: int = INPUT_SIZE) -> list[list[Item]]:
        """For every photo its plain view and its random ones."""
        views = [[images.View(), *_views(row, params)] for row in self._rows()]
        return [
            [replace(item, view=replace(view, size=size)) for view in of_photo]
            for item, of_photo in zip(self.plain(), views, strict=True)
        ]

    def _rows(self) -> list[dict[str, str]]:
        return [{str(key): value for key, value in row.items()} for row in self.table.to_dict("records")]


def read(*subsets: str) -> Subset:
    """The photos of these subsets (train, val, test); classes are those of the whole split, in alphabetical order.

    Raises UserError where the outputs of the download or the split stage are missing or do not belong together, or none
    of their photos is in these subsets.
    """
    split, listed = _table(paths.SPLIT), _table(paths.IMAGE_LIST)
    if odd := sorted({*split["path"]} ^ {*listed["path"]}):
        raise UserError(f"{paths.SPLIT} is not a split of the photos in {paths.IMAGE_LIST} ({odd[0]}); run `dvc repro`")
    table = split.merge(listed.drop(columns=["label", "subset"], errors="ignore"), on="path", validate="one_to_one")
    classes = sorted(table["label"].unique())
    table = table[table["subset"].isin(subsets)].sort_values("path", ignore_index=True)
    if table.empty:
        raise UserError(f"{paths.SPLIT}: no photos in {' and '.join(subsets)}")
    numbers = {label: number for number, label in enumerate(classes)}
    return Subset(table, table["label"].map(numbers).to_numpy(np.int32), classes)


def _views(row: dict[str, str], params: AugmentationParams) -> list[images.View]:
    width, height = int(row["width"]), int(row["height"])
    return images.random_views(row["sha256"], width, height, params.views, params.seed, params.min_area, params.flip)


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro`") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a table any more ({error}); run `dvc repro`") from None
