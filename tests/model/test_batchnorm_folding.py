"""Folding, compared with Keras's convolution followed by BatchNorm."""

import numpy as np

from flowers.model import backend, batchnorm_folding, resnet


def test_a_folded_convolution_is_convolution_and_batch_norm_for_tiny_variances_too():
    keras, random = backend.keras(), np.random.default_rng(0)
    convolution = keras.layers.Conv2D(4, 3, padding="same", name="a_conv")
    norm = keras.layers.BatchNormalization(epsilon=resnet.BATCH_NORM_EPSILON, name="a_bn")
    network = keras.Sequential([keras.Input((5, 5, 2)), convolution, norm])
    tensors = {f"a_conv/{variable.name}": random.normal(size=variable.shape) for variable in convolution.weights}
    tensors |= {f"a_bn/{variable.name}": random.normal(size=variable.shape) for variable in norm.weights}
    tensors["a_bn/moving_variance"] = np.array([1e-6, 1e-5, 1e-3, 1.0])  # epsilon is 1.001e-5
    for layer in (convolution, norm):
        for variable in layer.weights:
            variable.assign(tensors[f"{layer.name}/{variable.name}"])
    images = random.normal(size=(2, 5, 5, 2)).astype(np.float32)
    kernel, bias = batchnorm_folding.fold(tensors.__getitem__, "a_conv")
    found = batchnorm_folding.convolve(images, (kernel.astype(np.float32), bias.astype(np.float32)))
    wanted = np.asarray(network(images, training=False))
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-3, atol=1e-3)
