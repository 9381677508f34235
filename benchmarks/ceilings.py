"""The ceilings of the processor: GFLOP/s of a matrix product and of ResNet50's 3×3 convolutions, by precision."""

import time
from collections.abc import Callable
from typing import Any

GFLOP_PER_IMAGE = 7.7  # of one 224×224 image through ResNet50, a multiplication and an addition counted as two

MATRIX = 2048
CONVOLUTIONS = {"convolution 28×28×128": (28, 128), "convolution 14×14×256": (14, 256)}  # side, channels in and out
BATCH = 32
CALLS = 10  # in one timing


def measure(precisions: list[str], repeats: int) -> dict[str, Any]:
    """GFLOP/s by precision and operation, one figure a repeat; the operations take turns."""
    operations = {precision: _operations(precision) for precision in precisions}
    found: dict[str, Any] = {precision: {name: [] for name in of_one} for precision, of_one in operations.items()}
    for repeat in range(repeats + 1):
        for precision, of_one in operations.items():
            for name, (gflop, run) in of_one.items():
                start = time.perf_counter()
                for _ in range(CALLS):
                    run().numpy()  # waits for the result
                if repeat:  # the first one warms up
                    found[precision][name].append(CALLS * gflop / (time.perf_counter() - start))
    return found


def _operations(precision: str) -> dict[str, tuple[float, Callable[..., Any]]]:
    from flowers.model import backend

    tf = backend.tensorflow()
    random = tf.random.Generator.from_seed(0)

    def values(*shape: int) -> Any:
        return tf.cast(random.normal(shape), precision)

    # Only one element is returned, so that no copy of the result is timed.
    @tf.function  # type: ignore[untyped-decorator]
    def product(a: Any, b: Any) -> Any:
        return tf.matmul(a, b)[0, 0]

    def convolution(side: int, channels: int) -> Callable[..., Any]:
        images, kernel = values(BATCH, side, side, channels), values(3, 3, channels, channels)

        @tf.function  # type: ignore[untyped-decorator]
        def convolve(x: Any) -> Any:
            return tf.nn.conv2d(x, kernel, 1, "SAME")[0, 0, 0, 0]

        return lambda: convolve(images)

    a, b = values(MATRIX, MATRIX), values(MATRIX, MATRIX)
    found: dict[str, Any] = {f"matrix product {MATRIX}×{MATRIX}": (2 * MATRIX**3 / 1e9, lambda: product(a, b))}
    for name, (side, channels) in CONVOLUTIONS.items():
        gflop = 2 * BATCH * side**2 * 9 * channels**2 / 1e9
        found[name] = (gflop, convolution(side, channels))
    return found
