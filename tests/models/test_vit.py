"""ViT: patches and their places, weights across, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.errors import RequestError
from neuralmon.interop.vit import from_huggingface, to_huggingface
from neuralmon.models import ViT

RNG = np.random.default_rng(0)
MODEL = ViT(3, patch_size=2, num_layers=1, num_heads=2, width=8, feedforward_dim=8)
IMAGES = RNG.normal(size=(2, 4, 6, 3)).astype(np.float32)
SHAPES = jax.eval_shape(MODEL.init, jax.random.key(0), IMAGES)
VARIABLES = jax.tree.map(lambda leaf: 0.5 * RNG.normal(size=leaf.shape).astype(np.float32), SHAPES)
apply = jax.jit(MODEL.apply)
look = jax.jit(lambda variables, images: MODEL.apply(variables, images, mutable="intermediates"))


def patches_of(images):
    """Returns [batch, patches, pixels of a patch], row by row."""
    rows = [images[:, i : i + 2, j : j + 2].reshape(len(images), -1) for i in range(0, 4, 2) for j in range(0, 6, 2)]
    return np.stack(rows, axis=1)


def test_what_goes_into_the_first_block():
    """Eq. 1: a class token, then a linear map of each patch's pixels, and a position on each."""
    logits, seen = look(VARIABLES, IMAGES)
    assert logits.shape == (2, 3) and logits.dtype == jnp.float32
    params = VARIABLES["params"]
    embedding = params["patch_embedding"]
    patches = patches_of(IMAGES) @ embedding["kernel"].reshape(-1, 8) + embedding["bias"]
    tokens = np.concatenate([np.broadcast_to(params["class_token"], (2, 1, 8)), patches], axis=1)
    first = seen["intermediates"]["encoder"]["hidden_states"][0]
    np.testing.assert_allclose(first, tokens + params["position_embedding"], atol=1e-5)
    assert seen["intermediates"]["encoder"]["layers_0"]["attention"]["attention_weights"][0].shape == (2, 2, 7, 7)


def test_only_positions_tell_patches_apart():
    """Without them an image whose patches are mixed up is the same image."""
    mixed = IMAGES.reshape(2, 2, 2, 3, 2, 3)[:, ::-1, :, [2, 0, 1]].reshape(IMAGES.shape)
    np.testing.assert_allclose(np.sort(patches_of(mixed), axis=1), np.sort(patches_of(IMAGES), axis=1))
    assert np.abs(apply(VARIABLES, mixed) - apply(VARIABLES, IMAGES)).max() > 1e-2
    params = {**VARIABLES["params"], "position_embedding": np.zeros((1, 7, 8), np.float32)}
    np.testing.assert_allclose(apply({"params": params}, mixed), apply({"params": params}, IMAGES), atol=1e-5)


def test_weights_go_to_transformers_and_back():
    state = to_huggingface(MODEL, VARIABLES)
    old = to_huggingface(MODEL, VARIABLES, release=4)
    assert "vit.layers.0.attention.o_proj.weight" in state
    assert "vit.encoder.layer.0.attention.output.dense.weight" in old and "vit.encoder.layer.0.output.dense.bias" in old
    assert not {key for key in state if ".layers." in key} & old.keys()
    for names in (state, old):
        jax.tree.map(np.testing.assert_array_equal, from_huggingface(MODEL, names), VARIABLES)
    # For other classes than the weights have.
    again = from_huggingface(
        MODEL.clone(num_classes=5), {**old, "vit.pooler.dense.bias": np.zeros(8)}, jax.random.key(0)
    )
    np.testing.assert_array_equal(again["params"].pop("output")["kernel"], np.zeros((8, 5)))
    with pytest.raises(RequestError, match=r"classifier.weight \(3, 8\) does not fit params/output/kernel \(8, 5\)"):
        from_huggingface(MODEL.clone(num_classes=5), state)
    with pytest.raises(RequestError, match=r"vit.embeddings.cls_token is missing"):
        from_huggingface(MODEL, {key: one for key, one in state.items() if "cls_token" not in key})


def test_other_numbers_of_images_and_of_patches():
    assert jax.eval_shape(MODEL.apply, VARIABLES, IMAGES[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match="ViT has positions for 6 patches: images of 4 x 4 pixels are 4 patches"):
        jax.eval_shape(MODEL.apply, VARIABLES, IMAGES[:, :, :4])


@pytest.mark.parametrize(
    ("options", "images", "message"),
    [
        ({"num_classes": None}, IMAGES, r"ViT\(num_classes=None\)"),
        ({"num_heads": 3}, IMAGES, "width of 8 into 3 heads"),
        ({"patch_size": 4}, IMAGES, r"ViT\(patch_size=4\) cannot cut images of 4 x 6 pixels into whole patches"),
        ({}, IMAGES[:, :0], "cannot cut images of 0 x 6 pixels"),
        ({}, IMAGES[0], r"takes images \(batch, height, width, channels\), not inputs of shape \(4, 6, 3\)"),
    ],
)
def test_errors(options, images, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(MODEL.clone(**options).init, jax.random.key(0), images)
