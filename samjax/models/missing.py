"""The channels of modalities that a scan lacks, as a model sees them."""

import os

import jax
import jax.numpy as jnp


def without_missing(pictures: jax.Array, present: jax.Array) -> jax.Array:
    """Normalised pictures (..., H, W, C) in which every channel that is not `present` (..., C) bool is 0."""
    present = present[..., None, None, :]
    shown = jnp.where(present, pictures, 0.0)
    if os.environ.get("SCALE_PRESENT"):
        shown = shown * (present.shape[-1] / present.sum(-1, keepdims=True))
    return shown
