"""Every architecture as an ONNX file, run by ONNX Runtime: the outputs are ours, for every batch size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import ARCHITECTURES, drawn

from neuralmon import ops
from neuralmon.errors import RequestError
from neuralmon.interop.onnx import to_onnx
from neuralmon.interop.onnx_program import evaluate
from neuralmon.models import MLP


def run(path, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    assert [output.name for output in session.get_outputs()] == ["outputs"]
    return session.run(None, inputs if isinstance(inputs, dict) else {"inputs": inputs})[0]


def assert_close(ours, expected):
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_onnx_runtime_computes_the_same(name, tmp_path):
    pytest.importorskip("jax2onnx")
    model, inputs = ARCHITECTURES[name]()
    variables = drawn(model, inputs)
    to_onnx(model, variables, inputs, tmp_path / "model.onnx")
    for batch in (inputs, jax.tree.map(lambda leaf: np.concatenate([leaf, leaf[:1]]), inputs)):
        assert_close(run(tmp_path / "model.onnx", batch), np.asarray(jax.jit(model.apply)(variables, batch)))


WORDS = ("reduce_window_max", "reverse=True", "unstack")


@pytest.mark.parametrize("name", ["ResNet, ImageNet", "GRU, both directions", "CNN", "LSTM"])
def test_the_program_in_other_operations_computes_the_same(name):
    model, inputs = ARCHITECTURES[name]()
    variables = jax.tree.map(jnp.asarray, drawn(model, inputs))
    with ops.reference():
        program = jax.make_jaxpr(lambda inputs: model.apply(variables, inputs))(inputs)
    assert any(word in str(program) for word in WORDS)

    def other(inputs):
        return evaluate(program, inputs)

    text = str(jax.make_jaxpr(other)(inputs))
    assert not any(word in text for word in WORDS)
    assert_close(np.asarray(jax.jit(other)(inputs)[0]), np.asarray(jax.jit(model.apply)(variables, inputs)))


def test_mistakes(tmp_path):
    points = np.zeros((2, 3), np.float32)
    model = MLP((4,), num_classes=2)
    with pytest.raises(RequestError, match="not those of this MLP"):
        to_onnx(model, drawn(MLP((5,), num_classes=2), points), points, tmp_path / "model.onnx")
    try:
        import jax2onnx  # noqa: F401
    except ImportError:
        with pytest.raises(RequestError, match=r"ONNX files need packages more: pip install 'neuralmon\[onnx\]'"):
            to_onnx(model, drawn(model, points), points, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
