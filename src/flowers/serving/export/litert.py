"""LiteRT, formerly TensorFlow Lite: one `.tflite` file for phones and small machines, an image at a time."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowers.model import backend
from flowers.serving.export import description, runtime
from flowers.serving.export.network import Network
from flowers.serving.export.seal import seal

FILE = "model.tflite"


def require() -> None:
    """Raise UserError where a package is missing."""
    runtime.installed("This export", "ai_edge_litert")


def write(network: Network, folder: Path, **settings: Any) -> None:
    """Write `model.tflite`; `settings` are those of TensorFlow's converter."""
    tf, file, size = backend.tensorflow(), folder / FILE, network.about.size
    one = tf.TensorSpec((1, size, size, 3), tf.uint8, name="image")  # fixed, so that nothing is planned anew in use
    with backend.quiet():
        network.model.export(file, format="litert", verbose=False, input_signature=[one], **settings)
    _describe(file, network.described("tensorflow-cpu", "keras").text)
    seal(file)


def write_float16(network: Network, folder: Path) -> None:
    """Write `model.tflite` with its weights in float16; they are float32 again while it computes."""
    tf = backend.tensorflow()
    write(
        network,
        folder,
        optimizations=[tf.lite.Optimize.DEFAULT],
        target_spec={"supported_types": [tf.float16]},
    )


def _describe(file: Path, text: str) -> None:
    """Put the description into the model's metadata."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(file.read_bytes(), 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(text.encode("ascii"), np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = description.KEY.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    file.write_bytes(builder.Output())


class LiteRtFile(runtime.Exported):
    """A LiteRT file in its interpreter, with XNNPACK on all cores."""

    batch = 1

    def __init__(self, file: Path) -> None:
        """Raises UserError if it is damaged, anything else than an export, or the runtime is missing."""
        runtime.installed("This model", "ai_edge_litert")
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
