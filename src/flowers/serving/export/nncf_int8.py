"""Weights (per channel) and activations (per tensor) in 8 bits after the training, by NNCF, for OpenVINO and ONNX.

As in Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(arXiv 1712.05877), with a correction of the biases.
"""

import contextlib
import io
import logging
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowers.common import extras

CALIBRATION = 300  # training images that give the ranges of the activations


def require() -> Any:
    """The module `nncf`; raises UserError where it is not installed."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it sends telemetry
    with extras.needed("This export"):
        import nncf
    nncf.set_log_level(logging.ERROR)
    return nncf


def quantised(
    network: Any, images: Sequence[NDArray[np.uint8]], in_float: Sequence[str], name: str | None = None
) -> Any:
    """The network in int8; the images (size, size, 3) give the ranges of the activations.

    `in_float` are operations that stay float32: the first convolution, which sees the image itself with one scale for
    its three channels, and the head. In int8 they would cause much of the change of the predictions, and they take
    little of the time. `name` is the network's input, where its runtime wants one.
    """
    nncf = require()
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    given = [image[None] if name is None else {name: image[None]} for image in images]
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws progress bars even where it is no terminal
        return nncf.quantize(
            network,
            nncf.Dataset(given),
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=list(in_float)),
            # The default, a mean of the images' own ranges, cuts off the strongest activations.
            advanced_parameters=AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
        )
