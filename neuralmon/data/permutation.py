"""The order of the examples: a keyed bijection that looks up one position without making the whole permutation.

Example n of the endless stream is `perm(seed, n // N)(n mod N)`, and batch t is n = tB ... tB + B - 1. So a batch is a
function of (seed, t): nothing has to be saved to resume, and every reader of the same data agrees on the order.

The bijection is a Feistel network (Luby & Rackoff, "How to construct pseudorandom permutations from pseudorandom
functions", SIAM J. Comput. 17, 1988) on Z_a x Z_b with ab just above N (Black & Rogaway, "Ciphers with arbitrary finite
domains", CT-RSA 2002, method 3): a value outside [0, N) is sent through again until it falls inside. The same uint32
arithmetic runs in jnp, inside a compiled step, and in NumPy.
"""

import math
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

MAX_POSITION = 2**32
_ROUNDS = 8
_GOLDEN = 0x9E3779B9


def _mix(x: Any, xp: ModuleType) -> Any:
    """The finaliser of MurmurHash3 (Appleby 2011): every input bit changes each output bit about half the time."""
    x = (x ^ (x >> xp.uint32(16))) * xp.uint32(0x85EBCA6B)
    x = (x ^ (x >> xp.uint32(13))) * xp.uint32(0xC2B2AE35)
    return x ^ (x >> xp.uint32(16))


def _remainder(x: Any, divisor: int, xp: ModuleType) -> Any:
    # jnp's % looks after signs, which these numbers do not have.
    return x - x // xp.uint32(divisor) * xp.uint32(divisor)


def _encrypt(x: Any, round_keys: Any, a: int, b: int, xp: ModuleType) -> Any:
    left, right = x // xp.uint32(b), _remainder(x, b, xp)
    for index in range(_ROUNDS):
        if index % 2 == 0:
            left = _remainder(left + _remainder(_mix(right ^ round_keys[index], xp), a, xp), a, xp)
        else:
            right = _remainder(right + _remainder(_mix(left ^ round_keys[index], xp), b, xp), b, xp)
    return left * xp.uint32(b) + right


def _permute(position: Any, size: int, seed: Any, epoch: Any, xp: ModuleType) -> Any:
    a = math.isqrt(size - 1) + 1
    b = -(-size // a)
    # A batch may lie in two epochs, so each position has its own eight round keys: (8, batch).
    key = _mix(seed ^ _mix(epoch + xp.uint32(_GOLDEN), xp), xp)
    offsets = xp.arange(1, _ROUNDS + 1, dtype=xp.uint32) * xp.uint32(_GOLDEN)
    round_keys = _mix(key + offsets[:, None], xp)

    def again(state: tuple[Any, Any]) -> tuple[Any, Any]:
        x, outside = state
        x = xp.where(outside, _encrypt(x, round_keys, a, b, xp), x)
        return x, x >= xp.uint32(size)

    state = position, position < xp.uint32(size)
    if xp is jnp:
        return jax.lax.while_loop(lambda state: state[1].any(), again, state)[0]
    while state[1].any():
        state = again(state)
    return state[0]


def _indices(seed: Any, step: Any, batch_size: int, size: int, xp: ModuleType) -> Any:
    seed, step = xp.asarray(seed).astype(xp.uint32), xp.asarray(step).astype(xp.uint32)
    position = step * xp.uint32(batch_size) + xp.arange(batch_size, dtype=xp.uint32)
    return _permute(_remainder(position, size, xp), size, seed, position // xp.uint32(size), xp)


def batch_indices(seed: Int[Array, ""], step: Int[Array, ""], batch_size: int, size: int) -> UInt32[Array, " batch"]:
    """Returns which of `size` examples make batch number `step`; for use in compiled programs.

    Positions in the stream are 32-bit: `(step + 1) * batch_size` must not exceed MAX_POSITION.
    """
    return _indices(seed, step, batch_size, size, jnp)


def batch_indices_numpy(seed: int, step: int, batch_size: int, size: int) -> np.ndarray:
    """Returns the same as `batch_indices`, on the host."""
    with np.errstate(over="ignore"):
        return _indices(np.uint32(seed), np.uint32(step), batch_size, size, np)
