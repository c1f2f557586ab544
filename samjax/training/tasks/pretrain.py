"""The loss of a dead-leaves picture: boxes or clicks on several shapes, further clicks, the best of three masks.

After Kirillov et al. 2023, section 3 and appendix A: the first prompt is a box or a click, each further round adds a
click on the largest error, and only the best of the three alternative masks has a loss. Here the single-mask token is
trained in every round, since fine-tuning uses it, and half of the samples also get their last mask as a prompt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from samjax.data.on_device.prompts import PromptMix, draw_kinds, first_prompt, next_click, tight_box
from samjax.models.prompt_encoder import Prompts
from samjax.models.resizing import to_input_pixels, to_native
from samjax.models.sam import Sam
from samjax.training.tasks.losses import overlap, slice_loss
from samjax.training.tasks.objective import Batch, SliceResults

MASK_SCALE = 4
"""Ratio of the input's side to that of the logits."""


@dataclass(frozen=True)
class Pretraining:
    """The choices that turn pictures into prompts and losses; static in the compiled step."""

    prompts: PromptMix
    image_size: int
    rounds: int = 3
    mask_share: float = 0.5
    """Share of the samples whose last mask is a prompt in the next round."""


class Target(NamedTuple):
    """P shapes of each of b pictures at two resolutions."""

    masks: jax.Array
    """Masks at the input's resolution, (b, P, S, S) bool."""
    coverage: jax.Array
    """Masks at the logits' resolution, (b, P, S / 4, S / 4) float32: the share of each logit's pixels in the shape."""
    present: jax.Array
    """Whether there is a shape, (b, P) bool: False where the picture has fewer shapes."""


def targets_of(batch: Batch) -> Target:
    """The masks of a batch's target shapes."""
    present = (batch["targets"] > 0) & batch["valid"][:, None]
    masks = (batch["ids"][:, None] == batch["targets"][..., None, None]) & present[..., None, None]
    pictures, count, size = masks.shape[:3]
    blocks = masks.reshape(pictures, count, size // MASK_SCALE, MASK_SCALE, size // MASK_SCALE, MASK_SCALE)
    return Target(masks, blocks.mean((3, 5), dtype=jnp.float32), present)


def shape_keys(key: jax.Array, batch: Batch) -> jax.Array:
    """A PRNG key for each shape, (b, P), that depends on the picture and not on its place in the batch."""
    of_pictures = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["identity"])
    return jax.vmap(lambda key: jax.random.split(key, batch["targets"].shape[1]))(of_pictures)


def _each_shape(function: Callable) -> Callable:
    return jax.vmap(jax.vmap(function))


def opening_prompts(keys: jax.Array, masks: jax.Array, mix: PromptMix, size: int, clicks: int) -> Prompts:
    """A box or a first click for each shape (b, P), with room for `clicks`: Prompts of (b, P, slots).

    A box followed by clicks also gets slots for them, besides its own two.
    """
    slots = clicks if clicks > 1 or "point" in mix.kinds else 0
    extent = jnp.full((2,), masks.shape[-1], jnp.int32)

    def of_shape(key: jax.Array, mask: jax.Array) -> Prompts:
        kind_key, own = jax.random.split(key)
        return first_prompt(own, mask, draw_kinds(kind_key, mix), extent, mix, size, slots)

    prompts = _each_shape(of_shape)(keys, masks)
    return Prompts(prompts.coords[:, :, 0], prompts.labels[:, :, 0])


