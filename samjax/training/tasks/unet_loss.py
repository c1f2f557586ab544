"""The U-Net's loss: Dice and cross-entropy at each supervised resolution (nnU-Net; Isensee et al. 2021)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

SMOOTH = 1.0
"""Pixels added to both terms of a Dice, as in the loss of SAM here. With nnU-Net's 1e-5 a class that a picture lacks
would stay at a loss of 1 with next to no gradient; with 1 it costs nothing where it is not predicted."""


def unet_loss(logits: Sequence[jax.Array], labels: jax.Array, pixels: jax.Array) -> jax.Array:
    """The sum of the supervised resolutions' losses with weights 1, 1/2, 1/4, ... that are scaled to sum to 1.

    Args:
        logits: the result of `UNet` with `supervised`; each (B, h, w, classes).
        labels: (B, H, W) uint8 class of each pixel. Lower resolutions have the label of the pixel in the middle of
            each cell.
        pixels: (B, H, W) bool, False for padding.

    Returns:
        (B,) float32.
    """
    total = jnp.zeros(len(labels))
    for level, predicted in enumerate(logits):
        middle = (slice(None), *2 * [slice(2**level // 2, None, 2**level)])
        total += class_loss(predicted, labels[middle], pixels[middle]) / 2**level
    return total / sum(1 / 2**level for level in range(len(logits)))


def class_loss(logits: jax.Array, labels: jax.Array, pixels: jax.Array) -> jax.Array:
    """Mean over the foreground classes of 1 - soft Dice, plus the mean cross-entropy, over the pixels that count.

    Shapes as in `unet_loss`, at one resolution. nnU-Net's 2-D Dice is over all pixels of a batch; here it is of each
    picture, so that a picture's loss does not depend on what else is in the batch, or on how many devices share it.
    """
    log_probability = jax.nn.log_softmax(logits)
    probability = jnp.where(pixels[..., None], jnp.exp(log_probability), 0.0)
    truth = jnp.where(pixels[..., None], jax.nn.one_hot(labels, logits.shape[-1]), 0.0)
    entropy = -(truth * log_probability).sum((1, 2, 3)) / jnp.maximum(pixels.sum((1, 2)), 1)
    both = (probability * truth).sum((1, 2))
    size = probability.sum((1, 2)) + truth.sum((1, 2))
    dice = (2 * both + SMOOTH) / (size + SMOOTH)
    return entropy + (1 - dice[:, 1:]).mean(-1)
