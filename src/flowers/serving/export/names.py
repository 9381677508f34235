"""The names of the formats on the command line."""

from typing import Literal

Name = Literal[
    "keras",
    "saved_model",
    "onnx",
    "onnx-int8",
    "litert",
    "litert-float16",
    "litert-int8",
    "openvino",
    "openvino-int8",
    "web",
    "web-float16",
]
