"""The training step of every architecture is a program for CPU, CUDA and TPU alike."""

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import pytest
from architectures import ARCHITECTURES

import neuralmon as nm
from neuralmon.inspection import with_train
from neuralmon.models.presets import PRESETS

PLATFORMS = ("cpu", "cuda", "tpu")
# The smallest and the largest network of each family that is published in sizes.
FAMILIES = [
    *("lenet5", "pokemon_cnn", "crnn_vgg", "resnet20", "resnet110", "resnet110_v2", "resnet18", "resnet152"),
    *("transformer_base", "transformer_big", "bert_base", "bert_large", "vit_tiny", "vit_huge"),
    *("gan_mnist", "conditional_gan_mnist", "dcgan_28", "dcgan_64"),
    *("gpt1", "gpt2_small", "gpt2_xl", "gpt3_small", "gpt3_175b"),
]


def lower(model, inputs):
    """Returns the step's program: gradients of a loss that sees all outputs, statistics, and an update of AdamW."""
    optimizer = nm.optim.AdamW().transform(10)

    def init(inputs):
        variables = model.init(jax.random.key(0), inputs)
        return variables, optimizer.init(variables["params"])

    def step(variables, optimizer_state, inputs, seed):
        state = {name: tree for name, tree in variables.items() if name != "params"}

        def loss(params):
            outputs, changed = model.apply(
                {"params": params, **state},
                inputs,
                rngs={"dropout": jax.random.key(seed)},
                mutable=list(state),
                **with_train(model, {}, True),
            )
            return sum(jnp.square(leaf).mean() for leaf in jax.tree.leaves(outputs)), changed

        gradients, changed = jax.grad(loss, has_aux=True)(variables["params"])
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, variables["params"])
        params = jax.tree.map(jnp.add, variables["params"], updates)
        return {"params": params, **changed}, optimizer_state

    shapes = jax.eval_shape(init, inputs)
    return jax.export.export(jax.jit(step), platforms=PLATFORMS)(*shapes, inputs, jnp.int32(0))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_step_lowers_for_three_platforms(name):
    exported = lower(*ARCHITECTURES[name]())
    assert exported.platforms == PLATFORMS
    assert len(exported.mlir_module_serialized) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_step_of_published_networks_lowers(name):
    preset = PRESETS[name]
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), preset.inputs)
    assert lower(preset.model, batch).platforms == PLATFORMS


def test_every_architecture_is_there():
    def is_model(value):
        return isinstance(value, type) and issubclass(value, nn.Module)

    known = {type(make()[0]).__name__ for make in ARCHITECTURES.values()}
    assert {name for name, value in vars(nm.models).items() if is_model(value)} - known == set()
    families = {type(PRESETS[name].model) for name in FAMILIES}
    assert {type(preset.model) for preset in PRESETS.values()} == families
