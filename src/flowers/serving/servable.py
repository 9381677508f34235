"""The model as MLflow serves it: encoded photos in; label, probability and the five best classes out.

MLflow runs this file by itself. It is stored as code, not pickled, next to a copy of the `flowers` package (see
flowers.tracking.model).
"""

import base64
import binascii
import contextlib
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
import pandas as pd


class FlowerClassifier(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Names the flower on each photo."""

    def load_context(self, context: Any) -> None:
        """Read the trained model and the weights, once."""
        from flowers.model import classifier

        self._model = classifier.load(Path(context.artifacts["model"]), Path(context.artifacts["weights"]))

    # The hint is the usual case; with a wider one MLflow warns that it cannot infer the signature, which is explicit.
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row per photo in the order of the input, as `flowers.serving.results.table` describes it.

        `model_input` has a column `image`, or is a list or an array, of encoded photos (JPEG, PNG, ...): bytes, or
        text in base64, as JSON has them. `params`: every_class (also a column p(<class>) of each class), threshold
        (of unsure answers, in the place of the model's own). Raises MlflowException (a bad request) naming the row of
        an unreadable photo.
        """
        from flowers.serving import results, stream

        asked = params or {}
        photos = model_input["image"] if isinstance(model_input, pd.DataFrame | dict) else model_input
        found = [np.empty((0, len(self._model.classes)), np.float32)]
        row = 0
        for batch in stream.batches(self._model, list(photos), _encoded):
            for error in batch.errors:
                if error is not None:
                    raise mlflow.MlflowException.invalid_parameter_value(f"image in row {row}: {error}")
                row += 1
            found.append(batch.probabilities)
        threshold = asked.get("threshold", -1.0)
        return results.table(
            self._model.classes,
            np.concatenate(found),
            self._model.threshold if threshold < 0 else threshold,
            bool(asked.get("every_class", False)),
        )


def _encoded(photo: Any) -> bytes:
    if isinstance(photo, np.ndarray):  # a row of an array with one column
        photo = photo.item()
    if isinstance(photo, bytes | bytearray | memoryview):
        content = bytes(photo)
        if content.isascii():  # hardly a photo: MLflow's server hands base64 on as bytes in some forms of JSON
            with contextlib.suppress(binascii.Error):
                return base64.b64decode(content, validate=True)
        return content
    if isinstance(photo, str):
        try:
            return base64.b64decode(photo, validate=True)
        except binascii.Error:
            raise ValueError("text that is not base64") from None
    raise ValueError(f"bytes of an encoded photo, or base64 text, are wanted, not {type(photo).__name__}")


mlflow.models.set_model(FlowerClassifier())
