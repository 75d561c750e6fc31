"""ResNet against one written in PyTorch with torchvision's names, while training and while evaluating."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import Case, Result, both_types, cotangent, random_variables

from neuralmon.errors import RequestError
from neuralmon.interop import resnet, weights
from neuralmon.models import ResNet, resnet18

BASIC = ResNet((1, 2), features=5, num_classes=5)
BOTTLENECK = BASIC.clone(block="bottleneck", shortcut="projection")
IMAGENET = ResNet((1, 2), features=5, num_classes=5, stem="imagenet", shortcut="projection")
V2 = {"pre_activation": True}

# Odd sizes: a stride of 2 rounds up.
MODELS = {
    "CIFAR, option A": (BASIC, (6, 12, 12, 3)),
    "CIFAR, option A, odd size": (BASIC, (7, 11, 13, 3)),
    "CIFAR, option B": (BASIC.clone(shortcut="projection"), (6, 12, 12, 1)),
    "CIFAR, bottleneck, option A": (BOTTLENECK.clone(shortcut="zero_padding"), (6, 12, 12, 3)),
    "CIFAR, other momentum and epsilon": (BASIC.clone(momentum=0.7, epsilon=1e-2), (6, 12, 12, 3)),
    "CIFAR, v2, option A": (BASIC.clone(**V2), (6, 12, 12, 3)),
    "CIFAR, v2, bottleneck": (BOTTLENECK.clone(**V2), (6, 13, 12, 3)),
    "ImageNet, basic": (IMAGENET, (5, 36, 33, 3)),
    "ImageNet, bottleneck v1": (IMAGENET.clone(block="bottleneck", stride_in="first"), (5, 35, 33, 3)),
    "ImageNet, bottleneck v1.5": (IMAGENET.clone(block="bottleneck"), (5, 35, 33, 3)),
    "ImageNet, bottleneck v2": (IMAGENET.clone(block="bottleneck", **V2), (5, 36, 36, 3)),
    "plain": (BASIC.clone(shortcut=None), (6, 12, 12, 3)),
    "plain, bottleneck": (BOTTLENECK.clone(shortcut=None), (6, 11, 12, 3)),
}


@functools.cache
def theirs(model):
    """Returns the same network in PyTorch, on images with channels first."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, inputs, features, stride, first):
            super().__init__()
            self.first, self.stride = first, stride
            bottleneck = model.block == "bottleneck"
            self.outputs = outputs = features * 4 if bottleneck else features
            if bottleneck:
                widths, sizes = [features, features, outputs], [1, 3, 1]
                strides = [stride, 1, 1] if model.stride_in == "first" else [1, stride, 1]
            else:
                widths, sizes, strides = [features, features], [3, 3], [stride, 1]
            self.depth = len(widths)
            before = inputs
            for number, (width, size, step) in enumerate(zip(widths, sizes, strides, strict=True), start=1):
                setattr(self, f"conv{number}", nn.Conv2d(before, width, size, step, size // 2, bias=False))
                if not (model.pre_activation and first and number == 1):
                    setattr(self, f"bn{number}", norm(before if model.pre_activation else width))
                before = width
            self.changes = stride != 1 or inputs != outputs
            if self.changes and model.shortcut == "projection":
                projection = [nn.Conv2d(inputs, outputs, 1, stride, bias=False)]
                self.downsample = nn.Sequential(*projection, *([] if model.pre_activation else [norm(outputs)]))

        def skip(self, x):
            if not self.changes:
                return x
            if model.shortcut == "projection":
                return self.downsample(x)
            missing = self.outputs - x.shape[1]
            return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, missing))

        def forward(self, x):
            return self.second(x) if model.pre_activation else self.original(x)

        def original(self, x):
            y = x
            for number in range(1, self.depth + 1):
                y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
                if number < self.depth:
                    y = torch.relu(y)
            return torch.relu(y if model.shortcut is None else y + self.skip(x))

        def second(self, x):
            opened = x if self.first else torch.relu(self.bn1(x))
            y = self.conv1(opened)
            for number in range(2, self.depth + 1):
                y = getattr(self, f"conv{number}")(torch.relu(getattr(self, f"bn{number}")(y)))
            return y + self.skip(opened if self.changes else x)

    class Network(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.imagenet = model.stem == "imagenet"
            stem = (7, 2, 3) if self.imagenet else (3, 1, 1)
            self.conv1 = nn.Conv2d(channels, model.features, *stem, bias=False)
            self.bn1 = norm(model.features)
            width = model.features
            for stage, count in enumerate(model.stage_sizes):
                blocks = []
                for index in range(count):
                    stride = 2 if stage and not index else 1
                    blocks.append(Block(width, model.features * 2**stage, stride, stage == index == 0))
                    width = blocks[-1].outputs
                setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            if model.pre_activation:
                self.norm = norm(width)
            self.fc = nn.Linear(width, model.num_classes)

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            if self.imagenet:
                x = functional.max_pool2d(x, 3, 2, 1)
            for stage in range(len(model.stage_sizes)):
                x = getattr(self, f"layer{stage + 1}")(x)
            if model.pre_activation:
                x = torch.relu(self.norm(x))
            return self.fc(x.mean((2, 3)))

    def norm(width):
        return nn.BatchNorm2d(width, eps=model.epsilon, momentum=1 - model.momentum)

    return Network


def their_result(model, variables, images, loss_weights, train):
    """Returns theirs in our names: logits, with `train` the new running statistics, and gradients."""
    import torch

    network = theirs(model)(images.shape[-1]).to(torch.from_numpy(images).dtype)
    state = {key: torch.tensor(array) for key, array in resnet.to_torchvision(model, variables).items()}
    network.load_state_dict(state, strict=True)
    network.train(train)

    pixels = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda _, x, __, name=name: pixels.update({name: x[0][:, 0].numel()}))
    logits = network(torch.tensor(images).permute(0, 3, 1, 2))
    (logits * torch.tensor(loss_weights)).sum().backward()

    # PyTorch normalises by the variance of the batch, mean((x - mean)^2), but its running variance moves towards
    # n / (n - 1) times as much. Without that factor it is ours.
    after = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    for name, n in pixels.items() if train else ():
        kept = model.momentum * state[f"{name}.running_var"]
        moved = after[f"{name}.running_var"] - kept
        after[f"{name}.running_var"] = kept + moved * (n - 1) / n
    after = resnet.from_torchvision(model, after)["batch_stats"]
    gradients = {key: leaf.grad for key, leaf in network.named_parameters()}
    # The statistics have no gradients; zeros let the table of weights be used.
    gradients |= {key: torch.zeros_like(leaf) for key, leaf in network.state_dict().items() if key not in gradients}
    return Result(
        {"logits": logits.detach().numpy(), "batch_stats": after}, resnet.from_torchvision(model, gradients)["params"]
    )


