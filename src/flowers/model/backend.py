"""TensorFlow and Keras, imported where they are needed (it takes seconds) and set up before they are."""

import atexit
import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any


def tensorflow() -> Any:
    """TensorFlow with oneDNN's kernels, which it leaves off on some processors though they are twice as fast there."""
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # neither the processor's features nor the lack of a GPU is news
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if "tensorflow" not in sys.modules:
        with _quiet(), _without_collector():
            import tensorflow

            tensorflow.constant(0)  # the first operation has a say about the processor, too
            tensorflow.config.experimental.enable_tensor_float_32_execution(False)  # float32 is float32 on a GPU, too
    return sys.modules["tensorflow"]


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """No search for garbage in here, nor at the end among what stays: either would take a second and find none."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        atexit.register(gc.freeze)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what C++ writes to standard error nowhere: TensorFlow 2.21 greets there whatever its log level."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def keras() -> Any:
    """Keras on TensorFlow."""
    tensorflow()
    import keras

    return keras


def version() -> str:
    """TensorFlow's version, without the seconds that importing it takes."""
    try:
        return metadata.version("tensorflow-cpu")
    except metadata.PackageNotFoundError:
        return metadata.version("tensorflow")


def device() -> str:
    """`gpu` where TensorFlow finds one, else `cpu`; of the CPU's build that is known without importing it."""
    try:
        metadata.version("tensorflow-cpu")
    except metadata.PackageNotFoundError:
        return "gpu" if tensorflow().config.list_physical_devices("GPU") else "cpu"
    return "cpu"


def make_deterministic(seed: int) -> None:
    """Make everything random or unordered in TensorFlow and Keras the same from one process to the next."""
    keras().utils.set_random_seed(seed)
    tensorflow().config.experimental.enable_op_determinism()
