"""Inference with an exported network: a folder that `flowers export --openvino` wrote, used like any other model."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowers.common import sealed
from flowers.common.errors import UserError
from flowers.config.architecture import INPUT_SIZE
from flowers.serving.stream import BATCH

DESCRIPTION = "model.json"
NETWORK = "network.xml"  # the operations; the weights are in a file beside it
WEIGHTS = "network.bin"

MISSING = "needs OpenVINO and NNCF; type `make extras`, or pip install 'flowers[openvino]'"

# What is not int8 is float32: with bfloat16 the predictions would depend on the processor.
# The weights are read, not mapped: the folder may be moved or removed while the network is in use.
_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "ENABLE_MMAP": False}


class Exported:
    """An exported network: `classes`, `threshold`, `size`, and `probabilities(images)`, from any number of threads."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError where the folder is incomplete, or OpenVINO is missing."""
        self.classes, self.threshold, self.size = _description(folder)
        core = runtime().Core()
        try:
            self._network = core.compile_model(folder / NETWORK, "CPU", _SETTINGS)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            raise UserError(f"{folder}: OpenVINO cannot load this network: {reason}") from None

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated probabilities (n, classes) float32 of RGB images (n, size, size, 3), computed 32 at a time."""
        found = np.empty((len(images), len(self.classes)), np.float32)
        request = self._network.create_infer_request()  # threads cannot share one, and creating it costs nothing
        for start in range(0, len(images), BATCH):
            request.infer([images[start : start + BATCH]])
            found[start : start + BATCH] = request.get_output_tensor().data
        return found


def is_export(folder: Path) -> bool:
    """Whether this looks like a folder that `flowers export --openvino` wrote."""
    return (folder / NETWORK).exists()


def runtime() -> Any:
    """The module `openvino`; raises UserError where it is not installed."""
    # OpenVINO and NNCF send telemetry through this package.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError:
        raise UserError(f"This model {MISSING}") from None
    return openvino


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of the network's two files."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (NETWORK, WEIGHTS)}


def _description(folder: Path) -> tuple[list[str], float | None, int]:
    """Classes, threshold and input size, once the files are found unchanged."""
    try:
        found = sealed.read(folder / DESCRIPTION)
        unchanged = digests(folder) == found["files"]
        described = found["classes"], found["threshold"], found.get("size", INPUT_SIZE)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"{folder}: not a network that `flowers export --openvino` wrote: {error}") from None
    if not unchanged:
        raise UserError(f"{folder}: {NETWORK} or {WEIGHTS} has changed since it was written; export it again")
    return described
