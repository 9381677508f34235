"""The optimizers, by TensorFlow's own kernels, which pass over each variable once.

The numbers are those of Keras's AdamW and SGD; Keras's AdamW makes some fifteen passes, which with a head of three
layers was most of a step.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from flowers.network import backend

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # Keras's
MOMENTUM = 0.9


class Optimizer(ABC):
    """What moves `variables`, TensorFlow's by `<layer>/<variable>`; `state` are the variables of its own."""

    def __init__(self, variables: Mapping[str, Any], weight_decay: float, rates: Mapping[str, float]) -> None:
        """Kernels decay, and nothing else. `rates` are factors of the learning rate, 1 where none is given."""
        self._variables, self._weight_decay, self._rates = dict(variables), weight_decay, rates
        self.state: list[Any] = []

    def apply(self, gradients: Sequence[Any], rate: Any) -> None:
        """Take a step at a learning rate, a float32 scalar, inside a `tf.function`.

        Gradients come in the order of the variables.
        """
        for (name, variable), gradient in zip(self._variables.items(), gradients, strict=True):
            own = rate * self._rates.get(name, 1.0)
            if name.endswith("/kernel"):
                variable.assign_sub(variable * (own * self._weight_decay))
            self._move(name, variable, gradient, own)

    @abstractmethod
    def _move(self, name: str, variable: Any, gradient: Any, rate: Any) -> None: ...

    def _zeros(self) -> dict[str, Any]:
        """A variable beside each one, which is part of the state."""
        tf = backend.tensorflow()
        made = {name: tf.Variable(tf.zeros_like(variable)) for name, variable in self._variables.items()}
        self.state += made.values()
        return made


class AdamW(Optimizer):
    """Adam with weight decay beside the gradient (Loshchilov and Hutter, arXiv 1711.05101)."""

    def __init__(self, variables: Mapping[str, Any], weight_decay: float, rates: Mapping[str, float]) -> None:
        """As every optimizer."""
        super().__init__(variables, weight_decay, rates)
        self._steps = backend.tensorflow().Variable(0.0)
        self.state.append(self._steps)
        self._first, self._second = self._zeros(), self._zeros()

    def apply(self, gradients: Sequence[Any], rate: Any) -> None:
        """Take a step."""
        self._steps.assign_add(1)
        super().apply(gradients, rate)

    def _move(self, name: str, variable: Any, gradient: Any, rate: Any) -> None:
        tf = backend.tensorflow()
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._first[name].handle,
            v=self._second[name].handle,
            beta1_power=tf.pow(BETA_1, self._steps),
            beta2_power=tf.pow(BETA_2, self._steps),
            lr=rate,
            beta1=BETA_1,
            beta2=BETA_2,
            epsilon=EPSILON,
            grad=gradient,
        )


class SGD(Optimizer):
    """Gradient descent with Nesterov's momentum (Sutskever et al. 2013); kernels decay as in AdamW."""

    def __init__(self, variables: Mapping[str, Any], weight_decay: float, rates: Mapping[str, float]) -> None:
        """As every optimizer."""
        super().__init__(variables, weight_decay, rates)
        self._velocities = self._zeros()

    def _move(self, name: str, variable: Any, gradient: Any, rate: Any) -> None:
        backend.tensorflow().raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self._velocities[name].handle,
            lr=rate,
            grad=gradient,
            momentum=MOMENTUM,
            use_nesterov=True,
        )


OPTIMIZERS: dict[str, type[Optimizer]] = {"adamw": AdamW, "sgd": SGD}
