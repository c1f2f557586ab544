"""Rotation and elastic deformation in one coordinate field, for use inside the compiled training step.

Paper A, section 3.4: rotations between -20 and 20 degrees and elastic deformation (Simard et al. 2003), no flips. All
channels and slices of a sample move alike; images are interpolated linearly, labels keep their values.

dm-pix has both as functions of one picture each, which interpolate one after the other, a channel at a time. The tests
compare with it; `benchmarks/augment.py` measures its cost.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

REFERENCE_SIZE = 240


@dataclass(frozen=True)
class Augmentation:
    """Strength of the augmentation, in pixels of a slice of `REFERENCE_SIZE`; other sizes are deformed alike."""

    rotation: float = 20.0
    """Largest angle in degrees; angles are uniform in [-rotation, rotation]."""
    elastic_alpha: float = 200.0
    """Factor of the smoothed noise, which is uniform in [-1, 1] before; 200 moves a pixel of a slice of 240 by 2 pixels
    along each axis (standard deviation)."""
    elastic_sigma: float = 16.0
    """Standard deviation of the Gaussian that smooths the noise, in pixels of a slice of 240."""


def _gaussian_matrix(size: int, sigma: float) -> np.ndarray:
    """The (size, size) matrix that smooths one axis with a Gaussian; its rows sum to 1."""
    distance = np.arange(size)[:, None] - np.arange(size)[None, :]
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def coordinate_field(key: jax.Array, size: int, extent: jax.Array, options: Augmentation) -> jax.Array:
    """The position in the original slice from which each pixel of the augmented slice is taken.

    Args:
        key: PRNG key; one field per sample.
        size: side of the square slices in pixels.
        extent: (2,) rows and columns that the slices fill; they turn about its centre.
        options: strength of the augmentation.

    Returns:
        (2, size, size) float32 rows and columns.
    """
    angle_key, noise_key = jax.random.split(key)
    rows, columns = jnp.meshgrid(
        jnp.arange(size, dtype=jnp.float32), jnp.arange(size, dtype=jnp.float32), indexing="ij"
    )
    centre = (extent.astype(jnp.float32) - 1) / 2
    angle = jnp.deg2rad(jax.random.uniform(angle_key, (), minval=-options.rotation, maxval=options.rotation))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    dy, dx = rows - centre[0], columns - centre[1]
    field = jnp.stack([centre[0] + cos * dy - sin * dx, centre[1] + sin * dy + cos * dx])
    if options.elastic_alpha:
        # The smoothed noise goes as 1 / sigma, so that a displacement that grows with the size takes its square.
        relative = size / REFERENCE_SIZE
        smooth = _gaussian_matrix(size, options.elastic_sigma * relative)
        noise = jax.random.uniform(noise_key, (2, size, size), minval=-1.0, maxval=1.0)
        field += options.elastic_alpha * relative**2 * (smooth @ noise @ smooth.T)
    return field


def warp_linear(image: jax.Array, field: jax.Array) -> jax.Array:
    """Samples (H, W, C) at the field (2, h, w), bilinearly, 0 outside -> (h, w, C) float32."""
    height, width, channels = image.shape
    pixels = image.reshape(height * width, channels)
    corner = jnp.floor(field)
    fraction = field - corner
    corner = corner.astype(jnp.int32)
    out = jnp.zeros((*field.shape[1:], channels), jnp.float32)
    for step_y in (0, 1):
        for step_x in (0, 1):
            y, x = corner[0] + step_y, corner[1] + step_x
            weight_y = fraction[0] if step_y else 1 - fraction[0]
            weight_x = fraction[1] if step_x else 1 - fraction[1]
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            weight = jnp.where(inside, weight_y * weight_x, 0.0)
            index = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
            out += weight[..., None] * pixels[index].astype(jnp.float32)
    return out


def warp_nearest(labels: jax.Array, field: jax.Array) -> jax.Array:
    """Samples (H, W, C) at the nearest pixel of the field (2, h, w), 0 outside; keeps the dtype."""
    height, width, channels = labels.shape
    y, x = jnp.round(field).astype(jnp.int32)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    index = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
    return jnp.where(inside[..., None], labels.reshape(-1, channels)[index], 0)


def augment(
    key: jax.Array, images: jax.Array, labels: jax.Array, extent: jax.Array, options: Augmentation
) -> tuple[jax.Array, jax.Array]:
    """Augments one sample; vmap it over a batch.

    Args:
        key: PRNG key of the sample.
        images: (Z, N, N, C) intensities of any dtype.
        labels: (Z, N, N) integers.
        extent: (2,) rows and columns that the slices fill.
        options: strength of the augmentation.

    Returns:
        Images as float32 and labels in their dtype, of the same shapes.
    """
    slices, size, _, channels = images.shape
    field = coordinate_field(key, size, extent, options)
    together = jnp.moveaxis(images, 0, 2).reshape(size, size, slices * channels)
    warped = warp_linear(together, field).reshape(size, size, slices, channels)
    warped_labels = warp_nearest(jnp.moveaxis(labels, 0, 2), field)
    return jnp.moveaxis(warped, 2, 0), jnp.moveaxis(warped_labels, 2, 0)
