"""The names of the formats on the command line."""

from typing import Literal

Name = Literal["keras", "saved_model", "onnx", "litert", "litert-float16", "openvino"]
