"""One epoch on cached activations: every image once, in a new order, each in one of its views."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowers.common import ahead
from flowers.model import backend
from flowers.model.trainable import Examples, TrainablePart
from flowers.training.optimizer import AdamW
from flowers.training.schedule import Schedule


@dataclass(frozen=True)
class TrainingSet:
    """Training images: `views[i]` are the rows of image i's augmented views in `examples`, (images, views) int64.

    `labels` are (images,) int32; `weights`, (images,) float32, weigh each image's loss.
    """

    examples: Examples
    views: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def runner(
    trainable: TrainablePart, optimizer: AdamW, training: TrainingSet, schedule: Schedule
) -> Callable[[int, int], dict[str, float]]:
    """A function that runs an epoch, given its number in the training and in the phase, and returns its scores."""
    step = _step_function(trainable, optimizer, schedule)
    # Pooled features are in memory and train in milliseconds: the whole epoch is one call.
    fused = isinstance(training.examples, np.ndarray)
    run = (_fused if fused else _streamed)(step, training.examples, schedule.train.batch_size)
    steps = -(-len(training.labels) // schedule.train.batch_size)

    def run_epoch(epoch: int, of_phase: int) -> dict[str, float]:
        random = np.random.default_rng([schedule.train.seed, epoch])
        order = random.permutation(len(training.labels))
        rows = training.views[order, random.integers(0, training.views.shape[1], len(order))]
        trainable.reseed(random)
        rates = schedule.rates(of_phase, steps)
        loss, hits = run(rows, training.labels[order], training.weights[order], rates.astype(np.float32))
        return {
            "learning_rate": float(rates[-1]),
            "loss": float(loss) / len(order),
            "accuracy": float(hits) / len(order),
        }

    return run_epoch


def _step_function(trainable: TrainablePart, optimizer: AdamW, schedule: Schedule) -> Any:
    """A training step on a batch; it returns the sum of losses and the number of right predictions, float64 (2,)."""
    tf = backend.tensorflow()

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def step(batch: Any, labels: Any, weights: Any, rate: Any) -> Any:
        smoothing, classes = schedule.train.label_smoothing, trainable.classes
        targets = tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        with tf.GradientTape() as tape:
            scores = trainable(batch, training=True)
            losses = weights * tf.nn.softmax_cross_entropy_with_logits(targets, scores)
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, list(trainable.variables.values())), rate)
        hits = tf.reduce_sum(tf.cast(tf.argmax(scores, -1, tf.int32) == labels, tf.float64))
        return tf.stack([tf.cast(tf.reduce_sum(losses), tf.float64), hits])

    return step


def _fused(step: Any, examples: Examples, batch_size: int) -> Any:
    """An epoch as one TensorFlow function on examples that are held in memory."""
    tf = backend.tensorflow()
    held = tf.constant(examples)

    @tf.function  # type: ignore[untyped-decorator]
    def run(rows: Any, labels: Any, weights: Any, rates: Any) -> Any:
        sums = tf.zeros(2, tf.float64)
        for number in tf.range(tf.size(rates)):
            batch = slice(number * batch_size, (number + 1) * batch_size)
            sums += step(tf.gather(held, rows[batch]), labels[batch], weights[batch], rates[number])
        return sums

    return run


def _streamed(step: Any, examples: Examples, batch_size: int) -> Any:
    """An epoch that reads its batches from the activation cache."""

    def run(rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, rates: np.ndarray) -> np.ndarray:
        sums = np.zeros(2)
        batches = [slice(start, start + batch_size) for start in range(0, len(rows), batch_size)]
        # Each batch is read during the training step before it.
        read = ahead.computed(lambda batch: examples[rows[batch]], batches, ahead=1, threads=1)
        for batch, values, rate in zip(batches, read, rates, strict=True):
            sums += step(values, labels[batch], weights[batch], rate).numpy()
        return sums

    return run
