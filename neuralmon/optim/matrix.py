"""Optimizers that look at a whole matrix or layer at once."""

import dataclasses
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from neuralmon.fields import FractionNumber, NonNegativeNumber, PositiveInt, PositiveNumber
from neuralmon.optim.adaptive import AdamW
from neuralmon.optim.optimizers import Optimizer, decay_weights, is_weight
from neuralmon.optim.schedules import Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class LAMB(AdamW):
    """AdamW whose step for each layer is as long as the layer's weights, for very large batches.

    Biases and the scales of normalisation layers take AdamW's step unscaled, as in the authors' program: a bias begins
    at zero, and steps as short as itself would leave it there.

    Source: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", ICLR 2020,
    algorithm 2.
    """

    eps: PositiveNumber = 1e-6

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.chain(super().direction(), optax.masked(optax.scale_by_trust_ratio(), is_weight))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adafactor(Optimizer):
    """Adafactor: mean squares are kept by row and by column, and steps are relative to the size of the parameters.

    Source: Shazeer & Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML 2018, algorithms 4
    and 5, without momentum; weight decay is decoupled as in AdamW.

    Attributes:
      decay_power: c of the decay 1 - t^-c of the mean squares at update t.
      clip_threshold: a layer's step is scaled down to this root mean square, before it is made relative.
      min_scale: parameters with a smaller root mean square move as if they had this one.
      min_factored: a kernel's mean squares are kept by row and column if both are at least so long, else in full.
      eps: added to the square of the gradient.
      weight_decay: each step takes learning_rate * weight_decay off every decayed weight, relative to its size.
    """

    learning_rate: NonNegativeNumber | Schedule = 1e-2
    decay_power: PositiveNumber = 0.8
    clip_threshold: PositiveNumber = 1.0
    min_scale: PositiveNumber = 1e-3
    min_factored: PositiveInt = 128
    eps: PositiveNumber = 1e-30
    weight_decay: NonNegativeNumber = 0.0

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.chain(
            optax.scale_by_factored_rms(
                decay_rate=self.decay_power, min_dim_size_to_factor=self.min_factored, epsilon=self.eps
            ),
            optax.clip_by_block_rms(self.clip_threshold),
            optax.scale_by_param_block_rms(self.min_scale),
            decay_weights(self.weight_decay),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Muon(AdamW):
    """Muon: the momentum of each two-dimensional kernel, made orthogonal; every other parameter moves by AdamW.

    Only what is called 'kernel' and has two axes counts: embeddings, biases, scales and the kernels of convolutions
    are AdamW's, which b1, b2 and eps belong to. Steps have about the size of AdamW's, so that one learning rate and one
    weight decay serve both. The momentum is corrected for its start at zero, as optax does it and the author does not.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the size of the steps: Liu
    et al., "Muon is Scalable for LLM Training", 2025, eq. 4.

    Attributes:
      momentum: decay of the mean of the gradient of a kernel.
      nesterov: look at that mean one update ahead.
      update_rms: root mean square of a kernel's step, in learning rates; 0.2 is AdamW's by experience.
    """

    momentum: FractionNumber = 0.95
    nesterov: bool = True
    update_rms: PositiveNumber = 0.2

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        orthogonal = scale_by_muon(beta=self.momentum, nesterov=self.nesterov, weight_dimension_numbers=_as_matrices)
        kernels = optax.chain(orthogonal, optax.stateless(self._sized), decay_weights(self.weight_decay))
        return optax.partition({"kernel": kernels, "other": super().direction()}, _kinds)

    def _sized(self, updates: Any, params: Any) -> Any:
        # An orthogonal matrix has singular values of 1, so its root mean square is 1 / sqrt(longer axis).
        return jax.tree.map(lambda leaf: leaf * (self.update_rms * max(leaf.shape) ** 0.5), updates)


def _kinds(params: Any) -> Any:
    def kind(path: tuple[Any, ...], leaf: Any) -> str:
        return "kernel" if jax.tree_util.keystr(path[-1:], simple=True) == "kernel" and leaf.ndim == 2 else "other"

    return jax.tree_util.tree_map_with_path(kind, params)


def _as_matrices(updates: Any) -> Any:
    return jax.tree.map(lambda _: MuonDimensionNumbers(), updates)
