"""The optimizer, compared with Keras's AdamW."""

import numpy as np

from flowers.model import backend
from flowers.training.optimizer import AdamW

SHAPES = {"dense/kernel": (30, 20), "dense/bias": (20,), "norm/gamma": (20,)}
RATES = (0.01, 0.02, 0.005, 0.01, 0.001, 0.01)  # of six steps


def test_steps_are_those_of_keras():
    keras, tf = backend.keras(), backend.tensorflow()
    random = np.random.default_rng(0)
    start = {name: random.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    ours = {name: tf.Variable(values) for name, values in start.items()}
    theirs = [keras.Variable(values, name=name.split("/")[1]) for name, values in start.items()]
    optimizer = AdamW(ours, weight_decay=0.3)
    reference = keras.optimizers.AdamW(0.01, weight_decay=0.3)
    reference.exclude_from_weight_decay(var_names=["bias", "gamma"])
    step = tf.function(optimizer.apply, autograph=False)
    for number, rate in enumerate(RATES):
        gradients = [tf.constant(random.normal(0, 10.0**-number, shape), tf.float32) for shape in SHAPES.values()]
        step(gradients, tf.constant(rate))
        reference.learning_rate = rate
        reference.apply(gradients, theirs)
        for (name, variable), wanted in zip(ours.items(), theirs, strict=True):
            np.testing.assert_allclose(variable.numpy(), np.asarray(wanted), rtol=2e-5, atol=1e-6, err_msg=name)
    assert all(np.abs(variable.numpy() - start[name]).mean() > 0.01 for name, variable in ours.items())


def test_a_restored_state_leads_to_the_same_bits():
    tf = backend.tensorflow()

    def made() -> tuple[dict, AdamW]:
        variables = {name: tf.Variable(tf.ones(shape)) for name, shape in SHAPES.items()}
        return variables, AdamW(variables, 0.1)

    def gradients(number: int) -> list:
        random = np.random.default_rng(number)
        return [tf.constant(random.normal(size=shape), tf.float32) for shape in SHAPES.values()]

    (through, one), (resumed, other) = made(), made()
    for number in range(4):
        one.apply(gradients(number), tf.constant(0.01))
        if number == 1:
            kept = [variable.numpy() for variable in [*through.values(), *one.state]]
    for variable, values in zip([*resumed.values(), *other.state], kept, strict=True):
        variable.assign(values)
    for number in (2, 3):
        other.apply(gradients(number), tf.constant(0.01))
    assert all(through[name].numpy().tobytes() == resumed[name].numpy().tobytes() for name in SHAPES)
