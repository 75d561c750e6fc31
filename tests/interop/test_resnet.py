"""ResNet's weights in the layout of torchvision, without it; tests/parity/test_resnet.py computes with them."""

import jax
import numpy as np
import pytest

from neuralmon.errors import RequestError
from neuralmon.interop.resnet import from_torchvision, to_torchvision
from neuralmon.models import ResNet

BASIC = ResNet((1, 2), 4, num_classes=3)
BOTTLENECK = ResNet((1, 1), 4, num_classes=3, block="bottleneck", stem="imagenet", shortcut="projection")


def variables_of(model, channels=2):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, channels), np.float32))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("model", [BASIC, BOTTLENECK, BASIC.clone(pre_activation=True)])
def test_weights_go_out_and_come_back(model):
    variables = variables_of(model)
    tensors = to_torchvision(model, variables)
    kernel = variables["params"]["stage_1_block_0"]["conv_1"]["kernel"]
    np.testing.assert_array_equal(tensors["layer2.0.conv2.weight"], kernel.transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(tensors["bn1.running_var"], variables["batch_stats"]["norm_stem"]["var"])
    assert ("layer2.0.downsample.1.running_mean" in tensors) == (model is BOTTLENECK)
    counts = {"bn1.num_batches_tracked": np.array(5)}
    jax.tree.map(np.testing.assert_array_equal, from_torchvision(model, tensors | counts), variables)


def test_weights_of_another_network_are_refused():
    variables = variables_of(BASIC)
    tensors = to_torchvision(BASIC, variables)
    with pytest.raises(RequestError, match=r"layer1\.1\.conv1\.weight is missing"):
        from_torchvision(BASIC.clone(stage_sizes=(2, 2)), tensors)
    with pytest.raises(RequestError, match=r"layer2\.1\.bn1\.bias is left over"):
        from_torchvision(BASIC.clone(stage_sizes=(1, 1)), tensors)
    with pytest.raises(RequestError, match="num_classes=None"):
        from_torchvision(BASIC.clone(num_classes=None), tensors)
    with pytest.raises(RequestError, match="params/stage_0_block_1 is missing"):
        to_torchvision(BASIC.clone(stage_sizes=(2, 2)), variables)
    with pytest.raises(RequestError, match="params/stage_1_block_1/conv_0/kernel is left over"):
        to_torchvision(BASIC.clone(stage_sizes=(1, 1)), variables)
