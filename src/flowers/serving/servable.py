"""The model as MLflow serves it: encoded images in; label, probability and the five best classes out.

MLflow runs this file, which is stored as code beside a copy of the package (flowers.tracking.model), on its own.
"""

import base64
import binascii
import contextlib
import sys
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
import pandas as pd

# The package as it was when the model was logged; MLflow itself adds the folder, not the archive in it.
_PACKAGE = Path(__file__).parent / "code" / "flowers.zip"
if _PACKAGE.exists():
    sys.path.insert(0, str(_PACKAGE))


class FlowerClassifier(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Names the flower on each image."""

    def load_context(self, context: Any) -> None:
        """Load the trained model and the weights."""
        from flowers.model import classifier
        from flowers.tracking import shared_weights

        weights = shared_weights.resolved(Path(context.artifacts["weights"]))
        self._model = classifier.load(Path(context.artifacts["model"]), weights)

    # The hint is the usual case; with a wider one MLflow warns that it cannot infer the signature, which is explicit.
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row per image, see `flowers.serving.results.table`; `params` are every_class and threshold (< 0: its own).

        `model_input` has a column `image`, or is a list or an array, of encoded images: bytes, or base64 text, as in
        JSON. Raises MlflowException (a bad request) naming the row of an unreadable image.
        """
        from flowers.model import predicted
        from flowers.serving import results, stream

        del context  # MLflow's signature
        given = params or {}
        images = model_input["image"] if isinstance(model_input, pd.DataFrame | dict) else model_input
        found: list[predicted.Predicted] = []
        for batch in stream.batches(self._model, list(images), _encoded):
            for row, error in enumerate(batch.errors, start=sum(map(len, found))):
                if error is not None:
                    raise mlflow.MlflowException.invalid_parameter_value(f"image in row {row}: {error}")
            found.append(batch.predicted)
        threshold = given.get("threshold", -1.0)
        return results.table(
            self._model.classes,
            predicted.joined(found or [predicted.predicted(np.empty((0, len(self._model.classes)), np.float32))]),
            self._model.threshold if threshold < 0 else threshold,
            bool(given.get("every_class", False)),
        )


def _encoded(image: Any) -> bytes:
    if isinstance(image, np.ndarray):  # a row of an array with one column
        image = image.item()
    if isinstance(image, bytes | bytearray | memoryview):
        content = bytes(image)
        if content.isascii():  # not an image: MLflow's server passes base64 on as bytes for some forms of JSON
            with contextlib.suppress(binascii.Error):
                return base64.b64decode(content, validate=True)
        return content
    if isinstance(image, str):
        try:
            return base64.b64decode(image, validate=True)
        except binascii.Error:
            raise ValueError("text that is not base64") from None
    raise ValueError(f"expected the bytes of an encoded image or base64 text, not {type(image).__name__}")


mlflow.models.set_model(FlowerClassifier())
