"""Models as files: the same outputs for every batch size, and what is wrong is said."""

import json
import zipfile

import flax
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.errors import RequestError
from neuralmon.interop.exporting import export, load_export
from neuralmon.layers import TransformerBlock
from neuralmon.models import CNN, MLP

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(4, 3)).astype(np.float32)


class TwoInputs(nn.Module):
    """A dict of inputs, running statistics, dropout, and bfloat16 parameters."""

    @nn.compact
    def __call__(self, inputs, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train)(inputs["left"])
        x = nn.Dropout(0.5, deterministic=not train)(x)
        x = nn.Embed(5, 3)(inputs["right"]) + nn.Dense(3, param_dtype=jnp.bfloat16)(x)
        return {"sum": x.sum(axis=-1), "all": (x,)}


class Attention(nn.Module):
    """A block that looks only back, and whose outputs are one array."""

    @nn.compact
    def __call__(self, x):
        mask = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))[None, None]
        return TransformerBlock(2, 8)(x, mask)[0]


def drawn(model, inputs):
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda leaf: RNG.uniform(0.1, 0.5, leaf.shape).astype(leaf.dtype), shapes)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (MLP((5,), num_classes=2, dropout=0.5), POINTS),
        (CNN((4, 6), 8, num_classes=3), RNG.normal(size=(3, 9, 8, 1)).astype(np.float32)),
        (Attention(), RNG.normal(size=(2, 5, 4)).astype(np.float32)),
        (TwoInputs(), {"left": POINTS, "right": np.arange(4) % 5}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_file_computes_what_the_model_does(model, inputs, tmp_path):
    variables = drawn(model, inputs)
    export(model, variables, inputs, tmp_path / "model.nmx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.nmx"]
    loaded = load_export(tmp_path / "model.nmx")
    assert loaded.program.platforms == ("cpu", "cuda", "tpu")
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, variables)
    for batch in (inputs, jax.tree.map(lambda leaf: np.concatenate([leaf, leaf[:1]]), inputs)):
        expected = jax.jit(model.apply)(variables, batch)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), loaded(batch), expected)


def test_with_other_weights(tmp_path):
    model = MLP((5,), num_classes=2)
    export(model, drawn(model, POINTS), POINTS, tmp_path / "model")
    other = drawn(model, POINTS)
    loaded = load_export(tmp_path / "model")
    np.testing.assert_allclose(loaded(POINTS, other), model.apply(other, POINTS), rtol=1e-5)
    np.testing.assert_array_equal(jax.jit(loaded)(POINTS), loaded(POINTS))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model"
    model = TwoInputs()
    inputs = {"left": POINTS, "right": np.arange(4)}
    export(model, drawn(model, inputs), inputs, path)
    return path


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (POINTS, r"have to be {left: float32 \(batch, 3\), right: int32 \(batch\)}, not float32 \(4, 3\)"),
        ({"left": POINTS[:, :2], "right": np.arange(4)}, r"{left: float32 \(4, 2\), right: int64 \(4\)} do not fit"),
        ({"left": POINTS, "right": np.arange(3)}, r"right: int64 \(3\)} do not fit"),
        ({"left": POINTS, "right": np.ones(4)}, r"right: float64 \(4\)} do not fit"),
        ({"left": POINTS, "right": 3}, r"right: int64 \(\)} do not fit"),
        ({"left": POINTS[:0], "right": np.arange(0)}, r"right: int64 \(0\)} do not fit"),
    ],
)
def test_inputs_that_do_not_fit(written, inputs, message):
    with pytest.raises(RequestError, match=message):
        load_export(written)(inputs)


def test_one_platform_and_one_batch_size(tmp_path):
    model = MLP((5,), num_classes=2)
    frozen = flax.core.freeze(drawn(model, POINTS))
    export(model, frozen, POINTS, tmp_path / "model", platforms="tpu", batch_size=4)
    loaded = load_export(tmp_path / "model")
    assert loaded.about["inputs"] == ["float32[4,3]"]
    with pytest.raises(RequestError, match="exported for tpu and cannot run on cpu"):
        loaded(POINTS)


class Halves(nn.Module):
    """Treats small batches otherwise, which no symbolic size can answer."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x if x.shape[0] > 2 else -x)


class Odd(nn.Module):
    """Has outputs of a class of its own."""

    @nn.compact
    def __call__(self, x):
        return Box(nn.Dense(2)(x))


@flax.struct.dataclass
class Box:
    content: jax.Array


def test_models_that_cannot_be_exported(tmp_path):
    model = Halves()
    with pytest.raises(RequestError, match=r"Halves does not export for every batch size \(.*\): give batch_size="):
        export(model, drawn(model, POINTS), POINTS, tmp_path / "model")
    export(model, drawn(model, POINTS), POINTS, tmp_path / "fixed", batch_size=4)
    with pytest.raises(RequestError, match="the outputs of Odd cannot go into a file"):
        export(Odd(), drawn(Odd(), POINTS), POINTS, tmp_path / "model")
    with pytest.raises(RequestError, match="not those of this MLP"):
        export(MLP((5,), num_classes=2), drawn(MLP((4,), num_classes=2), POINTS), POINTS, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["fixed"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("", {}, "is a folder"),
        ("nowhere/model", {}, "there is no folder .*nowhere"),
        ("model", {"platforms": ("cpu", "gpu")}, "give one or more of cpu, cuda, rocm, tpu"),
        ("model", {"platforms": ()}, "give one or more"),
        ("model", {"batch_size": 0}, "batch_size=0: give 1 or more"),
    ],
)
def test_what_cannot_be_asked_of_a_file(name, options, message, tmp_path):
    model = MLP((5,), num_classes=2)
    with pytest.raises(RequestError, match=message):
        export(model, drawn(model, POINTS), POINTS, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_program_of_float64_says_what_it_needs(tmp_path):
    model = MLP((5,), num_classes=2, dtype=jnp.float64)
    with jax.enable_x64(True):
        export(model, drawn(model, POINTS), POINTS.astype(np.float64), tmp_path / "model")
        loaded = load_export(tmp_path / "model")
        assert loaded(POINTS).dtype == np.float64
    with pytest.raises(RequestError, match=r"the program takes float64: call it with jax\.enable_x64"):
        loaded(POINTS)


def test_files_that_cannot_be_read(written, tmp_path):
    with pytest.raises(RequestError, match="there is no such file"):
        load_export(tmp_path / "nothing")
    damaged = tmp_path / "damaged"
    damaged.write_bytes(written.read_bytes()[:500])
    with pytest.raises(RequestError, match=r"damaged is damaged or was not written by nm\.interop\.export"):
        load_export(damaged)
    with zipfile.ZipFile(written) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}

    def rewritten(name, **changes):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for key, value in {**content, **changes}.items():
                archive.writestr(key, value)
        return tmp_path / name

    about = json.loads(content["about.json"])
    future = rewritten(
        "future", **{"about.json": json.dumps({**about, "jax": "9.9", "calling_convention_version": 99})}
    )
    with pytest.raises(RequestError, match=r"written by jax 9\.9 with calling convention 99; jax .* reads \d+ to \d+"):
        load_export(future)
    with pytest.raises(RequestError, match=r"cannot be read by jax"):
        load_export(rewritten("broken", **{"program.bin": b"nothing"}))
