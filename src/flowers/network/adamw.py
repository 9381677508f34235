"""AdamW (Loshchilov and Hutter, arXiv 1711.05101) by TensorFlow's own kernel of Adam, one pass over each variable.

The numbers are those of Keras's AdamW, which makes some fifteen passes: with a head of three layers that was most of a
step.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flowers.network import backend

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # Keras's


class AdamW:
    """The optimizer of `variables`, TensorFlow variables by `<layer>/<variable>`; kernels decay, and nothing else."""

    def __init__(self, variables: Mapping[str, Any], learning_rate: float, weight_decay: float) -> None:
        tf = backend.tensorflow()
        self._variables = dict(variables)
        self._rate, self._decay = learning_rate, weight_decay
        self._steps = tf.Variable(0.0)
        self._moments = {
            name: (tf.Variable(tf.zeros_like(variable)), tf.Variable(tf.zeros_like(variable)))
            for name, variable in self._variables.items()
        }

    @property
    def state(self) -> list[Any]:
        """The variables of the optimizer itself."""
        return [self._steps, *(moment for both in self._moments.values() for moment in both)]

    def apply(self, gradients: Sequence[Any]) -> None:
        """Take a step, inside a `tf.function`; gradients come in the order of the variables."""
        tf = backend.tensorflow()
        self._steps.assign_add(1)
        powers = tf.pow(BETA_1, self._steps), tf.pow(BETA_2, self._steps)
        for (name, variable), gradient in zip(self._variables.items(), gradients, strict=True):
            if name.endswith("/kernel"):
                variable.assign_sub(variable * (self._rate * self._decay))
            first, second = self._moments[name]
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=self._rate,
                beta1=BETA_1,
                beta2=BETA_2,
                epsilon=EPSILON,
                grad=gradient,
            )
