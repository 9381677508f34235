"""OpenVINO: a network for the processors of Intel and AMD, in float32 or int8."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowers.common import extras
from flowers.serving.export import description, nncf_int8, runtime
from flowers.serving.export.network import Network
from flowers.serving.export.seal import seal

FILE = "model.xml"  # the operations; the weights are in a file beside it
WEIGHTS = "model.bin"

# What is not int8 is float32: with bfloat16 the predictions would depend on the processor.
# The weights are read, not mapped: the folder may be moved or removed while the network is in use.
_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "ENABLE_MMAP": False}


def require() -> None:
    """Raise UserError where OpenVINO is missing."""
    extras.openvino("This export")


def require_int8() -> None:
    """Raise UserError where OpenVINO or NNCF is missing."""
    require()
    nncf_int8.require()


def write(network: Network, folder: Path) -> None:
    """Write `model.xml` and `model.bin` in float32."""
    _save(converted(network.model), network, folder)


def write_int8(network: Network, folder: Path) -> None:
    """Write `model.xml` and `model.bin` in int8; the first convolution and the head stay float32.

    A model that was trained in int8 keeps its own numbers.
    """
    if network.in_int8 is not None:
        _save(_joined(*network.in_int8), network, folder)
        return
    float32, images = converted(network.model), network.calibration(nncf_int8.CALIBRATION)
    operations = float32.get_ordered_ops()
    first = next(op.get_friendly_name() for op in operations if op.get_type_name() == "Convolution")
    made = nncf_int8.quantised(float32, images, [first, *head_operations(float32)])
    _save(made, network, folder, calibrated_on=len(images))


def converted(model: Any) -> Any:
    """The `openvino.Model` of a Keras model; BatchNorm is folded into the convolutions on the way."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/{FILE}"
        model.export(file, format="openvino", verbose=False)
        core = extras.openvino("This export").Core()
        core.set_property({"ENABLE_MMAP": False})
        return core.read_model(file)


def _joined(features: Any, head: Any) -> Any:
    """An `openvino.Model` of features, followed by a Keras model."""
    then = converted(head)
    (given,) = then.get_parameters()
    given.output(0).replace(features.get_results()[0].input_value(0))
    return extras.openvino("This export").Model(then.get_results(), features.get_parameters(), "flowers")


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


def _save(made: Any, network: Network, folder: Path, **changes: object) -> None:
    # The weights first, for their digest; then both files again, with the description.
    save = extras.openvino("This export").save_model
    save(made, folder / FILE, compress_to_fp16=False)
    packages = ("openvino", "nncf") if changes else ("openvino",)
    about = network.described(*packages, files={WEIGHTS: runtime.digest(folder / WEIGHTS)}, **changes)
    made.set_rt_info(about.text, [description.KEY])
    save(made, folder / FILE, compress_to_fp16=False)
    seal(folder / FILE)


class OpenVinoFile(runtime.Exported):
    """An OpenVINO network, by its `.xml`; the `.bin` lies beside it."""

    def __init__(self, file: Path) -> None:
        """Raises UserError if it is damaged, anything else than an export, or the runtime is missing."""
        extras.openvino("This model")
        self._network, about = runtime.opened(file, "OpenVINO", lambda: _read(file))
        super().__init__(about)

    def _infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        request = self._network.create_infer_request()  # creating it costs nothing
        request.infer([images])
        found: NDArray[np.float32] = np.array(request.get_output_tensor().data)
        return found


def _read(file: Path) -> tuple[Any, str]:
    core = extras.openvino("This model").Core()
    core.set_property({"ENABLE_MMAP": False})
    weights = file.with_suffix(".bin")
    network = core.read_model(file, weights)
    text = str(network.get_rt_info([description.KEY]).value) if network.has_rt_info([description.KEY]) else ""
    if runtime.digest(weights) not in description.read(text).files.values():
        raise ValueError(f"it is damaged: {weights.name} has changed since it was written; export it again")
    return core.compile_model(network, "CPU", _SETTINGS), text
