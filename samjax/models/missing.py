"""The channels of modalities that a scan lacks, as a model sees them."""

import jax
import jax.numpy as jnp


def without_missing(pictures: jax.Array, present: jax.Array) -> jax.Array:
    """Normalised pictures (..., H, W, C) in which every channel that is not `present` (..., C) bool is 0.

    The other channels stay as they are: scaling them up by C / (number present) measured worse
    (docs/missing_modalities.md).
    """
    return jnp.where(present[..., None, None, :], pictures, 0.0)
