"""TensorFlow and Keras, imported on first use (importing takes seconds) and configured before that."""

import atexit
import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any


def tensorflow() -> Any:
    """TensorFlow with oneDNN's kernels, which are off by default on some processors though twice as fast there."""
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides notes on processor features and a missing GPU
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if "tensorflow" not in sys.modules:
        with quiet(), _without_collector():
            import tensorflow

            tensorflow.constant(0)  # the first operation logs processor features too
            tensorflow.config.experimental.enable_tensor_float_32_execution(False)  # else a GPU rounds float32
    return sys.modules["tensorflow"]


def freeze_weights() -> None:
    """Let oneDNN keep its form of every weight for the life of this process; call it before TensorFlow is imported.

    Only for inference: a weight that changes, or an eager convolution, would be computed with another one's values.
    """
    os.environ["TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"] = "1"


def frozen_weights() -> bool:
    """Whether this process has called `freeze_weights`."""
    return os.environ.get("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS") == "1"


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Disable garbage collection during an import and at exit: either takes a second and frees nothing."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        atexit.register(gc.freeze)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what C++ code writes to standard error: TensorFlow 2.21 logs there whatever its log level."""
    sys.stderr.flush()
    stderr = os.dup(2)
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)


def keras() -> Any:
    """Keras on TensorFlow."""
    tensorflow()
    import keras

    return keras


def version() -> str:
    """TensorFlow's version, without importing it."""
    return _cpu_build() or metadata.version("tensorflow")


def device() -> str:
    """`gpu` if TensorFlow finds one, else `cpu`; the CPU build is recognised without importing it."""
    return "gpu" if not _cpu_build() and tensorflow().config.list_physical_devices("GPU") else "cpu"


def _cpu_build() -> str | None:
    return next((found.version for found in metadata.distributions(name="tensorflow-cpu")), None)


def make_deterministic(seed: int) -> None:
    """Seed TensorFlow and Keras and fix the order of their operations, so that processes give equal bits."""
    keras().utils.set_random_seed(seed)
    tensorflow().config.experimental.enable_op_determinism()