def answer(
    prompts: Prompts, slot: int, keys: jax.Array, predicted: jax.Array, masks: jax.Array, present: jax.Array, size: int
) -> Prompts:
    """The prompts with a click in `slot` on the largest error; predicted and masks (b, P, N, N) bool."""
    native = masks.shape[-1]
    everywhere = jnp.ones((native, native), bool)

    def of_shape(key: jax.Array, predicted: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        return next_click(jax.random.fold_in(key, slot), predicted, mask, everywhere)

    clicks, labels = _each_shape(of_shape)(keys, predicted, masks)
    labels = jnp.where(present, labels, prompts.labels[..., slot])
    coords = to_input_pixels(clicks, size / native)
    return Prompts(prompts.coords.at[:, :, slot].set(coords), prompts.labels.at[:, :, slot].set(labels))


def picture_results(model: Sam, batch: Batch, key: jax.Array, objective: Pretraining) -> SliceResults:
    """The loss of each target shape, (b, P), with counts from the single mask of the last round.

    Losses are at the resolution of the logits, against the share of each logit's pixels that the shape fills:
    as sharp as the logits can be, at a sixteenth of the cost of the full resolution.
    """
    size, rounds = objective.image_size, objective.rounds
    target = targets_of(batch)
    half = target.coverage > 0.5
    keys = shape_keys(key, batch)
    prompts = opening_prompts(keys, target.masks, objective.prompts, size, rounds)
    gets_mask = _each_shape(lambda key: jax.random.bernoulli(jax.random.fold_in(key, 0), objective.mask_share))(keys)

    embeddings = model.encode(batch["images"])[:, 0]
    everywhere = jnp.ones(half.shape[-2:], bool)
    total, given = 0.0, None
    for slot in range(1, rounds + 1):
        logits, iou = model.decode(embeddings, prompts, masks=given, has_mask=gets_mask, multimask=None)
        losses = slice_loss(logits, iou, target.coverage[:, :, None], everywhere)
        # Only one click is ambiguous enough for alternatives.
        total += losses[:, :, 0] + (best_of(losses[:, :, 1:]) if slot == 1 else 0.0)
        given = jax.lax.stop_gradient(logits[:, :, 0])
        if slot < rounds:
            prompts = answer(prompts, slot, keys, given > 0, half, target.present, size)
    return SliceResults(total / (rounds + 1), target.present, overlap(given, half, everywhere))


def best_of(losses: jax.Array) -> jax.Array:
    """The least of (..., alternatives). The gradient of `min` is NaN where rounding makes no entry equal the result."""
    chosen = jax.nn.one_hot(losses.argmin(axis=-1), losses.shape[-1], dtype=losses.dtype)
    return (losses * chosen).sum(axis=-1)


def scored_rounds(model: Sam, batch: Batch, key: jax.Array, kind: str, clicks: int) -> dict[str, jax.Array]:
    """IoU of each shape at full resolution as prompts are added: the held-out measure of the pretrained model.

    Args:
        kind: "box" (one round) or "point" (a click, then one on the largest error in each further round).

    Returns:
        `single` (clicks, b, P), the IoU of the single mask after each round; `best` (b, P), that of the best of the
        three alternatives after the first; `filled_box` (b, P), of the tight box itself; `present` (b, P) bool.
    """
    size = batch["ids"].shape[-1]
    target = targets_of(batch)
    keys = shape_keys(key, batch)
    prompts = opening_prompts(keys, target.masks, PromptMix.parse(kind), size, clicks)
    embeddings = model.encode(batch["images"])[:, 0]
    single = []
    for slot in range(1, clicks + 1):
        logits, _ = model.decode(embeddings, prompts, multimask=None)
        predicted = to_native(logits, size, size) > 0
        ious = intersection_over_union(predicted, target.masks[:, :, None])
        single.append(ious[:, :, 0])
        if slot == 1:
            best = ious[:, :, 1:].max(axis=2)
        if slot < clicks:
            prompts = answer(prompts, slot, keys, predicted[:, :, 0], target.masks, target.present, size)
    filled = intersection_over_union(filled_boxes(target.masks), target.masks)
    return {"single": jnp.stack(single), "best": best, "filled_box": filled, "present": target.present}


def filled_boxes(masks: jax.Array) -> jax.Array:
    """The tight box of each mask as a mask, (..., H, W) bool: the baseline of box prompts."""
    x0, y0, x1, y1 = jnp.moveaxis(tight_box(masks)[..., None, None], -3, 0)
    rows, columns = jnp.arange(masks.shape[-2])[:, None], jnp.arange(masks.shape[-1])
    inside = (rows >= y0) & (rows <= y1) & (columns >= x0) & (columns <= x1)
    return inside & masks.any((-2, -1), keepdims=True)


def intersection_over_union(predicted: jax.Array, true: jax.Array) -> jax.Array:
    """IoU over the last two axes; 1 where both are empty."""
    both, either = (predicted & true).sum((-2, -1)), (predicted | true).sum((-2, -1))
    return jnp.where(either > 0, both / jnp.maximum(either, 1), 1.0)
