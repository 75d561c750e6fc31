"""The multi-layer perceptron beside a network of PyTorch's layers."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import Case, Result, both_types, cotangent, ours, random_variables

from neuralmon.interop import weights
from neuralmon.models import MLP


def entries(model):
    """Which of our variables is which of theirs: `torch.nn.Sequential` numbers its layers."""
    table, layer = [], 0
    for index in range(len(model.hidden)):
        table += weights.dense(f"params/hidden_{index}", f"{layer}", bias=model.norm != "batch")
        if model.norm is not None:
            layer += 1
            table += weights.normalization(f"params/norm_{index}", f"{layer}")
        if model.norm == "batch":
            table += [
                weights.same(f"batch_stats/norm_{index}/mean", f"{layer}.running_mean"),
                weights.same(f"batch_stats/norm_{index}/var", f"{layer}.running_var"),
            ]
        layer += 2
    return [*table, *weights.dense("params/output", f"{layer}")]


ACTIVATIONS = {nn.relu: "ReLU", nn.tanh: "Tanh", nn.sigmoid: "Sigmoid", nn.silu: "SiLU"}


def in_torch(model, inputs):
    import torch

    layers, size = [], inputs
    for width in model.hidden:
        layers.append(torch.nn.Linear(size, width, bias=model.norm != "batch"))
        if model.norm is not None:
            layers.append({"layer": torch.nn.LayerNorm, "batch": torch.nn.BatchNorm1d}[model.norm](width))
        layers.append(getattr(torch.nn, ACTIVATIONS[model.activation])())
        size = width
    return torch.nn.Sequential(*layers, torch.nn.Linear(size, model.num_classes))


def compare(model, shape, train, dtype):
    import torch

    model = model.clone(dtype=jnp.dtype(dtype))
    inputs = np.random.default_rng(2).normal(size=shape).astype(dtype)
    shapes = weights.shapes_of(model.init, inputs)
    variables = random_variables(shapes, dtype)
    factors = cotangent((shape[0], model.num_classes), dtype)

    def apply(variables, inputs):
        return model.apply(variables, inputs, train=train, mutable=["batch_stats"])[0]

    theirs = in_torch(model, int(np.prod(shape[1:]))).to(getattr(torch, dtype)).train(train)
    state = {key: torch.tensor(array) for key, array in weights.to_theirs(entries(model), variables).items()}
    assert set(theirs.state_dict()) - set(state) <= {key for key in theirs.state_dict() if "num_batches" in key}
    theirs.load_state_dict(state, strict=False)
    outputs = theirs(torch.tensor(inputs).flatten(1))
    (outputs * torch.tensor(factors)).sum().backward()
    gradients = {key: parameter.grad.numpy() for key, parameter in theirs.named_parameters()}
    ours_only = [entry for entry in entries(model) if entry.ours[0].startswith("params/")]
    gradients = weights.to_ours(ours_only, gradients, {"params": shapes["params"]})["params"]
    return ours(apply, variables, inputs, factors), Result(outputs.detach().numpy(), gradients)


def case(name, model, shape, train=False):
    return Case("MLP", name, "torch.nn.Linear", "torch", lambda dtype: compare(model, shape, train, dtype))


CASES = [
    case("softmax regression", MLP((), 7), (5, 11)),
    case("FFN(x) = max(0, x W1 + b1) W2 + b2", MLP((16,), 7), (5, 11)),
    case("784-256-10", MLP((256,), 10), (8, 28, 28, 1)),
    case("six layers, tanh", MLP((9, 17, 8, 12, 5), 3, nn.tanh), (4, 6)),
    case("images, sigmoid, one output", MLP((16, 12), 1, nn.sigmoid), (3, 6, 5, 3)),
    case("one example", MLP((8,), 4), (1, 3)),
    case("layer norm", MLP((16, 12), 5, nn.silu, norm="layer"), (6, 10)),
    case("batch norm, training", MLP((16, 12), 5, norm="batch"), (9, 10), train=True),
    case("batch norm, evaluation", MLP((16, 12), 5, nn.tanh, norm="batch"), (9, 10)),
]


@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_those_of_pytorch(case, dtype):
    case.check(dtype)
