"""A switch back to the plain definitions."""

import contextlib
from collections.abc import Iterator

import jax

# A user context is part of JAX's trace and compilation cache keys, so functions that were jitted,
# scanned or rematerialised before are traced anew inside `reference()`, and the other way round.
_use_reference = jax.make_user_context(default_value=False)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def reference() -> Iterator[None]:
    """Within it every op traces its plain `jax.lax` definition.

    The fast forms carry their own reverse-mode rule and therefore have no forward mode; the plain
    ones have every derivative (`jax.jvp`, `jax.hessian`), lower to the fewest operations in an
    export, and are what the fast forms are compared with.

        with ops.reference():
            curvature = jax.hessian(loss)(params)

    The choice is made while tracing. Wrap the call, or the `lower`; what is already compiled
    (`jax.jit(f).lower(...).compile()`) stays as it is.
    """
    with _use_reference(True):
        yield


def is_reference() -> bool:
    """Whether tracing happens inside `reference()`."""
    return bool(_use_reference.value)
