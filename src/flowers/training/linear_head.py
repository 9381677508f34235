"""A linear head fitted in one go to cached features, which takes seconds where epochs take minutes."""

from typing import TYPE_CHECKING

import numpy as np

from flowers.config.params import HeadParams
from flowers.model import backend
from flowers.training import discriminant, regression
from flowers.training.epochs import TrainingSet

if TYPE_CHECKING:
    import keras

_BLOCK = 4096  # rows


def initialize(head: "keras.Model", training: TrainingSet, params: HeadParams) -> None:
    """Set kernel and bias of a head without hidden layers from all views of the training images."""
    views = training.views.shape[1]
    rows, logits = training.views.ravel(), head.get_layer("head_logits")
    before_kernel = backend.keras().Model(head.input, logits.input)  # the normalization
    features = np.empty((len(rows), head.input_shape[1]), np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = np.asarray(training.examples[rows[start : start + _BLOCK]], np.float32)[:, -head.input_shape[1] :]
        features[start : start + _BLOCK] = before_kernel.predict_on_batch(block)
    labels, weights = np.repeat(training.labels, views), np.repeat(training.weights, views)
    if params.initialization == "lda":
        kernel, bias = discriminant.fit(features, labels, weights, logits.units, views)
    else:
        kernel, bias = regression.fit(features, labels, weights, logits.units, params.penalty)
    logits.kernel.assign(kernel)
    logits.bias.assign(bias)
