"""GAN, DCGAN, spectral normalisation and gradient penalties beside PyTorch.

The reference networks are put together here of PyTorch's layers, which are called as ours are.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import Case, Result, both_types, cotangent, random_variables

from neuralmon.interop import weights
from neuralmon.layers import ConvTranspose
from neuralmon.models import GAN, DCGANDiscriminator, DCGANGenerator, MLPDiscriminator, MLPGenerator
from neuralmon.tasks import GradientPenalty, R1Penalty

BATCH, LATENT, CLASSES = 5, 7, 4
LABELS = np.array([0, 3, 1, 3, 2])


def draw(shape, dtype, seed=2):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# Which of our variables are which of theirs.


def mirrored(ours, theirs):
    """A transposed convolution's kernel: (height, width, in, out), mirrored, of (in, out, height, width)."""
    return weights.Entry(
        (ours,),
        (theirs,),
        lambda tensor: (tensor.transpose(2, 3, 0, 1)[::-1, ::-1],),
        lambda array: (array[::-1, ::-1].transpose(2, 3, 0, 1),),
    )


def right_vector(ours, theirs, size):
    """The vector v of a kernel: its inputs are (height, width, channels), there (channels, height, width)."""
    height, width, channels = size
    return weights.Entry(
        (ours,),
        (theirs,),
        lambda tensor: (tensor.reshape(channels, height, width).transpose(1, 2, 0).reshape(-1),),
        lambda array: (array.reshape(height, width, channels).transpose(2, 0, 1).reshape(-1),),
    )


# What a layer's variables are called by PyTorch: without spectral normalisation, with its two ways to do it.
PLAIN = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
HOOK = PLAIN | {"kernel": "weight_orig", "u": "weight_u", "v": "weight_v"}
PARAMETRIZATION = PLAIN | {
    "kernel": "parametrizations.weight.original",
    "u": "parametrizations.weight.0._u",
    "v": "parametrizations.weight.0._v",
}


def entries_of(variables, called):
    leaves = weights.flatten(variables)
    for path, leaf in leaves.items():
        _, *layer, kind = path.split("/")
        layer[-1] = layer[-1].removesuffix("_spectral")
        normal = called if "discriminator" in layer else PLAIN
        theirs = ".".join([*layer, normal[kind]])
        kernel = leaves.get("/".join(["params", *layer, "kernel"]))
        if kind == "kernel" and leaf.ndim == 4:
            yield mirrored(path, theirs) if "generator" in layer else weights.transposed(path, theirs, (2, 3, 1, 0))
        elif kind == "kernel":
            yield weights.transposed(path, theirs)
        elif kind == "v" and kernel.ndim == 4:
            yield right_vector(path, theirs, kernel.shape[:-1])
        else:
            yield weights.same(path, theirs)


