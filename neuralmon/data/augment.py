"""Augmentations: pure functions of numbers, a key and a batch, run inside the compiled step."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num


def shift(
    key: Array, images: Num[Array, "batch height width channels"], max_pixels: float | Array
) -> Num[Array, "batch height width channels"]:
    """Moves each image by whole pixels, drawn evenly from -max_pixels ... max_pixels for either direction.

    What comes in from outside is 0. `max_pixels` may be traced; its fraction is dropped.
    """
    images = jnp.asarray(images)  # NumPy's arrays take no traced indices
    batch, height, width, _ = images.shape
    reach = jnp.floor(jnp.asarray(max_pixels, jnp.float32))
    uniform = jax.random.uniform(key, (2, batch, 1))
    offsets = jnp.clip(jnp.floor(uniform * (2 * reach + 1)) - reach, -reach, reach).astype(jnp.int32)
    rows, columns = jnp.arange(height) - offsets[0], jnp.arange(width) - offsets[1]
    moved = images[
        jnp.arange(batch)[:, None, None],
        jnp.clip(rows, 0, height - 1)[:, :, None],
        jnp.clip(columns, 0, width - 1)[:, None, :],
    ]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    return jnp.where(inside[..., None], moved, jnp.zeros((), images.dtype))
