"""RNN, GRU and LSTM against PyTorch's layers, in stacks, both directions, packed sequences and states in and out; what
PyTorch has not, against its equations written as a loop; CRNN against conv2d, batch normalisation and nn.LSTM."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import Case, Result, both_types, random_variables

from neuralmon.interop import gru, lstm, recurrent, rnn, weights
from neuralmon.layers import ElmanLayer, GRULayer, LSTMLayer, Recurrent
from neuralmon.models import CRNN, GRU, LSTM, RNN, ConvStage

INTEROP = {"RNN": rnn, "GRU": gru, "LSTM": lstm}
LAYERS = {"RNN": ElmanLayer, "GRU": GRULayer, "LSTM": LSTMLayer}


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def weighted(outputs):
    """Returns the sum of all outputs, each with a weight of its own."""
    leaves = jax.tree.leaves(outputs)
    return sum((leaf * draw(seed, *leaf.shape).astype(leaf.dtype)).sum() for seed, leaf in enumerate(leaves))


def ours(apply, params, *rest):
    """Returns the outputs of `apply(params, *rest)` and the gradients of their weighted sum by all arguments."""

    @jax.jit
    def run(*arguments):
        def loss(*arguments):
            outputs = apply(*arguments)
            return weighted(outputs), outputs

        gradients, outputs = jax.grad(loss, argnums=tuple(range(len(arguments))), has_aux=True)(*arguments)
        return outputs, gradients

    return Result(*run(params, *rest))


def theirs_weighted(outputs):
    """`weighted` for PyTorch's tensors."""
    import torch

    leaves = jax.tree.leaves(outputs)
    return sum((leaf * torch.as_tensor(draw(seed, *leaf.shape)).to(leaf)).sum() for seed, leaf in enumerate(leaves))


def numpy(tree):
    return jax.tree.map(lambda tensor: tensor.detach().numpy(), tree)


