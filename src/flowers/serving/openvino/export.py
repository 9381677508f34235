"""A trained network in int8 for OpenVINO: built, quantised on training photos, checked on validation photos, written.

Post-training quantisation of weights (per channel) and activations (per tensor) to 8 bits, as in Jacob et al.,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (arXiv 1712.05877), by
NNCF, with its correction of the biases.
"""

import contextlib
import io
import json
import logging
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from flowers.common import console
from flowers.common.errors import UserError
from flowers.model import classifier, keras_model, weights
from flowers.serving.openvino import check, exported, graph
from flowers.serving.openvino.exported import DESCRIPTION, NETWORK, Description, Exported
from flowers.serving.stream import Model
from flowers.training import subsets
from flowers.training.activation_cache import Item, pixels

CALIBRATION = 300  # training photos that the ranges of the activations are taken from
COMPARED = 300  # photos, at least, whose answers are compared before and after, where there are as many

# What stays float32. In int8 the first convolution, which sees the photo itself with one scale for its three channels,
# and the head make a large part of what int8 changes in the answers, and take a small part of the time.
_FLOAT_CONVOLUTION = "conv1_conv"


def export(model: Model, name: str, folder: Path) -> None:
    """Write the model that messages call `name` to a new folder, in int8 (see `openvino_model.Exported`).

    The photos are those of this checkout's split. Raises UserError, and leaves nothing behind, where OpenVINO is not
    installed, the model is no trained one or of other classes, or the network fails the check: see
    `openvino_check.refusal`.
    """
    _nncf()
    if not isinstance(model, classifier.Classifier):
        raise UserError(f"{name}: an exported network already; export the model that it was made from")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: name one that does not exist yet, or empty it first")
    val, train = subsets.read("val"), subsets.read("train")
    if val.classes != model.classes:
        raise UserError(f"{name}: a model of other classes than the photos here, which it would be checked on")
    ordered = spread(train, model.size)
    calibration, rest = ordered[:CALIBRATION], ordered[CALIBRATION:]
    others = [*rest, *calibration][: max(0, COMPARED - len(val))]

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as temporary:
        made = Path(temporary) / "network"
        made.mkdir()
        console.say(f"Quantising {name} on {len(calibration)} training photos, which takes a minute")
        description = _write_network(model, calibration, made)
        _write_description(description, made)
        found, speed = check.compare(model, Exported(made), val.plain(model.size), val.labels, others)
        console.say(f"int8: {found}")
        if model.threshold is None:
            console.warn("the model was trained on these photos, too: they say little of how many it gets right")
        if reason := check.refusal(found):
            raise UserError(f"not written: in int8 {reason}; `flowers export FILE.keras` loses nothing")
        _write_description(description | {"checked": asdict(found)}, made)
        size = sum(file.stat().st_size for file in made.iterdir())
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    faster = f", {speed.gain:.1f} times as fast as the original in {model.description.precision}" if speed.gain else ""
    console.say(f"wrote {folder}: {size / 1e6:.0f} MB{faster}")


def spread(chosen: subsets.Subset, size: int) -> list[Item]:
    """The photos' plain views, class by class in turn, so that any beginning of the list holds all classes alike.

    Within a class the order is that of the photos' hashes: as good as random, and the same wherever it is made.
    """
    items, turns = chosen.plain(size), np.empty(len(chosen), np.int64)
    by_hash = sorted(range(len(items)), key=lambda row: items[row].sha256)
    seen = [0] * len(chosen.classes)
    for row in by_hash:
        turns[row] = seen[chosen.labels[row]]
        seen[chosen.labels[row]] += 1
    return [items[row] for row in np.lexsort((chosen.labels, turns))]


def _write_network(model: classifier.Classifier, calibration: Sequence[Item], folder: Path) -> dict[str, Any]:
    """Write the quantised network, and return what is to be said of it."""
    tensors, said = _tensors(model), model.description
    with ThreadPoolExecutor(2) as pool:
        images = list(pool.map(pixels, calibration))
    built = graph.build(
        tensors, said.temperature, said.normalization, said.mirror, said.size, model.feature_layer.conv4
    )
    network = quantised(built, images)
    exported.runtime().save_model(network, folder / NETWORK, compress_to_fp16=False)
    return asdict(
        Description(
            classes=said.classes,
            temperature=said.temperature,
            threshold=said.threshold,
            precision="int8",
            input=said.input,
            model_digest=weights.digest(tensors),
            files=exported.digests(folder),
            made_with={package: version(package) for package in ("openvino", "nncf")},
            calibrated_on=len(calibration),
            checked={},
            size=said.size,
        )
    )


def quantised(network: Any, images: Sequence[np.ndarray]) -> Any:
    """The network with 8-bit weights and activations, whose ranges are those that these images (size, size, 3) give."""
    nncf = _nncf()
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    with contextlib.redirect_stdout(io.StringIO()):  # it draws bars of its own, whoever looks
        return nncf.quantize(
            network,
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=[_FLOAT_CONVOLUTION, *graph.head_operations(network)]),
            # The default, a mean of the photos' own ranges, feature_layers off what the strongest activations say.
            advanced_parameters=AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
        )


def _nncf() -> Any:
    exported.runtime()
    try:
        import nncf
    except ImportError:
        raise UserError(f"This export {exported.MISSING}") from None
    nncf.set_log_level(logging.ERROR)
    return nncf


def _tensors(model: classifier.Classifier) -> dict[str, np.ndarray]:
    """All that the network computes with, ResNet50's tensors and the head's, by `<layer>/<variable>`."""
    whole = model.export()
    parts = [layer for layer in whole.layers if getattr(layer, "layers", None)]
    named = [pair for part in parts for pair in keras_model.named_variables(part).items()]
    return {name: np.asarray(variable) for name, variable in named}


def _write_description(description: dict[str, Any], folder: Path) -> None:
    text = json.dumps(description, indent=2, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
