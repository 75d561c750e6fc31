"""Models, layers and ops in other people's programs: plain JAX, Flax NNX, and what importing costs."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import neuralmon as nm

PACKAGE = Path(nm.__file__).parent
IMAGES = jax.random.normal(jax.random.key(1), (4, 12, 12, 1))
LABELS = jnp.array([0, 3, 1, 2])


def cross_entropy(logits):
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()


def test_a_model_trains_from_plain_jax():
    model = nm.models.CNN(features=(4, 8), hidden=16, num_classes=10)
    variables = jax.jit(model.init)(jax.random.key(0, impl="rbg"), IMAGES)
    step = jax.jit(jax.value_and_grad(lambda variables: cross_entropy(model.apply(variables, IMAGES))))
    losses = []
    for _ in range(20):
        loss, gradients = step(variables)
        variables = jax.tree.map(lambda w, g: w - 0.1 * g, variables, gradients)
        losses.append(float(loss))
    assert model.apply(variables, IMAGES).shape == (4, 10)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_a_model_trains_from_nnx():
    model = nm.models.CNN(features=(4,), hidden=16, num_classes=10)
    wrapped = nnx.bridge.lazy_init(nnx.bridge.ToNNX(model, rngs=nnx.Rngs(0)), IMAGES)
    params = nnx.to_pure_dict(nnx.state(wrapped, nnx.Param))
    np.testing.assert_allclose(wrapped(IMAGES), model.apply({"params": params}, IMAGES), rtol=1e-5, atol=1e-6)

    loss, gradients = nnx.jit(nnx.value_and_grad(lambda wrapped: cross_entropy(wrapped(IMAGES))))(wrapped)
    reference = jax.jit(jax.value_and_grad(lambda params: cross_entropy(model.apply({"params": params}, IMAGES))))
    expected_loss, expected = reference(params)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
    gradients = nnx.to_pure_dict(gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradients, expected)


def test_ops_go_into_other_peoples_modules():
    layer = nnx.Conv(1, 4, (3, 3), conv_general_dilated=nm.ops.conv_general_dilated, rngs=nnx.Rngs(0))
    plain = nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0))
    np.testing.assert_allclose(layer(IMAGES), plain(IMAGES), rtol=1e-5, atol=1e-6)


def imports(path):
    """Returns the full names of everything that a file imports, at any depth of it."""
    room = path.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*room[: len(room) + 1 - node.level]] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("room", "downwards"),
    [("ops", ("ops",)), ("layers", ("layers", "ops", "fields")), ("models", ("models", "layers", "ops", "fields"))],
)
def test_models_layers_and_ops_can_be_lifted_into_another_project(room, downwards):
    others = {"flax", "jax", "jaxtyping", "numpy"} | sys.stdlib_module_names
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        for name in imports(path):
            top, *rest = name.split(".")
            if top == "neuralmon":
                assert rest, path
                assert rest[0] in downwards, (path, name)
            else:
                assert top in others, (path, name)


def test_model_files_are_short():
    files = {path.stem: len(path.read_text().splitlines()) for path in (PACKAGE / "models").glob("[a-z]*.py")}
    lengths = [
        length for name, length in files.items() if name not in ("presets", "generation", "beam_search")
    ]  # no architectures
    assert statistics.median(lengths) < 150


def test_fields_stand_alone():
    assert {name.split(".")[0] for name in imports(PACKAGE / "fields.py")} <= sys.stdlib_module_names


def test_importing_neuralmon_loads_nothing_heavy_and_starts_no_device():
    heavy = ["tensorflow", "orbax", "rich", "tensorboardX", "grain", "matplotlib", "torch", "sklearn"]
    # Flax itself loads rich.
    program = (
        "import sys, flax.linen, optax; before = set(sys.modules); import neuralmon; from jax._src import xla_bridge; "
        f"new = set(sys.modules) - before; print(new & set({heavy}), xla_bridge.backends_are_initialized())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent, timeout=120
    )
    assert result.stdout.strip() == "set() False", result.stdout + result.stderr
