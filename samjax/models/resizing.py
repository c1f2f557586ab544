"""Resizing between native slices and the model's input and output, as matrix products.

A native N x N slice is resized bilinearly to the S x S input; logits go from S / 4 to S to N, as Meta's
`postprocess_masks` does it. Both steps back are linear and separable, so they are one small matrix per axis.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from samjax.models.layers import resize


@functools.cache
def resize_matrix(target: int, source: int) -> np.ndarray:
    """The (target, source) matrix of PyTorch's bilinear resize of one axis (`align_corners=False`, no antialiasing)."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    low = np.minimum(np.floor(position).astype(int), max(source - 2, 0))
    high = np.minimum(low + 1, source - 1)
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target), low), 1 - (position - low))
    np.add.at(matrix, (np.arange(target), high), position - low)
    return matrix.astype(np.float32)


def to_input(images: jax.Array, size: int) -> jax.Array:
    """Resizes native slices (..., N, N, C) to (..., size, size, C) float32."""
    return resize(images.astype(jnp.float32), size, size)


def to_native(logits: jax.Array, size: int, native: int) -> jax.Array:
    """Resizes logits (..., S / 4, S / 4) of an input of side `size` to (..., native, native) float32."""
    matrix = resize_matrix(native, size) @ resize_matrix(size, logits.shape[-1])
    return jnp.einsum("ny,...yx,mx->...nm", matrix, logits, matrix)


def to_input_pixels(coords: jax.Array, scale: float | jax.Array) -> jax.Array:
    """Native pixel indices as coordinates of the input, whose whole numbers are pixel centres too.

    With `scale` = S / N pixels of the input for each native one, pixel i has its centre at (i + 0.5) * scale; the
    prompt encoder itself adds the half pixel that is taken off here.
    """
    return (coords + 0.5) * scale - 0.5


def inside(extent: jax.Array, native: int) -> jax.Array:
    """The pixels of the padded square that belong to the slice: (..., 2) rows and columns -> (..., N, N) bool."""
    index = jnp.arange(native)
    rows, columns = index < extent[..., :1], index < extent[..., 1:]
    return rows[..., :, None] & columns[..., None, :]
