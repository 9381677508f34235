"""What a result answered on its test photos, and what it was made of."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from flowers.common.errors import UserError
from flowers.config.params import DECIDE_NO_RESULT


@dataclass(frozen=True)
class Answers:
    """A result: `name` as it was asked for, `place` where it was found, and its predictions.

    `params` are flat (head.dropout: 0.2); `inputs` say what else went in (code, split, packages, ...) by a short name.
    """

    name: str
    place: str
    params: Mapping[str, str]
    inputs: Mapping[str, str]
    table: pd.DataFrame

    @cached_property
    def classes(self) -> list[str]:
        """The classes it tells apart, in the order of its probabilities."""
        return [name[2:-1] for name in self.table.columns if name.startswith("p(")]

    @cached_property
    def labels(self) -> np.ndarray:
        """The true class numbers, (n,)."""
        numbers = {label: number for number, label in enumerate(self.classes)}
        return self.table["label"].map(numbers).to_numpy(np.int64)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Probabilities (n, c), float64."""
        return self.table[[f"p({name})" for name in self.classes]].to_numpy(np.float64)

    @property
    def predicted(self) -> np.ndarray:
        """The predicted class numbers, (n,)."""
        found: np.ndarray = self.probabilities.argmax(axis=1)
        return found

    def photos(self) -> list[tuple[str, str]]:
        """What it was tested on: the hash and the class of every photo, in the order of the table."""
        return list(zip(self.table["sha256"], self.table["label"], strict=True))


def read(content: bytes, name: str) -> pd.DataFrame:
    """predictions.csv as a table in the order of the photos' hashes, classes and paths. Raises UserError."""
    try:
        words = ("path", "sha256", "label", "predicted")
        table = pd.read_csv(io.BytesIO(content), keep_default_na=False, dtype=dict.fromkeys(words, str))
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"'{name}': its predictions cannot be read ({' '.join(str(error).split())})") from None
    if "label" in table and "sha256" not in table:
        raise UserError(f"'{name}': its predictions do not say which photos they are of; evaluate it again: dvc repro")
    columns = [column for column in table.columns if column.startswith("p(")]
    odd = {*table.get("label", ())} - {column[2:-1] for column in columns}
    if not {"path", "label", "sha256"} <= {*table.columns} or not len(table) or odd:
        raise UserError(f"'{name}': its predictions are not those that evaluate writes")
    if not all(pd.api.types.is_numeric_dtype(table[column]) for column in columns):
        raise UserError(f"'{name}': its predictions hold something else than numbers")
    return table.sort_values(["sha256", "label", "path"], ignore_index=True)


def flat(document: Mapping[str, Any]) -> dict[str, str]:
    """Sections of parameters as one level, values as params.yaml writes them; those that decide a result."""
    return {
        f"{section}.{name}": value if isinstance(value, str) else json.dumps(value)
        for section, values in document.items()
        if section not in DECIDE_NO_RESULT and isinstance(values, Mapping)
        for name, value in values.items()
    }
