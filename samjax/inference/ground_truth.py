"""Prompts drawn from a label, for scoring: one source of prompts beside those from a person or a file.

A slice that shows the region gets its tight box, or a click drawn uniformly from the region and then further clicks,
each in the largest error of the prediction so far. What is drawn depends on the seed, the case and the slice alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from samjax.data.on_device.keys import slice_keys
from samjax.data.on_device.prompts import first_click, further_key, next_click, tight_box
from samjax.inference.devices import Devices
from samjax.inference.encoded import EncodedVolume
from samjax.inference.predictions import NOT_RUN, PromptRounds, VolumePrediction, volume_prediction
from samjax.inference.prompts import Slots, click_slots
from samjax.models.prompt_encoder import EMPTY, POSITIVE
from samjax.models.resizing import inside


@dataclass(frozen=True)
class GroundTruthPrompts:
    """The prompts of the slices of a labelled scan."""

    kind: str
    """Kind of prompt: box, point, or none, with which every slice is segmented prompt-free."""
    clicks: int = 1
    """Clicks on each slice where the kind is point."""
    seed: int = 0
    """The seed of the clicks; the same for models that are to be compared."""

    @property
    def rounds(self) -> int:
        """Number of times that each slice is decoded: once for every click, else once."""
        return self.clicks if self.kind == "point" else 1

    @property
    def source(self) -> str:
        """The source of the prompts, for tables."""
        return "none" if self.kind == "none" else "ground truth"

    def __str__(self) -> str:
        return f"point, {self.clicks} clicks" if self.rounds > 1 else self.kind


def segment_by_truth(
    volume: EncodedVolume,
    truth: np.ndarray,
    labelled: np.ndarray,
    prompts: GroundTruthPrompts,
    identity: int,
    logits: bool = False,
) -> VolumePrediction:
    """Segments the slices that show the region by prompts drawn from it; the others stay background and are not run.

    Args:
        truth: (Z, rows, columns) bool, the region; of a model of several, the first of its `rois`.
        labelled: (Z, rows, columns) bool, False where the label is to be ignored: clicks and counts leave these pixels
            out.
        prompts: boxes or points.
        identity: identity of the case, on which the clicks depend.
        logits: whether the result has logits.
    """
    numbers = np.flatnonzero(truth[:, *volume.frame].any((1, 2))).tolist()
    volume.encode(numbers)
    played = [
        _play(volume, filled, truth[filled], labelled[filled], prompts, identity, logits)
        for _, filled in volume.groups(numbers)
    ]
    return _collected(numbers, jax.device_get(played), truth & labelled, prompts, volume, logits)


Played = tuple[jax.Array, list[jax.Array], list[jax.Array], jax.Array]
"""Results of n slices: masks (n, R, N, N) of the last round or, where asked for, their logits; predicted IoU (n, R) and
counts (n, 3) of each round; and the first clicks (n, 2)."""


def _play(
    volume: EncodedVolume,
    slices: Sequence[int],
    truth: np.ndarray,
    labelled: np.ndarray,
    prompts: GroundTruthPrompts,
    identity: int,
    logits: bool,
) -> Played:
    """Runs all rounds of some slices, without waiting for the device.

    A model that was trained with masks gets the logits of the round before with every further click, as in training.
    """
    devices, truth, labelled = volume.model.devices, volume.padded(truth), volume.padded(labelled)
    draw = jax.random.key(prompts.seed), np.int32(identity), np.int32(slices), truth
    slots = first_prompts(*draw, kind=prompts.kind, slots=click_slots(prompts.rounds), devices=devices)
    click, iou, counts, given = slots.points[:, 0], [], [], None
    for number in range(1, prompts.rounds + 1):
        decoded = volume.decode(slices, slots, given)
        counted = decoded.masks & labelled[:, None]
        iou.append(decoded.iou)
        counts.append(pixel_counts(counted, truth, volume.extent, devices=devices))
        if number < prompts.rounds:
            given = decoded.logits[:, 0] if "mask" in volume.model.prompts else None
            slots = with_next_click(slots, np.int32(number), *draw, counted, volume.extent, devices=devices)
    return volume.pixel_logits(decoded) if logits else decoded.masks, iou, counts, click


def _collected(
    numbers: Sequence[int],
    played: Sequence[Played],
    truth: np.ndarray,
    prompts: GroundTruthPrompts,
    volume: EncodedVolume,
    logits: bool,
) -> VolumePrediction:
    """Puts groups of slices into their volume, without the padding of the last group.

    The label's pixels are counted over whole slices, since a label may reach beyond what a scan shows.
    """
    slices, rois = volume.shape[0], volume.model.rois
    masks, last = np.zeros((len(rois), *volume.shape), bool), np.full((len(rois), slices), np.nan, np.float32)
    iou, counts = np.zeros((prompts.rounds, slices), np.float32), np.zeros((prompts.rounds, slices, 3), np.int32)
    click, prompted = np.zeros((slices, 2), np.float32), np.zeros(slices, bool)
    whole = np.full((len(rois), *volume.shape), NOT_RUN, np.float32) if logits else None
    place = 0
    for found, ious, of_rounds, clicks in played:
        group = numbers[place : place + len(found)]
        place, n = place + len(found), len(group)
        planes = volume.unpadded(found[:n]).swapaxes(0, 1)
        masks[:, group] = planes > 0
        if whole is not None:
            whole[:, group] = planes
        last[:, group] = ious[-1][:n].T
        iou[:, group] = np.stack(ious)[:, :n, 0]
        counts[:, group] = np.stack(of_rounds)[:, :n]
        counts[:, group, 2] = truth[group].sum((1, 2))
        click[group] = clicks[:n] + volume.corner
    prompted[numbers] = True
    rounds = PromptRounds(prompted, iou, counts, click)
    return volume_prediction(masks, last, rois, volume.model.nested, rounds, whole)


@partial(jax.jit, static_argnames=("kind", "slots", "devices"))
def first_prompts(
    key: jax.Array,
    identity: jax.Array,
    numbers: jax.Array,
    truth: jax.Array,
    *,
    kind: str,
    slots: int,
    devices: Devices,
) -> Slots:
    """The tight box or the first click of n slices of one case.

    Args:
        key: PRNG key of the seed; `identity` () int32 is the case's, and `numbers` (n,) int32 are the slices'.
        truth: (n, N, N) bool; every slice shows the region.
        slots: number of slots for clicks, all but the first of which stay empty.
    """
    truth, count = devices.split(truth), len(numbers)
    points = jnp.zeros((count, slots, 2), jnp.float32)
    labels = jnp.full((count, slots), EMPTY, jnp.int32)
    if kind == "box":
        return Slots(points, labels, jax.vmap(tight_box)(truth), jnp.ones(count, bool))
    keys = slice_keys(key, identity, numbers)
    points = points.at[:, 0].set(jax.vmap(first_click)(keys, truth))
    return Slots(points, labels.at[:, 0].set(POSITIVE), jnp.zeros((count, 4), jnp.float32), jnp.zeros(count, bool))


@partial(jax.jit, static_argnames="devices")
def with_next_click(
    slots: Slots,
    slot: jax.Array,
    key: jax.Array,
    identity: jax.Array,
    numbers: jax.Array,
    truth: jax.Array,
    masks: jax.Array,
    extent: jax.Array,
    *,
    devices: Devices,
) -> Slots:
    """Puts into `slot` a click in the largest error region of the prediction `masks` (n, R, N, N), see `next_click`."""
    keys = slice_keys(key, identity, numbers)
    keys = jax.vmap(further_key, in_axes=(0, None))(keys, slot)
    pixels = inside(extent, truth.shape[1])
    draw = jax.vmap(next_click, in_axes=(0, 0, 0, None))
    clicks, labels = draw(keys, devices.split(masks[:, 0]), devices.split(truth), pixels)
    return slots._replace(points=slots.points.at[:, slot].set(clicks), labels=slots.labels.at[:, slot].set(labels))


@partial(jax.jit, static_argnames="devices")
def pixel_counts(masks: jax.Array, truth: jax.Array, extent: jax.Array, *, devices: Devices) -> jax.Array:
    """Pixel counts (n, 3) int32: of the intersection of prediction (n, R, N, N) and label (n, N, N), and of each."""
    found = devices.split(masks[:, 0]) & inside(extent, truth.shape[1])
    return jnp.stack([x.sum((1, 2)) for x in (found & truth, found, truth)], axis=1)
