"""The loss of a sample: from native slices to the loss of each slice, all inside the compiled step."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from samjax.data.labels import IGNORED, roi_mask, rois_of
from samjax.data.on_device.augment import Augmentation, augment, coordinate_field, warp_nearest
from samjax.data.on_device.channels import Channels
from samjax.data.on_device.keys import SampleKeys, sample_keys
from samjax.data.on_device.modalities import shown_channels
from samjax.data.on_device.prompts import KINDS, PromptMix, add_click, draw_kinds, first_prompt, further_key
from samjax.models.prompt_encoder import POSITIVE, Prompts
from samjax.models.resizing import inside, to_input, to_native
from samjax.models.sam import Sam
from samjax.training.tasks.losses import overlap, slice_loss

MASK_SHARE = 0.5
"""Share of the slices that get a mask prompt in training. In SAM's own every further click comes with the logits of
the round before (Kirillov et al. 2023, appendix A); here half of the slices get none in each round, so that a run also
segments from clicks alone."""

Batch = dict[str, jax.Array]
"""Samples: `images` (b, Z, N, N, 4) uint8; `labels` (b, Z, N, N) uint8 canonical; `extent` (b, 2) int32 rows and
columns that are not padding; `slices` (b, Z) bool, False for padding slices; `valid` (b,) bool, False for padding
samples; `identity` (b,) int32 names the case and `start` (b,) int32 its first slice: what is drawn depends on them;
`present` (b, 4) bool says which modalities the case has.

Samples of a frozen encoder may hold `embeddings` (b, 1, h, w, c) float16 in place of `images`, and then `variant`
(b,) int32, which names the augmentation that they were computed with."""


@dataclass(frozen=True)
class Objective:
    """The choices that turn a batch into prompts and losses; static in the compiled step."""

    roi: str
    """A region, or all: prompts, clicks and mask prompts are of the first of `rois`."""
    channels: Channels
    prompts: PromptMix
    image_size: int
    clicks: int = 1
    """Rounds of a sample prompted by clicks; every further click is in the largest error region of the round before."""
    augmentation: Augmentation | None = None
    seed: int = 0
    """Seed of the augmentation of samples with a variant."""
    mask_share: float = 0.0
    """Share of the slices whose further click comes with the logits of the round before as mask prompt; drawn anew in
    every round."""
    modality_dropout: float = 0.0
    """Probability with which each modality of a sample is hidden."""
    learns_absence: bool = False
    """Whether prompt-free samples learn that a slice shows none of an inner region, as they learn that it shows no
    tumour; else an inner region counts in the slices that show it alone, as in a run of this region."""

    @property
    def rois(self) -> tuple[str, ...]:
        """The regions that are learnt, the prompted one first."""
        return rois_of(self.roi)

    @property
    def rounds(self) -> int:
        """Number of rounds for each slice; 1 without points, since there is no slot for a click."""
        return self.clicks if "point" in self.prompts.kinds else 1


class SliceResults(NamedTuple):
    """Results of each slice, (b, Z): its loss, whether it counts, and its pixel counts by name.

    Of several regions, the loss is weighted by `region_shares`; pixel counts are the prompted one's.
    """

    loss: jax.Array
    counted: jax.Array
    overlap: dict[str, jax.Array]


def draw_prompts(
    keys: SampleKeys, masks: jax.Array, extent: jax.Array, objective: Objective
) -> tuple[Prompts, jax.Array]:
    """One kind of prompt for each sample, its own prompt for each slice.

    Args:
        masks: (b, Z, N, N) bool.
        extent: (b, 2).

    Returns:
        Prompts of b * Z pictures with one prompt each, and the samples' kinds (b,).
    """
    mix, size = objective.prompts, objective.image_size
    clicks = objective.rounds if "point" in mix.kinds else 0
    kinds = jax.vmap(lambda key: draw_kinds(key, mix))(keys.kind)
    of_slice = jax.vmap(lambda *args: first_prompt(*args, mix, size, clicks), in_axes=(0, 0, None, None))
    prompts = jax.vmap(of_slice)(keys.slices, masks, kinds, extent)
    return Prompts(*(x.reshape(-1, *x.shape[2:]) for x in prompts)), kinds


def answer_clicks(
    prompts: Prompts, slot: int, keys: jax.Array, predicted: jax.Array, masks: jax.Array, pixels: jax.Array, size: int
) -> Prompts:
    """The prompts with one more click for each slice; keys (b, Z), the rest (b, Z, N, N) bool."""

    def flat(x: jax.Array) -> jax.Array:
        return x.reshape(-1, *x.shape[2:])

    slot_keys = jax.vmap(further_key, in_axes=(0, None))(flat(keys), slot)
    pixels = jnp.broadcast_to(pixels, masks.shape)
    answer = jax.vmap(lambda *args: add_click(args[0], slot, *args[1:], size))
    return answer(prompts, slot_keys, flat(predicted), flat(masks), flat(pixels))


def draw_masks(keys: jax.Array, slot: int, prompts: Prompts, share: float) -> jax.Array:
    """The slices that get a mask prompt in the round that fills `slot`, (pictures, 1) bool; none without a click.

    Keys are (b, Z), with b * Z = pictures.
    """

    def drawn(key: jax.Array) -> jax.Array:
        # A key that neither the clicks nor the first prompt used.
        return jax.random.bernoulli(jax.random.fold_in(jax.random.fold_in(key, slot + 1), 1), share)

    return jax.vmap(drawn)(keys.reshape(-1))[:, None] & (prompts.labels[..., 0] == POSITIVE)


def augmentation_keys(key: jax.Array, batch: Batch, seed: int) -> jax.Array:
    """Keys (b,) of the augmentation; with a variant they depend on `seed`, case, slice and variant instead of `key`."""
    if "variant" not in batch:
        return sample_keys(key, batch).augment
    fixed = sample_keys(jax.random.key(seed), batch).augment
    return jax.vmap(jax.random.fold_in)(fixed, batch["variant"])


def augmented(
    batch: Batch, key: jax.Array, channels: Channels, augmentation: Augmentation | None, seed: int = 0
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The channels (b, Z, N, N, C) float32 and labels (b, Z, N, N) of a batch, and the pixels that count.

    Each sample is augmented with a key of its own (`augmentation_keys`). The pixels are (b, Z, N, N) bool, False for
    padding and for ignored voxels; labels are background there.
    """
    # Channels first: pca2d knows a pixel by its place in the scan.
    images, labels = channels(batch["images"]), batch["labels"]
    if augmentation is not None:
        keys = augmentation_keys(key, batch, seed)
        images, labels = jax.vmap(augment, in_axes=(0, 0, 0, 0, None))(
            keys, images, labels, batch["extent"], augmentation
        )
    # The warp may carry tissue into the padding, where there is no slice.
    within = inside(batch["extent"], images.shape[2])[:, None]
    pixels = within & (labels != IGNORED)
    return jnp.where(within[..., None], images, 0), jnp.where(pixels, labels, 0), pixels


