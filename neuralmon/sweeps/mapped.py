"""The mapped program: the functions of a structure's training (`training/program.py`) over many trainings at once.

Trainings sit in *slots*: everything that belongs to one, its state and its numbers, has a first axis of slots, which
is cut over the devices. On a CPU each device goes through its slots one after the other, which is fastest there and
ends in bitwise what one training alone ends in; on other devices slots are one more axis of every operation.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from neuralmon.experiment import Experiment
from neuralmon.ops.reference import is_reference
from neuralmon.parallel import one_device
from neuralmon.training.program import functions, make_train, program_of

Slotted: TypeAlias = Any  # a pytree whose leaves have a first axis of slots

_SLOTS, _WHOLE = PartitionSpec("slots"), PartitionSpec()


@dataclasses.dataclass(frozen=True)
class Mapped:
    """The functions of one structure over all slots, to be compiled.

    Attributes:
      init: (numbers of one training) -> its state: that of a single run, on the first device. It is not mapped, since
        what LAPACK does for orthogonal matrices crawls when it is called for two devices at the same time.
      put: (states, state, slot) -> states with `state` in a slot. `states` is donated.
      chunk: (numbers, states, data, lengths) -> (states, sums): `lengths` steps of each slot, none for 0. `states` is
        donated; "first_bad_step" is among the sums (see `Program.chunk`).
      evaluate: (numbers, states, data, wanted) -> sums over every example, zeros where not `wanted`.
      take: (states, sources) -> states: each slot's is that of the slot `sources` names. `states` is donated.
      merge: (states, others, chosen) -> `states` where `chosen` is True, else `others`, which is donated.
      numbers: the shapes of one training's numbers.
      state: the shapes of one training's state.
      slots: where slotted arrays lie.
      whole: where data lies: on every device.
      chunks: `chunk` compiled, by the number of slots.
    """

    init: Any
    put: jax.stages.Wrapped
    chunk: jax.stages.Wrapped
    evaluate: jax.stages.Wrapped
    take: jax.stages.Wrapped
    merge: jax.stages.Wrapped
    numbers: Any
    state: Any
    slots: NamedSharding
    whole: NamedSharding
    chunks: dict[int, jax.stages.Compiled] = dataclasses.field(default_factory=dict)


def slot_mesh() -> Mesh:
    """Returns a mesh over this process's devices with one axis, "slots"."""
    devices = jax.local_devices()
    return jax.make_mesh((len(devices),), ("slots",), axis_types=(AxisType.Auto,), devices=devices)


_mapped: dict[Any, Mapped] = {}


def make_mapped(structure: Experiment, numbers: Mapping[str, Any], mesh: Mesh) -> Mapped:
    """Returns the mapped functions of a resolved experiment's structure; equal structures share them.

    Args:
      structure: the structure.
      numbers: what its numbers are like.
      mesh: the devices (see `slot_mesh`).
    """
    structure, same = program_of(structure)
    key = (same, mesh, is_reference(), _in_turn(mesh))
    if key not in _mapped:
        _mapped[key] = _new(structure, numbers, mesh)
    return _mapped[key]


def _new(structure: Experiment, numbers: Mapping[str, Any], mesh: Mesh) -> Mapped:
    alone = one_device()
    pure = functions(structure, alone)
    init = make_train(structure, alone).init
    state = jax.eval_shape(init, numbers)  # traced already, if the structure was checked

    def each(function: Callable[..., Any], *slotted: Any) -> Any:
        if _in_turn(mesh):
            return jax.lax.map(lambda one: function(*one), slotted)
        return jax.vmap(function)(*slotted)

    def put(states: Slotted, state: Any, slot: Any) -> Slotted:
        def one(leaf: Any, new: Any) -> Any:
            place = slot - jax.lax.axis_index("slots") * leaf.shape[0]
            here, inside = jnp.clip(place, 0, leaf.shape[0] - 1), (place >= 0) & (place < leaf.shape[0])
            kept = jax.lax.dynamic_index_in_dim(leaf, here, keepdims=False)
            return jax.lax.dynamic_update_index_in_dim(leaf, jnp.where(inside, new, kept), here, axis=0)

        return jax.tree.map(one, states, state)

    def chunk(numbers: Slotted, states: Slotted, data: Any, lengths: Slotted) -> Slotted:
        return each(lambda numbers, state, length: pure.chunk(numbers, state, data, length), numbers, states, lengths)

    def evaluate(numbers: Slotted, states: Slotted, data: Any, wanted: Slotted) -> Slotted:
        shapes = jax.eval_shape(pure.evaluate, *jax.tree.map(lambda leaf: leaf[0], (numbers, states)), data)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def one(numbers: Any, state: Any, wanted: Any) -> Any:
            return jax.lax.cond(wanted, lambda: pure.evaluate(numbers, state, data), lambda: zeros)

        return each(one, numbers, states, wanted)

    def take(states: Slotted, sources: Any) -> Slotted:
        return jax.tree.map(lambda leaf: leaf[sources], states)

    def merge(states: Slotted, others: Slotted, chosen: Any) -> Slotted:
        def one(leaf: Any, other: Any) -> Any:
            return jnp.where(chosen.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, other)

        return jax.tree.map(one, states, others)

    def spread(function: Callable[..., Any], *specs: PartitionSpec) -> Callable[..., Any]:
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=_SLOTS, check_vma=False)

    slots, whole = NamedSharding(mesh, _SLOTS), NamedSharding(mesh, _WHOLE)
    return Mapped(
        init=init,
        put=jax.jit(spread(put, _SLOTS, _WHOLE, _WHOLE), donate_argnums=0),
        chunk=jax.jit(spread(chunk, _SLOTS, _SLOTS, _WHOLE, _SLOTS), donate_argnums=1),
        evaluate=jax.jit(spread(evaluate, _SLOTS, _SLOTS, _WHOLE, _SLOTS)),
        take=jax.jit(take, donate_argnums=0, out_shardings=slots),
        merge=jax.jit(spread(merge, _SLOTS, _SLOTS, _SLOTS), donate_argnums=1),
        numbers={path: jax.ShapeDtypeStruct((), np.asarray(number).dtype) for path, number in numbers.items()},
        state=state,
        slots=slots,
        whole=whole,
    )


def _in_turn(mesh: Mesh) -> bool:
    """Whether a device's slots are trained one after the other."""
    return bool(mesh.devices.flat[0].platform == "cpu")
