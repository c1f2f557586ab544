"""Losses and counts of slices, at native resolution."""

import jax
import jax.numpy as jnp
import optax

IOU_WEIGHT = 0.05


def dice_loss(logits: jax.Array, target: jax.Array, pixels: jax.Array) -> jax.Array:
    """1 - soft Dice of (..., H, W) logits and bool target over the pixels that count -> (...)."""
    probability = jnp.where(pixels, jax.nn.sigmoid(logits), 0.0)
    truth = jnp.where(pixels, target, 0).astype(jnp.float32)
    both = (probability * truth).sum((-2, -1))
    total = probability.sum((-2, -1)) + truth.sum((-2, -1))
    return 1 - (2 * both + 1) / (total + 1)


def bce_loss(logits: jax.Array, target: jax.Array, pixels: jax.Array) -> jax.Array:
    """Mean binary cross-entropy of (..., H, W) logits and bool target over the pixels that count -> (...)."""
    entropy = optax.sigmoid_binary_cross_entropy(logits, target.astype(jnp.float32))
    return jnp.where(pixels, entropy, 0.0).sum((-2, -1)) / jnp.maximum(pixels.sum((-2, -1)), 1)


def overlap(logits: jax.Array, target: jax.Array, pixels: jax.Array) -> dict[str, jax.Array]:
    """Pixel counts of the thresholded prediction, (..., H, W) -> {both, pred, true, pixels} of shape (...), int32."""
    predicted, truth = (logits > 0) & pixels, target & pixels
    return {
        "both": (predicted & truth).sum((-2, -1)),
        "pred": predicted.sum((-2, -1)),
        "true": truth.sum((-2, -1)),
        "pixels": jnp.broadcast_to(pixels, truth.shape).sum((-2, -1)),
    }


def slice_loss(logits: jax.Array, iou: jax.Array, target: jax.Array, pixels: jax.Array) -> jax.Array:
    """Dice + BCE + 0.05 x squared error of the predicted IoU, for each slice.

    Args:
        logits: (..., H, W) at native resolution.
        iou: (...) predicted IoU.
        target: (..., H, W) bool, or float: the share of each pixel that the region fills.
        pixels: (..., H, W) bool, False for padding.

    Returns:
        (...) float32.
    """
    counts = overlap(jax.lax.stop_gradient(logits), target > 0.5, pixels)
    union = counts["pred"] + counts["true"] - counts["both"]
    actual = jnp.where(union > 0, counts["both"] / jnp.maximum(union, 1), 1.0)
    error = IOU_WEIGHT * (iou - actual) ** 2
    return dice_loss(logits, target, pixels) + bce_loss(logits, target, pixels) + error
