"""Two networks that play against each other."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralmon.data import Batch, Spec
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt
from neuralmon.optim import Optimizer
from neuralmon.sampling import SampleRequest
from neuralmon.tasks import samples
from neuralmon.tasks.adversarial_losses import AdversarialLoss, Penalty, non_saturating
from neuralmon.tasks.adversarial_update import is_conditional, play
from neuralmon.tasks.sums import mean, weighted_sum
from neuralmon.tasks.task import Sums
from neuralmon.tasks.trained import Findings, Trained
from neuralmon.tasks.update import Update

_STUDIED = 10_000


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """A generator learns to make what a discriminator takes for data, and the discriminator to tell the two apart.

    The model is a `nm.models.GAN` of any two networks. A step is that of algorithm 1 of the paper, on a batch that is
    cut into k = `discriminator_steps` parts:

    - for each part, the discriminator is moved to lessen E[real(f(x))] + E[fake(f(G(z)))] + penalty, with new noise z;
    - then the generator is moved once to lessen E[generator(f(G(z)))], with new noise, as much as in a part.

    Real and generated samples go through the discriminator one after the other, so that batch normalisation never mixes
    them (Radford, Metz & Chintala 2016). Each call of a network in training updates its running statistics.

    `Experiment.optimizer` moves the generator. Its `frozen`, `layer_rates` and `ema_decay` count for both networks,
    whose parameters are 'generator/...' and 'discriminator/...'; with `ema_decay`, samples and evaluations are those of
    the averages.

    Networks that are `conditional` get the classes: generated samples are of the classes of the real ones beside them.

    Source: Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, algorithm 1; with classes, Mirza & Osindero,
    "Conditional Generative Adversarial Nets", 2014.

    Attributes:
      game: what a logit costs either network: non_saturating, minimax, hinge, wasserstein, least_squares.
      penalty: what is added to the discriminator's loss, such as R1Penalty(); None: nothing.
      discriminator_optimizer: how the discriminator moves; None: by the same optimizer as the generator.
      discriminator_steps: updates of the discriminator for each one of the generator; it divides the batch.
      noise: distribution of each number of noise: normal, or uniform between -1 and 1.
    """

    game: AdversarialLoss = non_saturating
    penalty: Penalty | None = None
    discriminator_optimizer: Optimizer | None = None
    discriminator_steps: PositiveInt = 1
    noise: Literal["normal", "uniform"] = "normal"

    def inputs(self, model: nn.Module, batch: Batch, key: Array) -> dict[str, Array]:
        """Returns what both networks are called with: real samples, and noise for as many generated ones.

        Raises:
          RequestError: the model has no two such networks, they do not fit each other or the data, or labels are needed
            and there are none.
        """
        _check_networks(model, batch)
        labels = {"labels": batch["targets"]} if is_conditional(model) else {}
        return {"noise": self.draw(key, model, len(batch["inputs"])), "images": batch["inputs"], **labels}

    def draw(self, key: Array, model: nn.Module, count: int) -> Float[Array, "count latent_dim"]:
        """Returns noise for so many samples."""
        shape = (count, model.generator.latent_dim)
        return jax.random.normal(key, shape) if self.noise == "normal" else jax.random.uniform(key, shape, minval=-1)

    def update(self, model: nn.Module, optimizer: Optimizer, num_steps: int) -> Update:
        """Returns the step of both networks; see the class."""
        return play(self, model, optimizer, num_steps)

    def num_outputs(self, spec: Spec) -> int | None:
        """See `Task.num_outputs`: of conditional networks, how many classes they know."""
        return spec.num_classes

    def loss(self, outputs: Mapping[str, Float[Array, " batch"]], batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """See `Task.loss`: the discriminator's. A sample is taken for real where that costs less."""
        weights, real, fake = batch["weights"], outputs["real"], outputs["fake"]
        costs = {
            "loss": self.game.real(real) + self.game.fake(fake),
            "generator_loss": self.game.generator(fake),
            "real_right": self._taken_for_real(real),
            "fake_right": 1 - self._taken_for_real(fake),
        }
        sums = {name: (weighted_sum(values, weights), weights.sum()) for name, values in costs.items()}
        return sums["loss"], sums

    def metrics(self, outputs: Mapping[str, Float[Array, " batch"]], batch: Batch) -> Sums:
        """See `Task.metrics`."""
        return self.loss(outputs, batch)[1]

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """Returns the discriminator's loss and the generator's, and how many samples of either kind are judged right.

        None of them says how good the samples are: see `study`.
        """
        names = ("loss", "generator_loss", "real_right", "fake_right", "penalty")
        return {name: float(mean(sums[name])) for name in names if name in sums}

    def predict(self, outputs: Mapping[str, Float[Array, " batch"]], spec: Spec) -> dict[str, Array]:
        """Returns the discriminator's logit `realness` (batch,): positive means real, for most games."""
        return {"realness": outputs["real"]}

    def check(self, outputs: Any, spec: Spec) -> str | None:
        """See `Task.check`."""
        own = self.discriminator_optimizer
        if own is not None and (own.frozen or own.layer_rates or own.ema_decay is not None):
            what = "frozen, layer_rates and ema_decay of task.discriminator_optimizer"
            return f"{what} have no effect: give them to optimizer, where they count for both networks"
        if isinstance(outputs, Mapping) and (size := outputs["real"].shape[0]) % self.discriminator_steps:
            what = f"a batch of {size} cannot be cut into {self.discriminator_steps} parts"
            return f"task.discriminator_steps: {what}, one for each update of the discriminator"
        return None

    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """See `Task.monitor`. No loss tells the best generator, so what is measured at the end has no rival."""
        return "frechet_distance", "min"

    def study(self, trained: Trained, split: str) -> Findings:
        """Returns a grid and, where the data is of MNIST's shape, how good 10,000 samples are (`samples.quality`)."""
        findings = self.glimpse(trained)
        if not samples.are_digits(trained):
            what = (
                "Frechet distance and shares of classes are measured of 28 x 28 grey digits, and of no other samples."
            )
            return dataclasses.replace(findings, texts={"quality": f"{what}\n"})
        labels = samples.in_turn(trained, _STUDIED)
        made = samples.make(trained, self.draw(jax.random.key(1), trained.model, _STUDIED), labels)
        return dataclasses.replace(findings, metrics=samples.quality(trained, split, made, labels))

    def glimpse(self, trained: Trained) -> Findings:
        """Returns pictures of the same noise at each evaluation; of conditional networks in a row for each class."""
        if not samples.is_picture(trained):
            return Findings()
        shown, _ = self._grid(trained, 10 if is_conditional(trained.model) else 64, seed=0)
        return Findings(figures={"samples": ("samples", shown)})

    def sample(self, trained: Trained, request: SampleRequest) -> Iterator[str]:
        """Writes pictures, of conditional networks `num_samples` of `label` or of each class; yields where they are.

        Raises:
          RequestError: there is no file to write to, the samples are no pictures, or the request asks for more.
        """
        request.only("num_samples", "label", "seed", "output", what="a generator of pictures")
        if request.output is None:
            raise RequestError("--mode=sample writes pictures: give --output=FILE.png, or .npy for arrays")
        if not (samples.is_picture(trained) or request.output.endswith(".npy")):
            raise RequestError(f"--output={request.output}: these samples are no pictures; give a .npy file")
        label = None if request.label is None else samples.class_of(trained, request.label)
        shown, made = self._grid(trained, request.num_samples, request.seed, label)
        samples.write(request.output, shown, made)
        yield f"{request.output}\n"

    def _grid(
        self, trained: Trained, count: int, seed: int, label: int | None = None
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Returns a grid of samples, and the samples: `count`, of a class or, of conditional networks, of each one."""
        by_class = is_conditional(trained.model) and label is None
        total = count * trained.model.generator.num_classes if by_class else count
        noise = self.draw(jax.random.key(seed), trained.model, total)
        labels = samples.in_turn(trained, total) if label is None else np.full(total, label, np.int32)
        made = samples.make(trained, noise, labels)
        if not samples.is_picture(trained):
            return {}, made
        return samples.grid(trained, samples.displayed(trained, made), by_class), made

    def _taken_for_real(self, logits: Float[Array, " batch"]) -> Float[Array, " batch"]:
        return (self.game.real(logits) < self.game.fake(logits)).astype(jnp.float32)


def _check_networks(model: nn.Module, batch: Batch) -> None:
    """Refuses models that cannot play."""
    if not all(hasattr(model, name) for name in ("generator", "discriminator", "generate", "discriminate")):
        what = f"Adversarial trains a nm.models.GAN(generator, discriminator), not a {type(model).__name__}"
        raise RequestError(f"model: {what}")
    if is_conditional(model) != bool(getattr(model.discriminator, "conditional", False)):
        raise RequestError("model: give conditional=True to both networks, or to neither")
    if is_conditional(model) and "targets" not in batch:
        what = "a conditional discriminator judges samples by their classes, and inputs alone have none"
        raise RequestError(f"{what}; what its generator makes, --mode=sample writes")
    made, given = getattr(model.generator, "sample_shape", None), batch["inputs"].shape[1:]
    if made is not None and tuple(made) != given:
        raise RequestError(f"model.generator.sample_shape: {tuple(made)} are not the data's samples, which are {given}")