def augmented_labels(
    batch: Batch, key: jax.Array, augmentation: Augmentation | None, seed: int = 0
) -> tuple[jax.Array, jax.Array]:
    """The labels and pixels as in `augmented`, for a batch that may have no images."""
    labels = batch["labels"]
    if augmentation is not None:

        def warped(key: jax.Array, labels: jax.Array, extent: jax.Array) -> jax.Array:
            field = coordinate_field(key, labels.shape[1], extent, augmentation)
            return jnp.moveaxis(warp_nearest(jnp.moveaxis(labels, 0, 2), field), 2, 0)

        labels = jax.vmap(warped)(augmentation_keys(key, batch, seed), labels, batch["extent"])
    pixels = inside(batch["extent"], labels.shape[2])[:, None] & (labels != IGNORED)
    return jnp.where(pixels, labels, 0), pixels


def embed(model: Sam, batch: Batch, key: jax.Array, objective: Objective) -> jax.Array:
    """The embeddings (b, Z, h, w, c) float16 of augmented samples, for the cache."""
    images, _, _ = augmented(batch, key, objective.channels, objective.augmentation, objective.seed)
    return model.encode(to_input(images, objective.image_size), batch["slices"]).astype(jnp.float16)


def region_shares(targets: jax.Array, absence: jax.Array) -> jax.Array:
    """The weight of each region in the loss of a slice, (b, Z, R) float32: 1 over their number, or 0.

    The prompted region, the first, always has one. Of the inner ones those that the slice does not show have one only
    where absence is learnt.

    Args:
        targets: (b, Z, R, N, N) bool.
        absence: whether absence is learnt, of a shape that broadcasts to (b, Z).
    """
    counts = targets.any((-2, -1)) | absence[..., None]
    counts = counts.at[:, :, 0].set(True).astype(jnp.float32)
    return counts / counts.shape[2]


def slice_results(model: Sam, batch: Batch, key: jax.Array, objective: Objective) -> SliceResults:
    """Augments, prompts and scores a batch; all random draws come from `key` and the identities.

    If the batch holds embeddings, the encoder does not run.
    """
    if "embeddings" in batch:
        with jax.named_scope("augment"):
            labels, pixels = augmented_labels(batch, key, objective.augmentation, objective.seed)
        embeddings = batch["embeddings"].astype(jnp.float32)
    else:
        with jax.named_scope("augment"):
            images, labels, pixels = augmented(batch, key, objective.channels, objective.augmentation)
            shown = shown_channels(key, batch, objective.channels, objective.modality_dropout)
        with jax.named_scope("encode"):
            embeddings = model.encode(to_input(images, objective.image_size), batch["slices"], shown)
    embeddings = embeddings.reshape(-1, *embeddings.shape[2:])
    targets = jnp.stack([roi_mask(labels, roi) for roi in objective.rois], axis=2)
    masks = targets[:, :, 0]  # of the prompted region
    keys = sample_keys(key, batch)
    prompts, kinds = draw_prompts(keys, masks, batch["extent"], objective)
    prompt_free = (kinds == KINDS.index("none"))[:, None]
    share = region_shares(targets, prompt_free & objective.learns_absence)

    losses: list[jax.Array] = []
    rounds, given = objective.rounds, {}
    for slot in range(1, rounds + 1):
        with jax.named_scope("decode"):
            logits, iou = model.decode(embeddings, prompts, **given)
        low = jax.lax.stop_gradient(logits[:, :, 0])
        logits = to_native(logits[:, 0], objective.image_size, labels.shape[2]).reshape(targets.shape)
        of_regions = slice_loss(logits, iou.reshape(targets.shape[:3]), targets, pixels[:, :, None])
        losses.append((share * of_regions).sum(axis=2))
        fixed = jax.lax.stop_gradient(logits[:, :, 0])
        if slot < rounds:
            prompts = answer_clicks(prompts, slot, keys.slices, fixed > 0, masks, pixels, objective.image_size)
            if objective.mask_share:
                has_mask = draw_masks(keys.slices, slot, prompts, objective.mask_share)
                given = {"masks": low, "has_mask": has_mask}

    # A slice without ROI has no ground-truth prompt: it feeds its neighbours, but only `none` scores it.
    prompted = masks.any((-2, -1)) | prompt_free
    counted = prompted & batch["slices"] & batch["valid"][:, None] & pixels.any((-2, -1))
    return SliceResults(sum(losses) / len(losses), counted, overlap(fixed, masks, pixels))
