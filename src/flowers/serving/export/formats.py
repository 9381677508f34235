"""The formats of `flowers export`, and how a file of one of them is opened again."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flowers.common.errors import UserError
from flowers.serving.export import keras_file, litert, onnx_file, openvino, saved_model, web_page
from flowers.serving.export.names import Name
from flowers.serving.export.network import Network
from flowers.serving.export.runtime import Exported


@dataclass(frozen=True)
class Format:
    """One format in one precision, float32, float16 or int8, which decides what it may lose (`proof.DIFFERENCE`)."""

    title: str  # in tables
    precision: str
    require: Callable[[], None]  # raises UserError where a package is missing
    write: Callable[[Network, Path], None]  # into a folder
    instead: Name | None = None  # what loses less


FORMATS: dict[Name, Format] = {
    "keras": Format("Keras", "float32", keras_file.require, keras_file.write),
    "saved_model": Format("SavedModel", "float32", saved_model.require, saved_model.write),
    "onnx": Format("ONNX", "float32", onnx_file.require, onnx_file.write),
    "onnx-int8": Format("ONNX int8", "int8", onnx_file.require_int8, onnx_file.write_int8, "onnx"),
    "litert": Format("LiteRT", "float32", litert.require, litert.write),
    "litert-float16": Format("LiteRT float16", "float16", litert.require, litert.write_float16),
    "litert-int8": Format("LiteRT int8", "int8", litert.require, litert.write_int8, "litert-float16"),
    "openvino": Format("OpenVINO", "float32", openvino.require, openvino.write),
    "openvino-int8": Format("OpenVINO int8", "int8", openvino.require_int8, openvino.write_int8, "openvino"),
    "web": Format("LiteRT int8", "int8", web_page.require, web_page.write, "web-float16"),
    "web-float16": Format("LiteRT float16", "float16", web_page.require, web_page.write_float16),
}

# What opens a file, by the end of its name.
_OPENERS: dict[str, Callable[[Path], Exported]] = {
    ".keras": keras_file.KerasFile,
    "saved_model.pb": saved_model.SavedModel,
    ".onnx": onnx_file.OnnxFile,
    ".tflite": litert.LiteRtFile,
    ".xml": openvino.OpenVinoFile,
}


def find(folder: Path) -> Path | None:
    """The file of the exported network in a folder, or None. Raises UserError where there are several."""
    found = sorted(path for path in folder.iterdir() if _opener(path)) if folder.is_dir() else []
    if len(found) > 1:
        raise UserError(f"{folder} holds several networks ({', '.join(path.name for path in found)}); name one of them")
    return found[0] if found else None


def files(file: Path) -> list[Path]:
    """The file of an exported network, and those without which it cannot be opened."""
    if file.suffix == ".xml":
        return [file, file.with_suffix(".bin")]
    if file.suffix == ".pb":
        return sorted(path for path in file.parent.rglob("*") if path.is_file())
    return [file]


def load(file: Path) -> Exported:
    """The network in a file that `flowers export` wrote. Raises UserError for any other file."""
    opener = _opener(file)
    if opener is None:
        raise UserError(f"{file}: not a network: the name of one ends in {', '.join(_OPENERS)}")
    return opener(file)


def _opener(file: Path) -> Callable[[Path], Exported] | None:
    return next((opener for ending, opener in _OPENERS.items() if file.name.endswith(ending)), None)
