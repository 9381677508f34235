"""A trained network in int8 for OpenVINO: converted, quantised on training images, checked on validation images.

NNCF quantises weights (per channel) and activations (per tensor) to 8 bits after the training, as in Jacob et al.,
arXiv 1712.05877, and corrects the biases.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowers.common import ahead, console, paths, sealed
from flowers.common.errors import UserError
from flowers.model import classifier, keras_model, weights
from flowers.serving.openvino import check, exported
from flowers.serving.openvino.exported import DESCRIPTION, NETWORK, Exported
from flowers.serving.stream import Model
from flowers.training import subsets
from flowers.training.activation_cache import Item, pixels

if TYPE_CHECKING:
    import keras

CALIBRATION = 300  # training images that give the ranges of the activations
COMPARED = 300  # images whose predictions are compared, at least, where there are as many


def export(model: Model, name: str, folder: Path) -> None:
    """Write the model, called `name` in messages, to a new folder, in int8 (see `exported.Exported`).

    The images are those of this checkout's split. Raises UserError, and leaves nothing behind, where OpenVINO is not
    installed, the model is an export or has other classes, or the network fails the check (see `check.failure`).
    """
    _nncf()
    if not isinstance(model, classifier.Classifier):
        raise UserError(f"{name}: an exported network already; export the model that it was made from")
    paths.require_empty(folder)
    val, train = subsets.read("val"), subsets.read("train")
    if val.classes != model.classes:
        raise UserError(f"{name}: its classes are not those of the images here, on which it would be checked")
    ordered = spread(train, model.size)
    calibration, rest = ordered[:CALIBRATION], ordered[CALIBRATION:]
    others = [*rest, *calibration][: max(0, COMPARED - len(val))]

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as temporary:
        made = Path(temporary) / "network"
        made.mkdir()
        console.say(f"Quantising {name} on {len(calibration)} training images, which takes a minute")
        description = _write_network(model, calibration, made)
        sealed.write(description, made / DESCRIPTION)
        found, gain = check.compare(model, Exported(made), val.plain(model.size), val.labels, others)
        console.say(f"int8: {found}")
        if model.threshold is None:
            console.warn("the model was trained on the validation images, too: their accuracy is too high")
        if reason := check.failure(found):
            raise UserError(f"not written: in int8 {reason}; `flowers export FILE.keras` loses nothing")
        sealed.write(description | {"checked": asdict(found)}, made / DESCRIPTION)
        size = sum(file.stat().st_size for file in made.iterdir())
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    faster = f", {gain:.1f} times as fast as the original in {model.description.precision}" if gain else ""
    console.say(f"wrote {folder}: {size / 1e6:.0f} MB{faster}")


def spread(chosen: subsets.Subset, size: int) -> list[Item]:
    """The plain views, one of each class in turn, so that each beginning is balanced; within a class by hash."""
    items, turns = chosen.plain(size), np.empty(len(chosen), np.int64)
    seen = [0] * len(chosen.classes)
    for row in sorted(range(len(items)), key=lambda row: items[row].sha256):
        turns[row] = seen[chosen.labels[row]]
        seen[chosen.labels[row]] += 1
    return [items[row] for row in np.lexsort((chosen.labels, turns))]


def converted(model: "keras.Model") -> Any:
    """The `openvino.Model` of a Keras model; BatchNorm is folded into the convolutions on the way."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/{NETWORK}"
        model.export(file, format="openvino", verbose=False)
        core = exported.runtime().Core()
        core.set_property({"ENABLE_MMAP": False})
        return core.read_model(file)


def quantised(network: Any, images: Sequence[np.ndarray]) -> Any:
    """The network with 8-bit weights and activations; these images (size, size, 3) give the activations' ranges.

    The first convolution, which sees the image itself with one scale for its three channels, and the head stay float32:
    in int8 they would cause much of the change of the predictions, and they take little of the time.
    """
    nncf = _nncf()
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    operations = network.get_ordered_ops()
    first = next(op.get_friendly_name() for op in operations if op.get_type_name() == "Convolution")
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws progress bars even where it is no terminal
        return nncf.quantize(
            network,
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=[first, *head_operations(network)]),
            # The default, a mean of the images' own ranges, cuts off the strongest activations.
            advanced_parameters=AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX
            ),
        )


def head_operations(network: Any) -> list[str]:
    """The names of all operations after the pooling, which is the mean over the places of feature maps (rank 4)."""
    found: list[str] = []
    for operation in network.get_ordered_ops():
        sources = [given.get_source_output().get_node() for given in operation.inputs()]
        means = [source for source in sources if source.get_type_name() == "ReduceMean"]
        pooled = any(len(mean.input(0).get_partial_shape()) == 4 for mean in means)
        if pooled or any(source.get_friendly_name() in found for source in sources):
            found.append(operation.get_friendly_name())
    return found


def _write_network(model: classifier.Classifier, calibration: Sequence[Item], folder: Path) -> dict[str, Any]:
    """Write the quantised network; returns its description."""
    whole, description = model.export(), model.description
    network = quantised(converted(whole), list(ahead.computed(pixels, calibration, 64)))
    exported.runtime().save_model(network, folder / NETWORK, compress_to_fp16=False)
    parts = [keras_model.named_variables(layer) for layer in whole.layers if getattr(layer, "layers", None)]
    tensors = {name: np.asarray(variable) for part in parts for name, variable in part.items()}
    kept = ("classes", "temperature", "threshold", "input", "size")
    return {name: getattr(description, name) for name in kept} | {
        "precision": "int8",
        "model_digest": weights.digest(tensors),
        "files": exported.digests(folder),
        "made_with": {package: version(package) for package in ("openvino", "nncf")},
        "calibrated_on": len(calibration),
    }


def _nncf() -> Any:
    exported.runtime()
    try:
        import nncf
    except ImportError:
        raise UserError(f"This export {exported.MISSING}") from None
    nncf.set_log_level(logging.ERROR)
    return nncf
