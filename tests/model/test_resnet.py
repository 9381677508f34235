"""The shape of the network, compared with Keras's own."""

import pytest

from flowers.model import backend, resnet


@pytest.fixture(scope="module")
def network():
    return backend.keras().applications.ResNet50(weights=None)


def test_the_tensors_are_those_of_keras(network):
    found = {
        f"{layer.name}/{variable.name}": tuple(variable.shape) for layer in network.layers for variable in layer.weights
    }
    assert resnet.tensor_shapes() == found
    assert len(found) == 320


def test_the_blocks_stride_and_project_where_keras_does(network):
    names = [layer.name for layer in network.layers]
    for block in resnet.BLOCKS:
        assert network.get_layer(f"{block.name}_1_conv").strides == (block.stride, block.stride)
        assert network.get_layer(f"{block.name}_1_conv").input.shape[-1] == block.inputs
        assert (f"{block.name}_0_conv" in names) == block.projection
    norms = [layer for layer in network.layers if "BatchNormalization" in type(layer).__name__]
    assert {norm.epsilon for norm in norms} == {resnet.BATCH_NORM_EPSILON}


def test_exactly_the_unfrozen_blocks_are_above_a_feature_layer(network):
    names = [layer.name for layer in network.layers]
    outputs = [name for name in names if name.endswith("_out")]
    for unfreeze in range(17):
        above, unfrozen = names[names.index(resnet.feature_layer_name(unfreeze)) + 1 :], outputs[16 - unfreeze :]
        assert [name for name in above if name.endswith("_out")] == unfrozen
        assert all(name.startswith(tuple(output.removesuffix("out") for output in unfrozen)) for name in above[:-2])
