"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101).

TensorFlow's fused kernel passes over each variable once. The results are those of Keras's AdamW, which makes about
fifteen passes; with a head of three layers these took most of a step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flowers.model import backend

BETAS, EPSILON = {"beta1": 0.9, "beta2": 0.999}, 1e-7  # Keras's


class AdamW:
    """Updates `variables`, TensorFlow's by `<layer>/<variable>`; `state` holds the optimizer's own variables."""

    def __init__(self, variables: Mapping[str, Any], weight_decay: float) -> None:
        """Weight decay applies to kernels only."""
        tf = backend.tensorflow()
        self._variables, self._weight_decay, self._steps = dict(variables), weight_decay, tf.Variable(0.0)
        self._first, self._second = (
            {name: tf.Variable(tf.zeros_like(variable)) for name, variable in variables.items()} for _ in range(2)
        )
        self.state: list[Any] = [self._steps, *self._first.values(), *self._second.values()]

    def apply(self, gradients: Sequence[Any], rate: Any) -> None:
        """Take a step at learning rate `rate`, a float32 scalar; gradients are in the order of the variables."""
        tf = backend.tensorflow()
        steps = self._steps.assign_add(1, read_value=True)
        decay = rate * self._weight_decay
        # Made once for all variables: TensorFlow takes longer to build the graph than to train a small head.
        shared = {name: tf.constant(value) for name, value in BETAS.items()} | {"epsilon": tf.constant(EPSILON)}
        shared |= {f"{name}_power": tf.pow(value, steps) for name, value in BETAS.items()}
        for (name, variable), gradient in zip(self._variables.items(), gradients, strict=True):
            if name.endswith("/kernel"):
                variable.assign_sub(variable * decay)
            first, second = self._first[name].handle, self._second[name].handle
            tf.raw_ops.ResourceApplyAdam(var=variable.handle, m=first, v=second, lr=rate, grad=gradient, **shared)