def layers_of(torch, params, name):
    """Returns PyTorch's layers of these sizes."""

    def layer(own):
        if "scale" in own:
            return torch.nn.BatchNorm2d(own["scale"].size)
        *size, inputs, outputs = own["kernel"].shape
        if not size:
            return torch.nn.Linear(inputs, outputs, bias="bias" in own)
        options = {"stride": 2, "padding": [n // 2 for n in size], "bias": "bias" in own}
        if name == "generator":
            return torch.nn.ConvTranspose2d(inputs, outputs, size, output_padding=1, **options)
        return torch.nn.Conv2d(inputs, outputs, size, **options)

    return torch.nn.ModuleDict({key: layer(own) for key, own in params.items()})


# The networks in PyTorch; images are (batch, height, width, channels) here too.


def mlp_generator(torch, model, layers, noise, labels):
    x = torch.relu(layers["hidden_0"](noise))
    if labels is not None:
        x = torch.cat([x, torch.relu(layers["labels"](labels))], dim=1)
    for index in range(1, len(model.hidden)):
        x = torch.relu(layers[f"hidden_{index}"](x))
    return torch.sigmoid(layers["output"](x)).reshape(BATCH, *model.sample_shape)


def mlp_discriminator(torch, model, layers, x, labels):
    def maxout(name, x, pieces):
        x = layers[name](x).unflatten(1, (-1, pieces)).max(dim=2).values
        return torch.tanh(x) if model.activation else x

    x = x.flatten(1)
    for index, pieces in enumerate(model.pieces):
        x = maxout(f"hidden_{index}", x, pieces)
        if index == 0 and labels is not None:
            x = torch.cat([x, maxout("labels", labels, pieces)], dim=1)
    return layers["output"](x)[:, 0]


def dcgan_generator(torch, model, layers, noise, labels):
    x = noise if labels is None else torch.cat([noise, labels], dim=1)
    count = len(model.features)
    height, width = (size // 2**count for size in model.sample_shape[:2])
    x = layers["project"](x).reshape(BATCH, height, width, -1).permute(0, 3, 1, 2)
    for index in range(count):
        if model.batch_norm:
            x = layers[f"norm_{index}"](x)
        x = layers[f"conv_{index}"](torch.relu(x))
    return torch.tanh(x).permute(0, 2, 3, 1)


def dcgan_discriminator(torch, model, layers, x, labels):
    x = x.permute(0, 3, 1, 2)
    if labels is not None:
        x = torch.cat([x, labels[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)
    for index in range(len(model.features)):
        x = layers[f"conv_{index}"](x)
        if model.batch_norm and index:
            x = layers[f"norm_{index}"](x)
        x = torch.nn.functional.leaky_relu(x, 0.2)
    return layers["output"](x.permute(0, 2, 3, 1).flatten(1))[:, 0]


IN_TORCH = {
    MLPGenerator: mlp_generator,
    MLPDiscriminator: mlp_discriminator,
    DCGANGenerator: dcgan_generator,
    DCGANDiscriminator: dcgan_discriminator,
}


def set_up(generator, discriminator, dtype, called):
    """Returns our network and theirs with the same variables: the model, the variables, the table, and PyTorch's."""
    import torch

    model = GAN(generator.clone(dtype=jnp.dtype(dtype)), discriminator.clone(dtype=jnp.dtype(dtype)))
    noise = jax.ShapeDtypeStruct((BATCH, LATENT), dtype)
    labels = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    inputs = {"noise": noise, "labels": labels} if generator.conditional else noise
    variables = random_variables(weights.shapes_of(model.init, inputs), dtype)
    # Spectral normalisation knows only vectors of length 1.
    if "spectral_norm" in variables:
        unit = jax.tree.map(lambda leaf: leaf / np.linalg.norm(leaf), variables["spectral_norm"])
        variables = {**variables, "spectral_norm": unit}
    params = variables["params"]
    network = torch.nn.ModuleDict({name: layers_of(torch, params[name], name) for name in params})
    for name in params["discriminator"] if discriminator.spectral_norm else ():
        if "norm" not in name:
            apply = torch.nn.utils.spectral_norm if called is HOOK else torch.nn.utils.parametrizations.spectral_norm
            apply(network["discriminator"][name])
    network = network.to(getattr(torch, dtype))
    entries = list(entries_of(variables, called))
    tensors = {key: torch.tensor(array) for key, array in weights.to_theirs(entries, variables).items()}
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    return model, variables, entries, network


def gradients_of(network, entries, variables):
    arrays = {
        key: np.zeros(leaf.shape, leaf.detach().numpy().dtype) if leaf.grad is None else leaf.grad.numpy()
        for key, leaf in network.named_parameters()
    }
    params = [entry for entry in entries if entry.ours[0].startswith("params/")]
    return weights.to_ours(params, arrays, {"params": variables["params"]})["params"]


def compare(generator, discriminator, dtype, train=False, calls=1, called=PLAIN):
    """Samples, their logits, the state after so many calls, and the gradients of the last one."""
    import torch

    model, variables, entries, network = set_up(generator, discriminator, dtype, called)
    noise = draw((BATCH, LATENT), dtype)
    labels = {"labels": LABELS} if generator.conditional else {}
    sides = [cotangent((BATCH, *generator.sample_shape), dtype), cotangent((BATCH,), dtype, seed=3)]
    mutable = [name for name in variables if name != "params"]

    @jax.jit
    def ours(params, state):
        def apply(state, name, sample, method):
            inputs = {name: sample, **labels} if labels else sample
            options = {"method": method, "train": train}
            if not train:
                return model.apply({"params": params, **state}, inputs, **options), state
            outputs, changed = model.apply({"params": params, **state}, inputs, mutable=mutable, **options)
            return outputs, {**state, **changed}

        samples, state = apply(state, "noise", noise, "generate")
        logits, state = apply(state, "images", samples, "discriminate")
        loss = sum((side * one).sum() for side, one in zip(sides, (samples, logits), strict=True))
        return loss, (samples, logits, state)

    state = {name: variables[name] for name in mutable}
    differentiate = jax.jit(jax.grad(ours, has_aux=True))
    for _ in range(calls):
        gradients, (samples, logits, state) = differentiate(variables["params"], state)

    network.train(train)
    one_hot = torch.tensor(np.eye(CLASSES, dtype=dtype)[LABELS]) if labels else None
    halves = [
        functools.partial(IN_TORCH[type(half)], torch, half, network[name])
        for name, half in (("generator", generator), ("discriminator", discriminator))
    ]
    for _ in range(calls):
        network.zero_grad()
        their_samples = halves[0](torch.tensor(noise), one_hot)
        their_logits = halves[1](their_samples, one_hot)
        pairs = zip(sides, (their_samples, their_logits), strict=True)
        sum((torch.tensor(side) * one).sum() for side, one in pairs).backward()
    after = {key: leaf.detach().numpy() for key, leaf in network.state_dict().items()}
    their_state = weights.to_ours(entries, after, variables, ignored=("*.num_batches_tracked",))
    del their_state["params"]

    def known(state):
        # PyTorch's running variance is that of a sample, n / (n - 1) times the batch's.
        return {path: leaf for path, leaf in weights.flatten(state).items() if not path.endswith("/var")}

    return (
        Result({"samples": samples, "logits": logits, "state": known(state)}, gradients),
        Result(
            {"samples": their_samples.detach().numpy(), "logits": their_logits.detach().numpy()}
            | {"state": known(their_state)},
            gradients_of(network, entries, variables),
        ),
    )


def penalise(penalty, discriminator, shape, dtype):
    """The penalty of each example, and the gradients of their mean: a second derivative."""
    import torch

    generator = MLPGenerator(sample_shape=shape, latent_dim=LATENT, hidden=(3,))
    model, variables, entries, network = set_up(generator, discriminator, dtype, PLAIN)
    real, fake = draw((BATCH, *shape), dtype, seed=4), draw((BATCH, *shape), dtype, seed=5)
    key = jax.random.key(6)

    @jax.jit
    def ours(params):
        def critic(images):
            return model.apply({"params": params}, images, method="discriminate")

        penalties = penalty.penalise(critic, real, fake, key)
        return penalties.mean(), penalties

    gradients, penalties = jax.grad(ours, has_aux=True)(variables["params"])

    between = np.array(jax.random.uniform(key, (BATCH, *[1] * len(shape)), dtype))
    at = real if isinstance(penalty, R1Penalty) else between * real + (1 - between) * fake
    at = torch.tensor(at, requires_grad=True)
    logits = IN_TORCH[type(discriminator)](torch, discriminator, network["discriminator"], at, None)
    (slopes,) = torch.autograd.grad(logits.sum(), at, create_graph=True)
    squared = slopes.flatten(1).square().sum(dim=1)
    theirs = 5 * squared if isinstance(penalty, R1Penalty) else 10 * (squared.sqrt() - 1) ** 2
    theirs.mean().backward()
    return Result(penalties, gradients), Result(theirs.detach().numpy(), gradients_of(network, entries, variables))


def upscale(kernel, stride, padding, extra, size, dtype):
    """`ConvTranspose` with PyTorch's padding and output padding."""
    import torch

    pads = tuple((k - 1 - p, k - 1 - p + q) for k, p, q in zip(kernel, padding, extra, strict=True))
    layer = ConvTranspose(4, kernel, stride, pads, dtype=jnp.dtype(dtype))
    images = draw((2, *size, 3), dtype)
    shapes = weights.shapes_of(layer.init, images)
    variables = random_variables(shapes, dtype)
    entries = [mirrored("params/kernel", "weight"), weights.same("params/bias", "bias")]

    tensors = {key: torch.tensor(array) for key, array in weights.to_theirs(entries, variables).items()}
    theirs = torch.nn.ConvTranspose2d(3, 4, kernel, stride, padding, extra).to(getattr(torch, dtype))
    theirs.load_state_dict(tensors)
    outputs = theirs(torch.tensor(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    side = cotangent(tuple(outputs.shape), dtype)
    (outputs * torch.tensor(side)).sum().backward()
    arrays = {key: leaf.grad.numpy() for key, leaf in theirs.named_parameters()}

    @jax.jit
    def ours(variables):
        outputs = layer.apply(variables, images)
        return (outputs * side).sum(), outputs

    gradients, our_outputs = jax.grad(ours, has_aux=True)(variables)
    return Result(our_outputs, gradients), Result(outputs.detach().numpy(), weights.to_ours(entries, arrays, shapes))


def mlps(shape=(6, 5, 2), conditional=False, hidden=(8, 9), pieces=(5, 4), **options):
    more = {"conditional": conditional, "num_classes": CLASSES if conditional else None}
    generator = MLPGenerator(sample_shape=shape, latent_dim=LATENT, hidden=hidden, label_features=6, **more)
    return generator, MLPDiscriminator(hidden=(6, 7), pieces=pieces, label_features=3, **more, **options)


def convolutions(shape, features, kernel_size=(5, 5), conditional=False, batch_norm=True, **options):
    more = {"conditional": conditional, "num_classes": CLASSES if conditional else None}
    more |= {"kernel_size": kernel_size, "batch_norm": batch_norm}
    generator = DCGANGenerator(sample_shape=shape, latent_dim=LATENT, features=features, **more)
    return generator, DCGANDiscriminator(features=features[::-1], **more, **options)


DENSE, CONVOLUTIONAL = "torch.nn.Linear", "torch.nn.ConvTranspose2d, Conv2d, BatchNorm2d"
HALVES = [
    ("GAN", "maxout", DENSE, mlps(), {}),
    ("GAN", "one number", DENSE, mlps(shape=(1,), hidden=(5,), pieces=(1, 1), activation=nn.tanh), {}),
    ("conditional GAN", "dense", DENSE, mlps(conditional=True), {}),
    ("conditional GAN", "convolutional", CONVOLUTIONAL, convolutions((8, 12, 2), (6, 5), conditional=True), {}),
    ("DCGAN", "64 x 64", CONVOLUTIONAL, convolutions((64, 64, 3), (9, 7, 5, 4)), {}),
    ("DCGAN", "64 x 64, training", CONVOLUTIONAL, convolutions((64, 64, 3), (9, 7, 5, 4)), {"train": True}),
    ("DCGAN", "32 x 32, two steps", CONVOLUTIONAL, convolutions((32, 32, 3), (8, 6, 4)), {"train": True, "calls": 2}),
    ("DCGAN", "28 x 28, training", CONVOLUTIONAL, convolutions((28, 28, 1), (6, 4)), {"train": True}),
    ("DCGAN", "kernels of 3 x 7", CONVOLUTIONAL, convolutions((8, 16, 2), (6, 4), (3, 7)), {"train": True}),
    ("DCGAN", "no batch normalisation", CONVOLUTIONAL, convolutions((8, 8, 2), (6, 4), batch_norm=False), {}),
]
NORMALISED = {
    "dense": mlps(spectral_norm=True),
    "convolutional": convolutions((8, 12, 2), (6, 5), spectral_norm=True),
    "without batch normalisation": convolutions((8, 8, 2), (6, 5), batch_norm=False, spectral_norm=True),
}
CRITICS = {
    "tanh": (mlps(pieces=(1, 1), activation=nn.tanh)[1], (6,)),
    "maxout": (mlps()[1], (4, 3)),
    "convolutional": (convolutions((8, 8, 2), (6, 4), batch_norm=False)[1], (8, 8, 2)),
}
UPSCALINGS = [
    ((5, 5), (2, 2), (2, 2), (1, 1), (4, 3)),
    ((4, 4), (2, 2), (1, 1), (0, 0), (5, 4)),
    ((3, 3), (1, 1), (1, 1), (0, 0), (4, 4)),
    ((2, 5), (3, 2), (0, 1), (1, 0), (3, 4)),
    ((1, 6), (2, 4), (0, 2), (0, 3), (3, 2)),
]
CASES = [
    *(
        Case(row, name, reference, "torch", functools.partial(compare, *halves, **options))
        for row, name, reference, halves, options in HALVES
    ),
    *(
        Case(
            "spectral normalisation",
            f"{name}, {'three steps' if train else 'evaluation'}",
            "torch.nn.utils.spectral_norm",
            "torch",
            functools.partial(compare, *halves, train=train, calls=3 if train else 1, called=HOOK),
        )
        for name, halves in NORMALISED.items()
        for train in (True, False)
    ),
    *(
        Case(
            "spectral normalisation",
            f"{name}, evaluation",
            "torch.nn.utils.parametrizations.spectral_norm",
            "torch",
            functools.partial(compare, *halves, called=PARAMETRIZATION),
        )
        for name, halves in NORMALISED.items()
    ),
    *(
        Case(
            "gradient penalties",
            f"{type(penalty).__name__}, {name}",
            "torch.autograd.grad(create_graph=True)",
            "torch",
            functools.partial(penalise, penalty, critic, shape),
        )
        for name, (critic, shape) in CRITICS.items()
        for penalty in (GradientPenalty(), R1Penalty())
    ),
    *(
        Case(
            "transposed convolution",
            f"kernel {kernel}, strides {stride}",
            "torch.nn.ConvTranspose2d",
            "torch",
            functools.partial(upscale, kernel, stride, *others),
        )
        for kernel, stride, *others in UPSCALINGS
    ),
]


@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gan_is_that_of_pytorch(case, dtype):
    case.check(dtype)
