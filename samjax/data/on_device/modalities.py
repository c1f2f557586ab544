"""Hides modalities of training samples inside the compiled step, so that a model learns to do without them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from samjax.data.on_device.channels import Channels
from samjax.data.on_device.keys import sample_keys


def shown_channels(
    key: jax.Array, batch: Mapping[str, jax.Array], channels: Channels, dropout: float
) -> jax.Array | None:
    """The channels (b, C) bool of each sample that the model sees; None without dropout, when it sees all.

    All slices of a sample are alike. What is drawn depends only on `key`, the case and the sample's first slice.

    Args:
        batch: samples with `present` (b, 4) bool, the modalities that the case has, and as for `sample_keys`.
        channels: channels of one modality each.
        dropout: the probability with which each modality is hidden.
    """
    if not dropout:
        return None
    draw = jax.vmap(draw_shown, in_axes=(0, 0, None))
    return draw(sample_keys(key, batch).modalities, channels.present(batch["present"]), dropout)


def draw_shown(key: jax.Array, present: jax.Array, dropout: float) -> jax.Array:
    """Hides each of the channels `present` (C,) bool with probability `dropout`: the channels (C,) bool that stay.

    If all would be hidden, one of them, drawn uniformly, stays.
    """
    hide_key, keep_key = jax.random.split(key)
    shown = present & ~jax.random.bernoulli(hide_key, dropout, present.shape)
    kept = jax.random.categorical(keep_key, jnp.where(present, 0.0, -jnp.inf))
    return jnp.where(shown.any(), shown, jnp.arange(len(present)) == kept)
