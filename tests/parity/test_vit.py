"""ViT beside Hugging Face's `ViTForImageClassification`."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import Case, Result, both_types, cotangent, ours, random_variables

from neuralmon.interop.vit import from_huggingface, to_huggingface
from neuralmon.interop.weights import shapes_of
from neuralmon.models.vit import ViT

BATCH, CLASSES = 3, 4


def vit(size, channels, options, dtype):
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"patch_size": 4, "num_layers": 2, "num_heads": 2, "width": 8, "feedforward_dim": 20} | options
    model = ViT(CLASSES, **sizes, norm_epsilon=1e-12, dtype=jnp.dtype(dtype))
    config = ViTConfig(
        hidden_size=model.width,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_heads,
        intermediate_size=model.feedforward_dim,
        image_size=size,
        patch_size=model.patch_size,
        num_channels=channels,
        num_labels=CLASSES,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="sdpa",  # the other one has its softmax in float32, whatever the type
    )
    images = np.random.default_rng(5).normal(size=(BATCH, *size, channels)).astype(dtype)
    variables = random_variables(shapes_of(model.init, images), dtype)
    weights = cotangent((BATCH, CLASSES), dtype)

    net = ViTForImageClassification(config).to(getattr(torch, dtype)).eval()
    state = {key: torch.tensor(array) for key, array in to_huggingface(model, variables).items()}
    net.load_state_dict(state, strict=True)
    logits = net(torch.tensor(images).permute(0, 3, 1, 2)).logits
    (logits * torch.tensor(weights)).sum().backward()
    gradients = {key: leaf.grad for key, leaf in net.named_parameters()}
    theirs = Result(logits.detach().numpy(), from_huggingface(model, gradients)["params"])
    return ours(model.apply, variables, images, weights), theirs


def case(name, size, channels, **options):
    run = partial(vit, size, channels, options)
    return Case("ViT", name, "ViTForImageClassification", "transformers", run)


CASES = [
    case("8 x 8, colour", (8, 8), 3),
    case("12 x 8, grey", (12, 8), 1),
    case("another size", (10, 15), 2, patch_size=5, num_layers=3, num_heads=3, width=12, feedforward_dim=9),
]


@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_vit(case, dtype):
    case.check(dtype)


@pytest.mark.parametrize("release", [4, 5])
def test_transformers_reads_files_with_the_names_of_both_releases(release, tmp_path):
    pytest.importorskip("transformers")
    from safetensors.numpy import save_file
    from transformers import ViTConfig, ViTForImageClassification

    config = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
    config = ViTConfig(**config, image_size=8, patch_size=4, num_labels=CLASSES)
    model = ViT(CLASSES, 4, 2, 2, 8, 20, norm_epsilon=1e-12)
    images = np.random.default_rng(5).normal(size=(BATCH, 8, 8, 3)).astype("float32")
    variables = random_variables(shapes_of(model.init, images), "float32")
    config.save_pretrained(tmp_path)
    save_file(to_huggingface(model, variables, release), tmp_path / "model.safetensors", {"format": "pt"})
    net, found = ViTForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(found.values()), found
    again = {key: tensor.numpy() for key, tensor in net.state_dict().items()}
    expected = to_huggingface(model, variables)
    assert again.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(again[key], array, err_msg=key)
    again = from_huggingface(model, tmp_path)["params"]
    np.testing.assert_array_equal(again["class_token"], variables["params"]["class_token"])
    net.save_pretrained(tmp_path / "theirs")
    again = to_huggingface(model, from_huggingface(model, tmp_path / "theirs"))
    assert all(np.array_equal(again[key], array) for key, array in expected.items())
