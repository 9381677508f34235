"""The model as MLflow serves it: encoded photos in, label and probability out. MLflow runs this file by itself.

It is stored as code, not pickled, next to a copy of the `flowers` package (see flowers.tracking.model).
"""

import base64
import binascii
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
import pandas as pd

_BATCH = 64  # photos decoded at a time: 10 MB


class FlowerClassifier(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Names the flower on each photo."""

    def load_context(self, context: Any) -> None:
        """Read the trained model and the weights, once."""
        from flowers.network import classifier

        self._classifier = classifier.load(Path(context.artifacts["model"]), Path(context.artifacts["weights"]))

    # The hint is the usual case; with a wider one MLflow warns that it cannot infer the signature, which is explicit.
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """The most probable class of each photo and its probability, in the order of the input.

        `model_input` has a column `image`, or is a list or an array, of encoded photos (JPEG, PNG, ...): bytes, or
        text in base64, as JSON has them. Raises MlflowException (a bad request) naming the row of an unreadable one.
        """
        photos = model_input["image"] if isinstance(model_input, pd.DataFrame | dict) else model_input
        found = [self._classifier.probabilities(batch) for batch in _batches(list(photos))]
        if not found:
            return pd.DataFrame({"label": pd.Series(dtype=str), "probability": pd.Series(dtype=float)})
        probabilities = np.concatenate(found)
        labels = [self._classifier.classes[index] for index in probabilities.argmax(axis=1)]
        return pd.DataFrame({"label": labels, "probability": probabilities.max(axis=1).astype(float)})


def _batches(photos: Sequence[Any]) -> Iterator[np.ndarray]:
    for start in range(0, len(photos), _BATCH):
        yield np.stack([_pixels(row, photos[row]) for row in range(start, min(start + _BATCH, len(photos)))])


def _pixels(row: int, photo: Any) -> np.ndarray:
    """One photo as the network sees it: uint8, (224, 224, 3)."""
    from flowers import images

    try:
        return images.load(_encoded(photo))
    except (images.UnreadableImage, ValueError, TypeError) as error:
        raise mlflow.MlflowException.invalid_parameter_value(f"image in row {row}: {error}") from None


def _encoded(photo: Any) -> bytes:
    if isinstance(photo, np.ndarray):  # a row of an array with one column
        photo = photo.item()
    if isinstance(photo, str):
        try:
            return base64.b64decode(photo, validate=True)
        except binascii.Error:
            raise ValueError("text that is not base64") from None
    if isinstance(photo, bytes | bytearray | memoryview):
        return bytes(photo)
    raise TypeError(f"bytes of an encoded photo, or base64 text, are wanted, not {type(photo).__name__}")


mlflow.models.set_model(FlowerClassifier())