def once(gradients):
    """Returns the gradients of a state dict so that reading them adds up to ours.

    Both of PyTorch's biases have the whole gradient, and reading adds biases up: the second one counts where it has a
    parameter of its own only, in the candidate of a GRU.
    """
    result = {}
    for name, gradient in gradients.items():
        second = "bias_hh" in name
        is_gru = second and len(gradient) == 3 * gradients[name.replace("bias", "weight")].shape[1]
        kept = np.where(np.arange(len(gradient)) < 2 * len(gradient) // 3, 0, gradient) if is_gru else 0 * gradient
        result[name] = kept.astype(gradient.dtype) if second else gradient
    return result


def from_torch(kind, module, network, **options):
    """Returns our parameters and a function that returns their gradients, made of PyTorch's."""
    read = functools.partial(INTEROP[kind].from_torch, module, **options)

    def gradients():
        return read(once({name: one.grad.numpy() for name, one in network.named_parameters()}))["params"]

    return read(network.state_dict())["params"], gradients


def stack_case(
    kind, name, shape=(3, 7, 5), hidden=6, depth=1, both=False, lengths=None, state=False, activation="tanh"
):
    """A stack of layers against PyTorch's: outputs, final states, and gradients by parameters, inputs and states."""

    def run(dtype):
        import torch

        torch.manual_seed(0)
        options = {"nonlinearity": activation} if kind == "RNN" else {}
        network = getattr(torch.nn, kind)(
            shape[2], hidden, depth, batch_first=True, bidirectional=both, dtype=getattr(torch, dtype), **options
        )
        fields = {"activation": {"tanh": jnp.tanh, "relu": nn.relu}[activation]} if kind == "RNN" else {}
        stack = Recurrent(LAYERS[kind](dtype=dtype, **fields), (hidden,) * depth, bidirectional=both)
        params, gradients = from_torch(kind, stack, network)
        inputs = draw(1, *shape).astype(dtype)
        places = [f"{way}_{index}" for index in range(depth) for way in stack.directions]
        parts = LAYERS[kind].states
        initial = {
            place: {part: state * draw(10 * i + j, shape[0], hidden).astype(dtype) for j, part in enumerate(parts)}
            for i, place in enumerate(places)
        }
        mask = None if lengths is None else np.arange(shape[1]) < np.array(lengths)[:, None]
        our_result = ours(
            lambda params, inputs, initial: stack.apply({"params": params}, inputs, initial, mask, method="run"),
            params, inputs, initial,
        )  # fmt: skip

        x, given = jax.tree.map(lambda array: torch.tensor(array, requires_grad=True), (inputs, initial))
        start = tuple(torch.stack([given[place][part] for place in places]) for part in parts)
        start = start if len(parts) > 1 else start[0]
        if lengths is None:
            y, end = network(x, start)
        else:
            packing = torch.nn.utils.rnn
            packed = packing.pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
            y, end = network(packed, start)
            y, _ = packing.pad_packed_sequence(y, batch_first=True, total_length=shape[1])
        end = end if len(parts) > 1 else (end,)
        final = {place: {part: end[j][i] for j, part in enumerate(parts)} for i, place in enumerate(places)}
        theirs_weighted((y, final)).backward()
        by_inputs = jax.tree.map(lambda tensor: tensor.grad.numpy(), (x, given))
        return our_result, Result(numpy((y, final)), (gradients(), *by_inputs))

    return Case(kind, name, f"torch.nn.{kind}", "torch", run)


def model_case(model, name, tokens=False, names=None):
    """A whole model against embedding, layers and output layer of PyTorch, on sequences of different lengths."""
    kind = type(model).__name__

    def run(dtype):
        import torch

        class Network(torch.nn.Module):
            def __init__(self):
                super().__init__()
                width, directions = model.hidden[0], 1 + model.bidirectional
                inputs = 4
                if tokens:
                    self.embedding = torch.nn.Embedding(model.vocab_size, model.embedding_dim)
                    inputs = model.embedding_dim
                self.core = getattr(torch.nn, kind)(
                    inputs, width, len(model.hidden), batch_first=True, bidirectional=model.bidirectional
                )
                self.head = torch.nn.Linear(width * directions, model.num_classes)

            def forward(self, x, lengths):
                x = self.embedding(x) if tokens else x
                packing = torch.nn.utils.rnn
                packed = packing.pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
                y, end = self.core(packed)
                y, _ = packing.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
                if model.output == "last":
                    hidden = end[0] if kind == "LSTM" else end
                    y = torch.cat(list(hidden[-1 - model.bidirectional :]), dim=-1)
                return self.head(y)

        torch.manual_seed(1)
        network, lengths = Network().to(getattr(torch, dtype)), np.array([4, 6, 1, 3])
        ours_typed = model.clone(dtype=dtype)
        params, gradients = from_torch(kind, ours_typed, network, names={"recurrent": "core", "output": "head"})
        if tokens:
            sequence = np.random.default_rng(2).integers(0, model.vocab_size, (4, 6))
        else:
            sequence = draw(2, 4, 6, 4).astype(dtype)
        inputs = {"sequence": sequence, "lengths": lengths}
        our_result = ours(lambda params: ours_typed.apply({"params": params}, inputs), params)
        y = network(torch.tensor(sequence), lengths)
        theirs_weighted(y).backward()
        return our_result, Result(numpy(y), (gradients(),))

    return Case(kind, name, f"torch.nn.{kind}", "torch", run)


def loop_case(kind, name, layer, step):
    """A layer that PyTorch has not, against its equations for one sequence and one step after the other."""

    def run(dtype):
        import torch

        module, inputs, lengths = layer.clone(dtype=dtype), draw(3, 3, 6, 4).astype(dtype), (6, 2, 4)
        shapes = weights.shapes_of(module.init, jax.ShapeDtypeStruct(inputs.shape, dtype))
        params = random_variables(shapes, dtype)["params"]
        mask = np.arange(6) < np.array(lengths)[:, None]
        our_result = ours(lambda params: module.apply({"params": params}, inputs, None, mask), params)

        w = jax.tree.map(lambda array: torch.tensor(array, requires_grad=True), params)
        x, size = torch.tensor(inputs), layer.features
        outputs, finals = [], []
        for one, length in zip(x, lengths, strict=True):
            state, rows = [torch.zeros(size, dtype=x.dtype) for _ in module.states], []
            for t in range(length):
                state = step(w, one[t], *state)
                rows.append(state[0])
            outputs.append(torch.stack(rows + [torch.zeros(size, dtype=x.dtype)] * (6 - length)))
            finals.append(state)
        final = {part: torch.stack([state[i] for state in finals]) for i, part in enumerate(module.states)}
        result = torch.stack(outputs), final
        theirs_weighted(result).backward()
        return our_result, Result(numpy(result), (jax.tree.map(lambda tensor: tensor.grad.numpy(), w),))

    return Case(kind, name, "equations in a loop", "torch", run)


def peephole_step(w, x, h, c):
    import torch

    def pre(gate):
        columns = slice(gate * len(h), (gate + 1) * len(h))
        return x @ w["kernel"][:, columns] + h @ w["recurrent"][:, columns] + w["bias"][columns]

    i = torch.sigmoid(pre(0) + w["peephole"][0] * c)
    f = torch.sigmoid(pre(1) + w["peephole"][1] * c)
    c = f * c + i * torch.tanh(pre(2))
    return torch.sigmoid(pre(3) + w["peephole"][2] * c) * torch.tanh(c), c


def published_gru_step(w, x, h):
    import torch

    n = len(h)
    kernels, recurrent_kernels, biases = (w[name].split(n, dim=-1) for name in ("kernel", "recurrent", "bias"))
    r = torch.sigmoid(x @ kernels[0] + h @ recurrent_kernels[0] + biases[0])
    z = torch.sigmoid(x @ kernels[1] + h @ recurrent_kernels[1] + biases[1])
    candidate = torch.tanh(x @ kernels[2] + (r * h) @ recurrent_kernels[2] + biases[2])
    return (z * h + (1 - z) * candidate,)


CRNNS = {
    "per column": CRNN((ConvStage(4, pool=(2, 2)), ConvStage(5, pool=(2, 1))), hidden=(6,), num_classes=7),
    "published stages, narrow": CRNN(
        (
            ConvStage(3, pool=(2, 2)),
            ConvStage(4, batch_norm=True, pool=(2, 1)),
            ConvStage(5, kernel_size=(2, 2), padding="VALID"),
        ),
        hidden=(6, 4),
        num_classes=7,
    ),
    "many to one, not joined": CRNN(
        (ConvStage(4, batch_norm=True, pool=(2, 2)),), hidden=(5, 6), num_classes=3, output="last", join=False
    ),
}


def crnn_case(name, train=False):
    """A CRNN against conv2d, batch_norm and one nn.LSTM a layer."""
    model = CRNNS[name]

    def run(dtype):
        import torch

        typed, inputs = model.clone(dtype=dtype), draw(4, 3, 8, 13, 2).astype(dtype)
        shapes = weights.shapes_of(typed.init, jax.ShapeDtypeStruct(inputs.shape, dtype))
        variables = random_variables(shapes, dtype)
        statistics = {"batch_stats": variables["batch_stats"]} if "batch_stats" in variables else {}

        class Network(torch.nn.Module):
            def __init__(self):
                super().__init__()
                before = inputs.shape[-1]
                for index, stage in enumerate(model.stages):
                    padding = "same" if stage.padding == "SAME" else "valid"
                    convolution = torch.nn.Conv2d(before, stage.features, stage.kernel_size, padding=padding)
                    self.add_module(f"conv_{index}", convolution)
                    if stage.batch_norm:
                        self.add_module(f"norm_{index}", torch.nn.BatchNorm2d(stage.features))
                    before = stage.features
                before = shapes["params"]["lstm_0"]["forward_0"]["kernel"].shape[0]
                for index, width in enumerate(model.hidden):
                    if index and model.join:
                        self.add_module(f"join_{index}", torch.nn.Linear(before, width))
                        before = width
                    lstm_layer = torch.nn.LSTM(before, width, batch_first=True, bidirectional=True)
                    self.add_module(f"lstm_{index}", lstm_layer)
                    before = 2 * width
                self.output = torch.nn.Linear(before, model.num_classes)

            def forward(self, x):
                for index, stage in enumerate(model.stages):
                    x = getattr(self, f"conv_{index}")(x)
                    x = getattr(self, f"norm_{index}")(x) if stage.batch_norm else x
                    x = torch.relu(x)
                    x = torch.nn.functional.max_pool2d(x, stage.pool) if stage.pool else x
                x = x.permute(0, 3, 2, 1).flatten(2)
                for index in range(len(model.hidden)):
                    x = getattr(self, f"join_{index}")(x) if index and model.join else x
                    x, (hidden, _) = getattr(self, f"lstm_{index}")(x)
                x = torch.cat(list(hidden), dim=-1) if model.output == "last" else x
                return self.output(x)

        network = Network().to(getattr(torch, dtype)).train(train)
        entries = weights.dense("params/output", "output")
        for index, stage in enumerate(model.stages):
            entries += weights.convolution(f"params/conv_{index}", f"conv_{index}")
            if stage.batch_norm:
                entries += weights.normalization(f"params/norm_{index}", f"norm_{index}")
                entries += [
                    weights.same(f"batch_stats/norm_{index}/{part}", f"norm_{index}.running_{part}")
                    for part in ("mean", "var")
                ]
        for index, width in enumerate(model.hidden):
            stack = Recurrent(LSTMLayer(), (width,), bidirectional=True)
            entries += recurrent.layers(f"params/lstm_{index}/", f"lstm_{index}.", stack)
            if index and model.join:
                entries += weights.dense(f"params/join_{index}", f"join_{index}")
        tensors = {key: torch.tensor(array) for key, array in weights.to_theirs(entries, variables).items()}
        network.load_state_dict(tensors, strict=False)

        def apply(params):
            mutable = ["batch_stats"] if train else []
            return typed.apply({"params": params, **statistics}, inputs, train=train, mutable=mutable)[0]

        our_result = ours(apply, variables["params"])
        y = network(torch.tensor(inputs).permute(0, 3, 1, 2))
        theirs_weighted(y).backward()
        grads = once({key: one.grad.numpy() for key, one in network.named_parameters()})
        of_params = [entry for entry in entries if entry.ours[0].startswith("params/")]
        read = weights.to_ours(of_params, grads, {"params": shapes["params"]})
        return our_result, Result(numpy(y), (read["params"],))

    return Case("CRNN", name + ", while training" * train, "torch conv2d, batch_norm and nn.LSTM", "torch", run)


PADDED, PADDED_LONG = (3, 7, 1), (5, 9, 2, 1, 9, 4)
CASES = [
    *[
        case
        for kind in ("RNN", "GRU", "LSTM")
        for case in (
            stack_case(kind, "one layer"),
            stack_case(kind, "one step, one feature", shape=(2, 1, 1), hidden=3),
            stack_case(kind, "initial state", shape=(2, 6, 3), hidden=8, state=True),
            stack_case(kind, "3 layers, initial state", depth=3, state=True),
            stack_case(kind, "bidirectional", shape=(4, 5, 3), hidden=7, both=True),
            stack_case(kind, "packed lengths", lengths=PADDED),
            stack_case(
                kind, "2 layers, bidirectional, packed lengths, initial state", shape=(6, 9, 4), depth=2, both=True,
                lengths=PADDED_LONG, state=True,
            ),
        )
    ],
    stack_case("RNN", "relu", activation="relu", depth=2),
    model_case(RNN((5,), num_classes=3), "model, many to one"),
    model_case(GRU((5, 5), num_classes=3, output="all", vocab_size=9, embedding_dim=4), "model of tokens", tokens=True),
    model_case(LSTM((4, 4), num_classes=3, bidirectional=True), "model, bidirectional, many to one"),
    model_case(LSTM((4,), num_classes=6, output="all", vocab_size=6, embedding_dim=3), "model of tokens", tokens=True),
    loop_case("LSTM", "peepholes, different lengths", LSTMLayer(5, peepholes=True), peephole_step),
    loop_case("GRU", "reset gate as published, different lengths", GRULayer(5, reset_after=False), published_gru_step),
    *[crnn_case(name) for name in CRNNS],
    crnn_case("published stages, narrow", train=True),
]  # fmt: skip


@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_recurrent(case, dtype):
    case.check(dtype)


@pytest.mark.parametrize("kind", LAYERS)
def test_pytorch_takes_what_is_written_and_reading_it_gives_it_back(kind):
    torch = pytest.importorskip("torch")
    stack = Recurrent(LAYERS[kind](), (4, 4), bidirectional=True)
    variables = random_variables(weights.shapes_of(stack.init, jax.ShapeDtypeStruct((1, 1, 3), "float32")), "float32")
    written = INTEROP[kind].to_torch(stack, variables)
    network = getattr(torch.nn, kind)(3, 4, 2, bidirectional=True, batch_first=True)
    network.load_state_dict({key: torch.tensor(array) for key, array in written.items()}, strict=True)
    inputs = draw(5, 2, 6, 3).astype(np.float32)
    expected = network(torch.tensor(inputs))[0].detach()
    np.testing.assert_allclose(stack.apply(variables, inputs), expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, INTEROP[kind].from_torch(stack, written), variables)
