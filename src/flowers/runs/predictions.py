"""The predictions of a result for its test images, and what the result was made from."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from flowers.common.errors import UserError


@dataclass(frozen=True)
class Predictions:
    """A result: `name` as it was typed, `place` where it was found, and the `table` of its predictions.

    `params` are flat (head.dropout: 0.2); `inputs` are the other inputs (code, split, packages, ...) by a short name.
    The result of a group of trainings has one table per training, of the same images, and `table` is the first one.
    """

    name: str
    place: str
    params: Mapping[str, str]
    inputs: Mapping[str, str]
    table: pd.DataFrame
    group: Sequence[pd.DataFrame] = ()
    commit: str = ""  # that holds the code that made it, if known
    run_id: str = ""  # of the run it was read from, if it was

    @cached_property
    def classes(self) -> list[str]:
        """Class names in the order of the probabilities."""
        return [name[2:-1] for name in self.table.columns if name.startswith("p(")]

    @cached_property
    def labels(self) -> np.ndarray:
        """The true class numbers, (n,)."""
        numbers = {label: number for number, label in enumerate(self.classes)}
        return self.table["label"].map(numbers).to_numpy(np.int64)

    @cached_property
    def trainings(self) -> list[np.ndarray]:
        """The probabilities of each training, (n, c) float64."""
        columns = [f"p({name})" for name in self.classes]
        return [table[columns].to_numpy(np.float64) for table in self.group or [self.table]]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Probabilities (n, c), float64; of a group their mean."""
        return self.trainings[0] if len(self.trainings) == 1 else np.mean(self.trainings, axis=0)

    @cached_property
    def right(self) -> np.ndarray:
        """The share of trainings that have an image right, (n,)."""
        shares: np.ndarray = np.mean([each.argmax(axis=1) == self.labels for each in self.trainings], axis=0)
        return shares

    @cached_property
    def predicted(self) -> np.ndarray:
        """The predicted class numbers, (n,); of a group those of the mean probabilities."""
        found: np.ndarray = self.probabilities.argmax(axis=1)
        return found

    def images(self) -> list[tuple[str, str]]:
        """Hash and class of every test image, in the order of the table."""
        return list(zip(self.table["sha256"], self.table["label"], strict=True))


def read(content: bytes, name: str) -> pd.DataFrame:
    """Parse predictions.csv; rows are sorted by the images' hashes, classes and paths.

    Raises UserError where the content is damaged or of another form; `name` names the result in the message.
    """
    try:
        words = ("path", "sha256", "label", "predicted")
        table = pd.read_csv(io.BytesIO(content), keep_default_na=False, dtype=dict.fromkeys(words, str))
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"'{name}': its predictions cannot be read ({' '.join(str(error).split())})") from None
    if "label" in table and "sha256" not in table:
        raise UserError(f"'{name}': its predictions have no hashes of the images; evaluate it again: dvc repro")
    columns = [column for column in table.columns if column.startswith("p(")]
    unknown = {*table.get("label", ())} - {column[2:-1] for column in columns}
    if not {"path", "label", "sha256"} <= {*table.columns} or not len(table) or unknown:
        raise UserError(f"'{name}': its predictions are not in the form that evaluate writes")
    if not all(pd.api.types.is_numeric_dtype(table[column]) for column in columns):
        raise UserError(f"'{name}': its predictions contain probabilities that are not numbers")
    probabilities = table[columns].to_numpy(np.float64)
    best = np.array([column[2:-1] for column in columns])[probabilities.argmax(axis=1)]
    if not np.allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-4) or (best != table["predicted"]).any():
        raise UserError(f"'{name}': its predictions are damaged: probabilities and labels contradict each other")
    return table.sort_values(["sha256", "label", "path"], ignore_index=True)
