"""Skip-gram with negative sampling beside eq. 4 of the paper, written out in PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import Case, Result, both_types, cotangent, ours, random_variables

from neuralmon.interop.weights import shapes_of
from neuralmon.models import SkipGram
from neuralmon.tasks import NegativeSampling


def set_up(words, dim, batch, negatives, dtype):
    rng = np.random.default_rng(batch)
    # Words repeat within the batch and within an example: their gradients are sums.
    inputs = {"center": rng.integers(0, words, batch), "contexts": rng.integers(0, words, (batch, 1 + negatives))}
    inputs = {name: array.astype(np.int32) for name, array in inputs.items()}
    model = SkipGram(words, dim, dtype=jnp.dtype(dtype))
    return model, random_variables(shapes_of(model.init, inputs), dtype), inputs


def in_torch(variables, inputs):
    """Returns torch, the tables, and the logits, each the dot product of two rows."""
    import torch

    tables = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), variables["params"])
    words = tables["embedding"][torch.tensor(inputs["center"]).long()]
    around = tables["context_embedding"][torch.tensor(inputs["contexts"]).long()]
    return torch, tables, torch.stack([(words * around[:, i]).sum(dim=1) for i in range(around.shape[1])], dim=1)


def logits(dtype, **sizes):
    model, variables, inputs = set_up(**sizes, dtype=dtype)
    weights = cotangent(inputs["contexts"].shape, dtype)
    torch, tables, outputs = in_torch(variables, inputs)
    (outputs * torch.tensor(weights)).sum().backward()
    theirs = Result(outputs.detach().numpy(), {name: table.grad.numpy() for name, table in tables.items()})
    return ours(model.apply, variables, inputs, weights), theirs


def loss(dtype, **sizes):
    """Eq. 4, which is maximised: its negative is the loss of an example."""
    model, variables, inputs = set_up(**sizes, dtype=dtype)
    torch, tables, outputs = in_torch(variables, inputs)
    log_sigmoid = torch.nn.functional.logsigmoid
    objective = log_sigmoid(outputs[:, 0]) + sum(log_sigmoid(-outputs[:, i]) for i in range(1, outputs.shape[1]))
    total = -objective.sum()
    total.backward()
    theirs = Result(total.detach().numpy(), {name: table.grad.numpy() for name, table in tables.items()})
    weights = jnp.ones(len(inputs["center"]))

    @jax.jit
    def run(params):
        def of(params):
            return NegativeSampling().loss(model.apply({"params": params}, inputs), {"weights": weights})[0][0]

        return jax.value_and_grad(of)(params)

    return Result(*run(variables["params"])), theirs


SIZES = [
    {"words": 30, "dim": 8, "batch": 16, "negatives": 5},
    {"words": 500, "dim": 50, "batch": 7, "negatives": 15},
    {"words": 3, "dim": 5, "batch": 64, "negatives": 1},
]
CASES = [
    Case("Skip-gram", f"{what}, {sizes}", "eq. 4 by hand", "torch", partial(function, **sizes))
    for what, function in (("logits", logits), ("loss", loss))
    for sizes in SIZES
]


@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_those_of_the_reference(case, dtype):
    case.check(dtype)