def our_result(model, variables, images, loss_weights, train):
    @jax.jit
    def run(params, statistics, images):
        def loss(params):
            logits, new = model.apply(
                {"params": params, "batch_stats": statistics}, images, train=train, mutable=["batch_stats"]
            )
            return (logits * loss_weights).sum(), {"logits": logits, "batch_stats": new["batch_stats"]}

        gradients, outputs = jax.grad(loss, has_aux=True)(params)
        return Result(outputs, gradients).__dict__

    return Result(**run(variables["params"], variables["batch_stats"], images))


def compare(model, shape, train, dtype):
    model = model.clone(dtype=jnp.dtype(dtype))
    shapes = weights.shapes_of(model.init, jax.ShapeDtypeStruct(shape, dtype))
    variables = random_variables(shapes, dtype)
    images = np.random.default_rng(2).normal(size=shape).astype(dtype)
    given = variables, images, cotangent((shape[0], model.num_classes), dtype), train
    return our_result(model, *given), their_result(model, *given)


def case(name, model, shape, train):
    mode = "training" if train else "evaluation"
    row = f"ResNet, {name.partition(',')[0]}"
    run = functools.partial(compare, model, shape, train)
    return Case(row, f"{name.partition(', ')[2] or 'basic'}, {mode}", "by hand in torch.nn", "torch", run)


EVALUATED = ("CIFAR, option A", "CIFAR, v2, bottleneck", "ImageNet, bottleneck v1.5")
CASES = [case(name, *parts, True) for name, parts in MODELS.items()]
CASES += [case(name, *MODELS[name], False) for name in EVALUATED]
CASES.append(case("ImageNet, ResNet-18", resnet18.clone(num_classes=10), (2, 64, 64, 3), False))


@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_resnet(case, dtype):
    case.check(dtype)


@pytest.mark.parametrize("name", ["ImageNet, bottleneck v1.5", "CIFAR, v2, option A"])
def test_weights_go_there_and_back(name):
    torch = pytest.importorskip("torch")
    model, shape = MODELS[name]
    variables = random_variables(weights.shapes_of(model.init, jax.ShapeDtypeStruct(shape, np.float32)), "float32")
    network = theirs(model)(shape[-1])
    network.load_state_dict({key: torch.tensor(one) for key, one in resnet.to_torchvision(model, variables).items()})
    state = network.state_dict()
    assert any(key.endswith("num_batches_tracked") for key in state)
    jax.tree.map(np.testing.assert_array_equal, resnet.from_torchvision(model, state), variables)

    state["extra"] = state.pop("layer1.0.conv2.weight")
    state["fc.weight"] = state["fc.weight"][:3]
    with pytest.raises(RequestError, match=r"layer1.0.conv2.weight is missing; extra is left over; fc.weight \(3, "):
        resnet.from_torchvision(model, state)
