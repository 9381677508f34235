"""ONNX: one file for onnxruntime, on any processor and in the browser."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowers.common import extras
from flowers.model import backend
from flowers.serving.export import description, nncf_int8, runtime
from flowers.serving.export.network import Network
from flowers.serving.export.nncf_int8 import CALIBRATION
from flowers.serving.export.seal import seal

FILE = "model.onnx"
INPUT, OUTPUT = "image", "probabilities"
OPSET = 17


def require() -> None:
    """Raise UserError where a package is missing."""
    extras.require("This export", "onnx", "onnxruntime", "tf2onnx")


def write(network: Network, folder: Path) -> None:
    """Write `model.onnx` in float32."""
    save(converted(network, folder), network.described("tf2onnx", "onnx"), folder)


def require_int8() -> None:
    """Raise UserError where a package is missing."""
    require()
    nncf_int8.require()


def write_int8(network: Network, folder: Path) -> None:
    """Write `model.onnx` in int8; the first convolution and the head stay float32."""
    float32, images = converted(network, folder), network.calibration(CALIBRATION)
    first = next(node.name for node in float32.graph.node if node.op_type == "Conv")
    made = nncf_int8.quantised(float32, images, [first, *head_operations(float32.graph)], INPUT)
    save(made, network.described("tf2onnx", "onnx", "nncf", calibrated_on=len(images)), folder)


def head_operations(graph: Any) -> list[str]:
    """The names of the pooling over the places of feature maps, and of all operations after it."""
    found: list[str] = []
    outputs: set[str] = set()
    for node in graph.node:
        if node.op_type == "GlobalAveragePool" or outputs.intersection(node.input):
            found.append(node.name)
            outputs.update(node.output)
    return found


def converted(network: Network, folder: Path) -> Any:
    """The `onnx.ModelProto` in float32; BatchNorm is folded into the convolutions on the way."""
    import onnx

    size, file = network.about.size, folder / FILE
    network.model(np.zeros((1, size, size, 3), np.uint8))  # Keras exports only what was called
    with backend.quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of NumPy, in what Keras patches in tf2onnx
        network.model.export(file, format="onnx", verbose=False, opset_version=OPSET)
    made = onnx.load(str(file))
    file.unlink()
    _rename(made.graph)
    return made


def save(made: Any, about: description.Description, folder: Path) -> None:
    """Write an `onnx.ModelProto` with its description."""
    import onnx

    made.producer_name, made.domain = "flowers", ""
    onnx.helper.set_model_props(made, {description.KEY: about.text})
    onnx.save(made, str(folder / FILE))
    seal(folder / FILE)


def _rename(graph: Any) -> None:
    """Name the input, the output and the number of images, for which converters find names of their own."""
    names = {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}
    for node in graph.node:
        for part in (node.input, node.output):
            part[:] = [names.get(name, name) for name in part]
    for value in (graph.input[0], graph.output[0]):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    del graph.value_info[:]


class OnnxFile(runtime.Exported):
    """An ONNX file in onnxruntime, on the processor. Custom operations cannot be loaded."""

    def __init__(self, file: Path) -> None:
        """Raises UserError if it is damaged, anything else than an export, or the runtime is missing."""
        extras.require("This model", "onnxruntime")
        self._session, about = runtime.opened(file, "onnxruntime", lambda: _read(file))
        super().__init__(about)

    def _infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: images})[0]
        return found


def _read(file: Path) -> tuple[Any, str | None]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors are raised as well
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return session, session.get_modelmeta().custom_metadata_map.get(description.KEY)
