"""RNN, GRU, LSTM and CRNN: what needs no other framework to be known."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.errors import RequestError
from neuralmon.interop import gru, lstm, rnn
from neuralmon.layers import (
    Constant,
    Dropout,
    ElmanLayer,
    GRULayer,
    LSTMLayer,
    Recurrent,
    Sequential,
    mask_from_lengths,
)
from neuralmon.models import CRNN, GRU, LSTM, RNN, ConvStage

BATCH, TIME, FEATURES = 3, 6, 4
LENGTHS = np.array([6, 1, 4])
MASK = np.arange(TIME) < LENGTHS[:, None]
INPUTS = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)
LAYERS = {
    "RNN": ElmanLayer(5),
    "GRU": GRULayer(5),
    "GRU as published": GRULayer(5, reset_after=False),
    "LSTM": LSTMLayer(5, peepholes=True),
}
each_layer = pytest.mark.parametrize("name", LAYERS)
INTEROP = {RNN: rnn, GRU: gru, LSTM: lstm}
each_model = pytest.mark.parametrize("kind", INTEROP, ids=lambda kind: kind.__name__)


def one_or_slow(quick):
    """The loop is the same for all three; compiling it is what a test costs."""
    return pytest.mark.parametrize(
        "kind",
        [kind if kind is quick else pytest.param(kind, marks=pytest.mark.slow) for kind in (RNN, GRU, LSTM)],
        ids=lambda kind: kind.__name__,
    )


rnn_or_slow, lstm_or_slow = one_or_slow(RNN), one_or_slow(LSTM)


def drawn(module, inputs=INPUTS):
    """Returns variables of which none is zero."""
    generator = np.random.default_rng(1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda leaf: generator.normal(scale=0.5, size=leaf.shape).astype(np.float32), shapes)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def in_numpy(name, params, inputs):
    """Returns the hidden states of one sequence, (time, inputs) -> (time, features), by the equations."""
    w = {key: np.asarray(leaf, np.float64) for key, leaf in params["params"].items()}
    h = c = np.zeros(5)
    states = []
    for x in inputs.astype(np.float64):
        a, b = x @ w["kernel"] + w["bias"], h @ w["recurrent"]
        if name == "RNN":
            h = np.tanh(a + b)
        elif "GRU" in name:
            r, z = sigmoid(a[:5] + b[:5]), sigmoid(a[5:10] + b[5:10])
            inner = r * (b[10:] + w["recurrent_bias"]) if name == "GRU" else (r * h) @ w["recurrent"][:, 10:]
            h = z * h + (1 - z) * np.tanh(a[10:] + inner)
        else:
            p = w.get("peephole", np.zeros((3, 5)))
            i, f, g, o = np.split(a + b, 4)
            c = sigmoid(f + p[1] * c) * c + sigmoid(i + p[0] * c) * np.tanh(g)
            h = sigmoid(o + p[2] * c) * np.tanh(c)
        states.append(h)
    return np.stack(states)


@each_layer
@pytest.mark.parametrize("reverse", [pytest.param(False, marks=pytest.mark.slow), True], ids=["forward", "backward"])
def test_each_sequence_is_read_within_its_own_length(name, reverse):
    layer = LAYERS[name].clone(reverse=reverse)
    params = drawn(LAYERS[name])
    outputs, final = jax.jit(layer.apply)(params, np.where(MASK[..., None], INPUTS, np.nan), None, MASK)
    for inputs, length, output, last in zip(INPUTS, LENGTHS, outputs, final["hidden"], strict=True):
        way = slice(None, None, -1 if reverse else 1)
        expected = in_numpy(name, params, inputs[:length][way])
        np.testing.assert_allclose(output[:length], expected[way], atol=1e-6)
        np.testing.assert_allclose(last, expected[-1], atol=1e-6)
        np.testing.assert_array_equal(output[length:], 0)


@lstm_or_slow
def test_two_halves_with_the_state_between_them_are_one_pass(kind):
    model = kind(hidden=(4,), num_classes=2, output="all")
    params = drawn(model)

    @jax.jit
    def both(params):
        whole, end = model.apply(params, INPUTS, None, method="run")
        first, state = model.apply(params, INPUTS[:, :2], model.initial_state(BATCH), method="run")
        second, last = model.apply(params, INPUTS[:, 2:], state, method="run")
        return (whole, end), (jnp.concatenate([first, second], axis=1), last)

    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), *both(params))


@rnn_or_slow
@pytest.mark.parametrize("bidirectional", [pytest.param(False, marks=pytest.mark.slow), True], ids=["one way", "both"])
def test_padding_changes_neither_outputs_nor_gradients(kind, bidirectional):
    model = kind(hidden=(4,), num_classes=2, bidirectional=bidirectional)
    params = drawn(model)

    @jax.jit
    def run(params, sequence):
        def loss(params, sequence):
            outputs = model.apply(params, {"sequence": sequence, "lengths": LENGTHS - 1})
            return (outputs * jnp.arange(1, 7).reshape(3, 2)).sum(), outputs

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, sequence)

    padding = np.arange(TIME) >= (LENGTHS - 1)[:, None]
    (by_params, by_inputs), outputs = run(params, INPUTS)
    other = run(params, np.where(padding[..., None], np.nan, INPUTS).astype(np.float32))
    jax.tree.map(np.testing.assert_array_equal, other, ((by_params, by_inputs), outputs))
    reached = np.abs(by_inputs).max(axis=-1) > 0
    np.testing.assert_array_equal(reached, ~padding)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(by_params))


@rnn_or_slow
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_no_gradient_comes_from_a_later_step_unless_it_reads_backwards_too(kind, bidirectional):
    model = kind(hidden=(4,), num_classes=1, output="all", bidirectional=bidirectional)
    params = drawn(model)
    jacobian = jax.jit(jax.jacobian(lambda x: model.apply(params, x[None])[0, :, 0]))
    reached = np.abs(jacobian(INPUTS[0])).max(axis=-1) > 0  # (step of the output, step of the input)
    expected = np.ones((TIME, TIME), bool)
    np.testing.assert_array_equal(reached, expected if bidirectional else np.tril(expected))


def test_a_stopped_gradient_truncates_back_propagation_through_time():
    model = RNN(hidden=(4,), num_classes=1, output="all")
    params = drawn(model)

    @jax.jit
    @jax.grad
    def by_inputs(inputs):
        _, state = model.apply(params, inputs[:, :3], None, method="run")
        outputs, _ = model.apply(params, inputs[:, 3:], jax.lax.stop_gradient(state), method="run")
        return outputs.sum()

    reached = np.abs(by_inputs(INPUTS)).max(axis=(0, 2)) > 0
    np.testing.assert_array_equal(reached, np.arange(TIME) >= 3)


@pytest.mark.parametrize(
    "name", [name if name in ("GRU", "LSTM") else pytest.param(name, marks=pytest.mark.slow) for name in LAYERS]
)
def test_gates_and_states_are_seen_as_the_equations_connect_them(name):
    layer, params = LAYERS[name], drawn(LAYERS[name])
    (outputs, _), seen = jax.jit(functools.partial(layer.apply, mutable="intermediates"))(params, INPUTS, None, MASK)
    for inputs, length, output in zip(INPUTS, LENGTHS, outputs, strict=True):
        np.testing.assert_allclose(output[:length], in_numpy(name, params, inputs[:length]), atol=1e-6)
    seen = {key: jax.tree.map(np.asarray, value) for key, (value,) in seen["intermediates"].items()}
    np.testing.assert_array_equal(seen["hidden_states"], outputs)
    gates = seen.get("gates", {})
    assert gates.keys() == ({} if name == "RNN" else dict.fromkeys(layer.gates)).keys()
    for key, gate in gates.items():
        assert gate.shape == (BATCH, TIME, 5)
        np.testing.assert_array_equal(gate[~MASK], 0)
        low = -1 if key == "candidate" else 0
        assert (gate[MASK] > low).all() and (gate[MASK] < 1).all()
    before = {key: np.pad(states, ((0, 0), (1, 0), (0, 0)))[:, :-1] for key, states in seen.items() if key != "gates"}
    if "GRU" in name:
        expected = gates["update"] * before["hidden_states"] + (1 - gates["update"]) * gates["candidate"]
        np.testing.assert_allclose(outputs[MASK], expected[MASK], atol=1e-6)
    if "LSTM" in name:
        cells = gates["forget"] * before["cell_states"] + gates["input"] * gates["candidate"]
        np.testing.assert_allclose(seen["cell_states"][MASK], cells[MASK], atol=1e-6)
        np.testing.assert_allclose(outputs[MASK], (gates["output"] * np.tanh(cells))[MASK], atol=1e-6)


def test_nothing_is_kept_for_looking_unless_somebody_looks():
    layer, params = LAYERS["LSTM"], drawn(LAYERS["LSTM"])

    def stacked(**options):
        jaxpr = jax.make_jaxpr(functools.partial(layer.apply, **options))(params, INPUTS)
        (scan,) = [equation for equation in jaxpr.jaxpr.eqns if equation.primitive.name == "scan"]
        return sum(variable.aval.shape == (TIME, BATCH, 5) for variable in scan.outvars)

    assert stacked() == 1
    assert stacked(mutable="intermediates") == 1 + 4 + 2


def test_the_inputs_are_multiplied_once_for_all_steps():
    jaxpr = jax.make_jaxpr(LAYERS["LSTM"].apply)(drawn(LAYERS["LSTM"]), INPUTS)
    outside = [equation for equation in jaxpr.jaxpr.eqns if equation.primitive.name == "dot_general"]
    (scan,) = [equation for equation in jaxpr.jaxpr.eqns if equation.primitive.name == "scan"]
    inside = [one for one in scan.params["jaxpr"].jaxpr.eqns if one.primitive.name == "dot_general"]
    assert [one.outvars[0].aval.shape for one in outside] == [(TIME, BATCH, 20)]
    assert [one.outvars[0].aval.shape for one in inside] == [(BATCH, 20)]


def test_dropout_acts_in_training_only():
    model = RNN(hidden=(6, 4), num_classes=2)
    params = drawn(model)

    def program(dropout, train):
        apply = functools.partial(model.clone(dropout=dropout).apply, train=train)
        return str(jax.make_jaxpr(apply)(params, INPUTS))

    assert program(0.5, False) == program(None, True) == program(None, False)
    dropping = functools.partial(model.clone(dropout=0.5).apply, train=True)
    train = jax.jit(lambda seed: dropping(params, INPUTS, rngs={"dropout": jax.random.key(seed, impl="rbg")}))
    np.testing.assert_array_equal(train(0), train(0))
    assert (train(0) != train(1)).any()


@pytest.mark.parametrize("name", [pytest.param("GRU", marks=pytest.mark.slow), "LSTM"])
def test_bfloat16_is_close_with_parameters_and_states_in_float32(name):
    layer = LAYERS[name].clone(dtype=jnp.bfloat16)
    params = drawn(LAYERS[name])
    shapes = jax.eval_shape(layer.init, jax.random.key(0), INPUTS)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    outputs, state = jax.jit(layer.apply)(params, INPUTS)
    expected = np.stack([in_numpy(name, params, inputs) for inputs in INPUTS])
    assert outputs.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
    # 8 bits: a rounding is up to 0.4 %, and some of them meet in a sum.
    assert 0 < np.abs(outputs.astype(jnp.float32) - expected).max() < 0.03


def test_each_gate_has_a_matrix_of_its_own_and_the_forget_gate_a_bias_of_its_own():
    def one_value(key, shape, dtype=jnp.float32):
        """The width of the matrix, and something that only the key decides."""
        return jnp.full(shape, shape[-1] + jax.random.uniform(key), dtype)

    model = LSTM(
        hidden=(5,), num_classes=1, peepholes=True, kernel_init=one_value, recurrent_init=one_value,
        bias_init=Constant(3.0), forget_bias_init=Constant(4.0), output_init=Constant(6.0),
    )  # fmt: skip
    params = jax.jit(model.init)(jax.random.key(0), INPUTS)["params"]
    layer = params["recurrent"]["forward_0"]
    drawn_values = set()
    for name in ("kernel", "recurrent"):
        for matrix in np.split(np.asarray(layer[name]), 4, axis=1):
            (value,) = np.unique(matrix)
            assert 5 <= value < 6
            drawn_values.add(float(value))
    assert len(drawn_values) == 8
    np.testing.assert_array_equal(layer["bias"], np.repeat([3, 4, 3, 3], 5))
    np.testing.assert_array_equal(layer["peephole"], np.zeros((3, 5)))
    assert np.unique(params["output"]["kernel"]).tolist() == [6]


def test_inputs_come_in_several_forms():
    model = RNN(hidden=(4,), num_classes=2)
    params, windows = drawn(model, INPUTS[..., :1]), INPUTS[..., 0]

    @jax.jit
    def run(params, lengths):
        plain = model.apply(params, windows), model.apply(params, windows[..., None])
        given = [{"lengths": lengths}, {"mask": MASK}]
        return plain, tuple(model.apply(params, {"sequence": windows, **one}) for one in given)

    for one, other in run(params, LENGTHS):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(mask_from_lengths(LENGTHS, TIME), MASK)
    images = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((2, 7, 5, 3)))["params"]
    assert images["recurrent"]["forward_0"]["kernel"].shape == (15, 4)


def test_no_sequences_and_sequences_of_no_steps():
    model = LSTM(hidden=(4,), num_classes=2, bidirectional=True)
    params = drawn(model)
    assert jax.eval_shape(model.apply, params, INPUTS[:0]).shape == (0, 2)
    # What is said of nothing is what the initial state says: zeros times the weights.
    outputs = model.apply(params, INPUTS[:, :0])
    np.testing.assert_allclose(outputs, np.tile(params["params"]["output"]["bias"], (BATCH, 1)), rtol=1e-6)


def test_tokens_are_looked_up():
    model = RNN(hidden=(4,), num_classes=3, output="all", vocab_size=7, embedding_dim=5)
    tokens = np.arange(6).reshape(2, 3)
    params = drawn(model, tokens)["params"]
    vectors, layers = params["embedding"]["embedding"][tokens], {k: params[k] for k in ("recurrent", "output")}
    outputs = jax.jit(model.apply)({"params": params}, tokens)
    expected = jax.jit(model.clone(vocab_size=None).apply)({"params": layers}, vectors)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


def test_layers_go_into_a_stack_of_others():
    model = Sequential((Recurrent(GRULayer(), (4, 3), bidirectional=True, dropout=0.5), Dropout(0.5), nn.Dense(2)))
    variables = jax.eval_shape(model.init, jax.random.key(0), INPUTS)
    train = functools.partial(model.apply, train=True, rngs={"dropout": jax.random.key(0)})
    assert jax.eval_shape(train, variables, INPUTS).shape == (BATCH, TIME, 2)


SMALL = CRNN((ConvStage(3, batch_norm=True, pool=(2, 2)), ConvStage(4, pool=(2, 1))), hidden=(5, 4), num_classes=6)


def test_a_crnn_reads_lines_of_any_width():
    variables = jax.eval_shape(SMALL.init, jax.random.key(0), jnp.ones((2, 8, 10, 1)))
    for width, columns in ((10, 5), (14, 7)):
        assert jax.eval_shape(SMALL.apply, variables, jnp.ones((2, 8, width, 1))).shape == (2, columns, 6)


@pytest.mark.slow
def test_a_crnn_has_a_step_for_each_column():
    # A convolution sees its neighbours, a bidirectional layer everything: without the layer a column is local.
    images = np.random.default_rng(1).normal(size=(2, 8, 10, 1)).astype(np.float32)
    variables = jax.jit(SMALL.init)(jax.random.key(0), images)

    @jax.jit
    def run(images):
        def column(images):
            _, seen = SMALL.apply(variables, images, capture_intermediates=True, mutable=["intermediates"])
            return (seen["intermediates"]["conv_1"]["__call__"][0][:, :, 0] ** 2).sum()

        def logits(images):
            return (SMALL.apply(variables, images)[:, 0] ** 2).sum()

        return jax.grad(column)(images), jax.grad(logits)(images)

    reached = [np.abs(gradient).max(axis=(0, 1, 3)) > 0 for gradient in run(images)]
    assert reached[0].tolist() == [True] * 5 + [False] * 5
    assert reached[1].all()


@pytest.mark.slow
def test_a_crnn_normalises_by_the_batch_in_training_only():
    images = np.random.default_rng(1).normal(size=(2, 8, 10, 1)).astype(np.float32)
    variables = jax.jit(SMALL.init)(jax.random.key(0), images)
    train, state = jax.jit(functools.partial(SMALL.apply, train=True, mutable=["batch_stats"]))(variables, images)
    assert (train != SMALL.apply(variables, images)).any()
    jax.tree.map(
        lambda a, b: np.testing.assert_array_less(0, np.abs(a - b).max()),
        state,
        {"batch_stats": variables["batch_stats"]},
    )


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (LSTM(), jnp.ones((2, 3, 4)), r"LSTM\(num_classes=None\)"),
        (GRU(num_classes=2, hidden=()), jnp.ones((2, 3, 4)), r"GRU\(hidden=\(\)\)"),
        (RNN(num_classes=2), jnp.ones(3), r"not inputs of shape \(3,\)"),
        (RNN(num_classes=2), jnp.ones((2, 3), int), "give vocab_size for tokens"),
        (RNN(num_classes=2, vocab_size=5), jnp.ones((2, 3)), r"vocab_size=5\) takes tokens"),
        (RNN(num_classes=2, vocab_size=5), jnp.ones((2, 3, 4), int), r"tokens \(batch, time\)"),
        (LSTM(num_classes=2), {"sequence": jnp.ones((2, 3, 4)), "length": 1}, r"not \['length', 'sequence'\]"),
        (LSTM(num_classes=2), {"sequence": jnp.ones((2, 3, 4)), "lengths": jnp.ones(3, int)}, r"one length a sequence"),
        (LSTM(num_classes=2), {"sequence": jnp.ones((2, 3, 4)), "mask": jnp.ones((2, 4), bool)}, r"here \(2, 3\)"),
        (LSTMLayer(4), jnp.ones((2, 3)), r"LSTMLayer takes sequences"),
        (LSTMLayer(), jnp.ones((2, 3, 4)), r"LSTMLayer\(features=None\)"),
        (CRNN(), jnp.ones((2, 8, 8, 1)), r"CRNN\(num_classes=None\)"),
        (CRNN(num_classes=2), jnp.ones((2, 8, 8)), r"not inputs of shape \(2, 8, 8\)"),
        (CRNN(num_classes=2), jnp.ones((2, 3, 8, 1)), "images of 3 x 8 pixels are too small"),
        (CRNN(num_classes=2, hidden=()), jnp.ones((2, 8, 8, 1)), r"CRNN\(hidden=\(\)\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_does_not_fit_is_said(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), inputs)


def test_states_that_do_not_fit_are_refused():
    def run(model, state, method="run"):
        jax.eval_shape(functools.partial(model.init, method=method), jax.random.key(0), INPUTS, state)

    model = LSTM(hidden=(4,), num_classes=2)
    state = model.initial_state(BATCH)
    run(model, state)
    with pytest.raises(ValueError, match="has forward_0, not forward_1"):
        run(model, {"forward_1": state["forward_0"]})
    with pytest.raises(ValueError, match=r"takes a state of the shapes .*\(3, 4\)"):
        run(model, model.initial_state(BATCH + 1))
    with pytest.raises(ValueError, match="takes a state of the shapes"):
        run(LSTMLayer(4), {"hidden": state["forward_0"]["hidden"]}, method=None)
    with pytest.raises(ValueError, match="cannot go on from a state"):
        run(model.clone(bidirectional=True), state)


@each_model
def test_weights_go_to_pytorchs_names_and_back(kind):
    interop, models = INTEROP[kind], {"num_classes": 2, "hidden": (4, 4)}
    model = kind(bidirectional=True, vocab_size=9, embedding_dim=3, **models)
    variables = drawn(model, np.zeros((1, 2), int))
    names = {"recurrent": "core", "output": "head"}
    written = interop.to_torch(model, variables, names)
    gates = {RNN: 1, GRU: 3, LSTM: 4}[kind]
    assert written["core.weight_ih_l1_reverse"].shape == (gates * 4, 8)
    assert {key.partition(".")[0] for key in written} == {"embedding", "core", "head"}
    jax.tree.map(np.testing.assert_array_equal, interop.from_torch(model, written, names), variables)
    two_biases = {key: np.ones_like(array) for key, array in written.items()}
    read = interop.from_torch(model, two_biases, names)["params"]["recurrent"]["forward_0"]
    np.testing.assert_array_equal(read["bias"][:4], 2)
    if kind is GRU:
        np.testing.assert_array_equal(read["bias"][8:], 1)
        np.testing.assert_array_equal(read["recurrent_bias"], 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias_hh_l0": None}, "bias_hh_l0 is missing"),
        ({"weight_ih_l1": np.ones((16, 4))}, "weight_ih_l1 is left over"),
        (
            {"bias_hh_l0": np.ones(1)},
            r"bias_ih_l0 \(16,\), bias_hh_l0 \(1,\) does not fit params/forward_0/bias \(16,\)",
        ),
        (
            {"weight_hh_l0": np.ones((16, 5))},
            r"weight_hh_l0 \(16, 5\) does not fit params/forward_0/recurrent \(4, 16\)",
        ),
    ],
    ids=["missing", "left over", "biases", "shape"],
)
def test_weights_that_are_another_networks_are_refused(change, message):
    stack = Recurrent(LSTMLayer(), (4,))
    weights = {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "bias_ih_l0": (16,), "bias_hh_l0": (16,)}
    arrays = {key: np.ones(shape) for key, shape in weights.items()} | change
    with pytest.raises(RequestError, match=message):
        lstm.from_torch(stack, {key: array for key, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    ("interop", "module", "message"),
    [
        (lstm, LSTMLayer(4, peepholes=True), "no peepholes"),
        (gru, GRULayer(4, reset_after=False), "reset_after=False"),
        (gru, Recurrent(LSTMLayer(), (4,)), "GRULayer, not LSTMLayer"),
        (rnn, RNN(), "num_classes=None"),
        (rnn, nn.Dense(3), "Dense is no recurrent model"),
    ],
    ids=["peepholes", "reset gate", "kind", "open size", "no recurrence"],
)
def test_what_pytorch_has_not_is_refused(interop, module, message):
    with pytest.raises(RequestError, match=message):
        interop.from_torch(module, {})
    with pytest.raises(RequestError, match="names: a model has embedding, recurrent, output, and no lstm"):
        interop.from_torch(module, {}, {"lstm": "core"})
