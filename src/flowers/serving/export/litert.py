"""LiteRT, formerly TensorFlow Lite: one `.tflite` file for phones and small machines, an image at a time."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowers.common import extras
from flowers.model import backend
from flowers.serving.export import description, runtime
from flowers.serving.export.network import Network
from flowers.serving.export.seal import seal

FILE = "model.tflite"
CALIBRATION = 100  # training images that give the ranges of the activations, each of which takes up to a second


def require() -> None:
    """Raise UserError where a package is missing."""
    extras.require("This export", "ai_edge_litert")


def write(network: Network, folder: Path) -> None:
    """Write `model.tflite` in float32."""
    _save(_converted(network), network, folder)


def write_float16(network: Network, folder: Path) -> None:
    """Write `model.tflite` with its weights in float16; they are float32 again while it computes."""
    tf = backend.tensorflow()
    made = _converted(network, optimizations=[tf.lite.Optimize.DEFAULT], target_spec={"supported_types": [tf.float16]})
    _save(made, network, folder)


def write_int8(network: Network, folder: Path) -> None:
    """Write `model.tflite` in int8, with parts that stay float32 (see `in_float`).

    The converter first finds the ranges of the activations, and then puts 8 bits where they are allowed.
    """
    tf, images = backend.tensorflow(), network.calibration(CALIBRATION)
    calibrated = _converted(
        network,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image[None]] for image in images),
        _experimental_calibrate_only=True,
    )
    from tensorflow.lite.python import convert

    with backend.quiet():
        made = convert.mlir_quantize(calibrated, denylisted_nodes=in_float(calibrated), fully_quantize=False)
    _save(made, network, folder, calibrated_on=len(images))


def in_float(content: bytes) -> list[str]:
    """The names of what stays float32: conv1 and all before it, conv2, and the pooling and all after it.

    LiteRT corrects no biases. With conv2 in float32, which takes 0.6 MB more, a third fewer labels change.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    kinds = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]
    names = [graph.tensors[operator.outputs[0]].name.decode() for operator in graph.operators]
    first = kinds.index(schema.BuiltinOperator.CONV_2D)
    pooling = kinds.index(schema.BuiltinOperator.MEAN)
    conv2 = [name for name in names[first:pooling] if "/conv2_" in name]
    return [*names[: first + 1], *conv2, *names[pooling:]]


def _converted(network: Network, **settings: Any) -> bytes:
    """The network for LiteRT; `settings` are those of TensorFlow's converter."""
    tf, size = backend.tensorflow(), network.about.size
    one = tf.TensorSpec((1, size, size, 3), tf.uint8, name="image")  # fixed, so that nothing is planned anew in use
    with backend.quiet(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        network.model.export(file, format="litert", verbose=False, input_signature=[one], **settings)
        return file.read_bytes()


def _save(made: bytes, network: Network, folder: Path, **changes: object) -> None:
    file = folder / FILE
    file.write_bytes(_with_description(made, network.described("tensorflow", "keras", **changes).text))
    seal(file)


def _with_description(content: bytes, text: str) -> bytes:
    """The model with the description in its metadata."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(text.encode("ascii"), np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = description.KEY.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class LiteRtFile(runtime.Exported):
    """A LiteRT file in its interpreter, with XNNPACK on all cores."""

    batch = 1

    def __init__(self, file: Path) -> None:
        """Raises UserError if it is damaged, anything else than an export, or the runtime is missing."""
        extras.require("This model", "ai_edge_litert")
        self._interpreter, about = runtime.opened(file, "LiteRT", lambda: _read(file))
        super().__init__(about)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def _infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._interpreter.set_tensor(self._input, images)
        self._interpreter.invoke()
        found: NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        return found


def _read(file: Path) -> tuple[Any, bytes | None]:
    from ai_edge_litert import interpreter
    from ai_edge_litert import schema_py_generated as schema

    content = file.read_bytes()
    model, text = schema.Model.GetRootAs(content), None
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() == description.KEY.encode():
            text = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with backend.quiet():
        found = interpreter.Interpreter(model_content=content, num_threads=cores)
        found.allocate_tensors()
    return found, text
