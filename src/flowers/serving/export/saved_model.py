"""TensorFlow's SavedModel: a folder, answered by TensorFlow itself."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowers.common.errors import UserError
from flowers.model import backend
from flowers.serving.export import description, runtime, seal
from flowers.serving.export.network import Network

FILE = "saved_model.pb"
_ABOUT = Path("assets.extra") / "flowers.json"  # TensorFlow's place for what users add

# The operations that an exported network consists of. A SavedModel is a program: others read and write files.
_OPERATIONS = {
    *("AddV2", "BiasAdd", "Cast", "ConcatV2", "Const", "Conv2D", "GatherV2", "Identity", "Less", "MatMul", "MaxPool"),
    *("Maximum", "Mean", "Mul", "NoOp", "Pack", "Pad", "Placeholder", "RealDiv", "Relu", "Reshape", "Rsqrt", "Select"),
    *("SelectV2", "Shape", "Softmax", "SplitV", "Sqrt", "Squeeze", "StatefulPartitionedCall", "StridedSlice", "Sub"),
    # Its variables, and where it restores them from.
    *("AssignVariableOp", "DisableCopyOnRead", "MergeV2Checkpoints", "ReadVariableOp", "RestoreV2", "SaveV2"),
    *("ShardedFilename", "StaticRegexFullMatch", "StringJoin", "VarHandleOp", "VarIsInitializedOp"),
}


def require() -> None:
    """Nothing beyond what every installation has."""


def write(network: Network, folder: Path) -> None:
    """Write a SavedModel into the folder, with the description among its extra assets."""
    network.model.export(folder, format="tf_saved_model", verbose=False)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): runtime.digest(path) for path in files}
    about = folder / _ABOUT
    about.parent.mkdir(exist_ok=True)
    about.write_text(network.described("tensorflow", "keras", files=digests).text, encoding="ascii")
    seal.seal(about)


class SavedModel(runtime.Exported):
    """A SavedModel, by its `saved_model.pb`."""

    def __init__(self, file: Path) -> None:
        """Raises UserError if it is damaged, or anything else than an export."""
        folder = file.parent
        if not (folder / _ABOUT).is_file():
            raise UserError(f"{folder}: not a SavedModel that `flowers export` wrote: it has no {_ABOUT}")
        self._function, about = runtime.opened(folder / _ABOUT, "TensorFlow", lambda: _read(folder))
        super().__init__(about)

    def _infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        (found,) = self._function(backend.tensorflow().constant(images)).values()
        return np.asarray(found)


def _read(folder: Path) -> tuple[Any, str]:
    text = (folder / _ABOUT).read_text(encoding="utf-8")
    about = description.read(text)
    for name, digest in about.files.items():
        if runtime.digest(folder / name) != digest:
            raise ValueError(f"it is damaged: {name} has changed since it was written; export it again")
    tf = backend.tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    found = saved_model_pb2.SavedModel.FromString((folder / FILE).read_bytes())
    graphs = [meta.graph_def for meta in found.meta_graphs]
    nodes = [node for graph in graphs for part in (graph, *graph.library.function) for node in _nodes(part)]
    if unknown := sorted({node.op for node in nodes} - _OPERATIONS):
        raise ValueError(f"not a network that `flowers export` wrote: it holds {', '.join(unknown[:5])}")
    loaded = tf.saved_model.load(str(folder))
    function = loaded.signatures["serving_default"]
    function._kept = loaded  # the variables live as long as what was loaded
    return function, text


def _nodes(part: Any) -> Any:
    return part.node if hasattr(part, "node") else part.node_def
