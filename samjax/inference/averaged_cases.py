"""Segments labelled cases by the mean of several models or rotations, prompt-free or by prompts drawn from the labels.

All models get the same prompts, which are drawn on the grid of the scan.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax
import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import IGNORED, roi_mask
from samjax.inference.averaging import averaged
from samjax.inference.encoded import SLICES
from samjax.inference.ground_truth import GroundTruthPrompts, first_prompts
from samjax.inference.model import SegmentationModel
from samjax.inference.predictions import PromptRounds, VolumePrediction
from samjax.inference.programs import grouped
from samjax.inference.prompts import Region, SlicePrompt
from samjax.inference.reading import read_ahead
from samjax.inference.source import SourceVolume


def segment_averaged(
    models: Sequence[SegmentationModel],
    cases: Sequence[CachedCase],
    prompts: GroundTruthPrompts,
    *,
    slices: int = SLICES,
    workers: int = 0,
) -> Iterator[tuple[CachedCase, VolumePrediction]]:
    """Segments prepared cases one by one, in order, each by the mean of all models, see `averaged`.

    Args:
        models: of the same regions.
        prompts: prompt-free, boxes, or one click; with prompts, slices without the region stay background.
        slices: number of slices that go through a model together on each device.
        workers: threads that read the next cases.
    """

    def read(case: CachedCase) -> tuple[np.ndarray, np.ndarray]:
        return case.read(0, case.shape[0])

    first = models[0]
    for case, (images, labels) in read_ahead(cases, read, workers):
        truth = roi_mask(labels, first.rois[0])
        region = None if prompts.kind == "none" else drawn_region(truth, prompts, case.case.identity, first, slices)

        def of(model: SegmentationModel, case=case, images=images, region=region) -> VolumePrediction:
            volume = SourceVolume(model, images, case.geometry.spacing, slices, modalities=case.modalities)
            return volume.segment(logits=True) if region is None else volume.segment_regions([region], logits=True)

        found = averaged(map(of, models), first)
        if region is not None:
            found = replace(found, rounds=rounds_of(found, region, truth, first.rois[0], labels != IGNORED))
        yield case, found


def drawn_region(
    truth: np.ndarray, prompts: GroundTruthPrompts, identity: int, model: SegmentationModel, slices: int = SLICES
) -> Region:
    """The box or the first click of every slice that shows the region, as `ground_truth` draws them.

    Args:
        truth: (Z, rows, columns) bool, on the grid of the scan.
        identity: identity of the case, on which the clicks depend.
        model: the model to whose square the slices are padded.
        slices: number of slices for which they are drawn together.
    """
    rows, columns = truth.shape[1:]
    side = model.square(rows, columns)
    padded = np.pad(truth, ((0, 0), (0, side - rows), (0, side - columns)))
    key, region = jax.random.key(prompts.seed), {}
    for group, filled in grouped(np.flatnonzero(truth.any((1, 2))).tolist(), slices * model.devices.count):
        numbers = np.int32(filled)
        drawn = first_prompts(
            key, np.int32(identity), numbers, padded[numbers], kind=prompts.kind, slots=1, devices=model.devices
        )
        points, boxes = jax.device_get((drawn.points, drawn.boxes))
        for z, point, box in zip(group, points[:, 0].tolist(), boxes.tolist(), strict=False):
            is_box = prompts.kind == "box"
            region[z] = SlicePrompt(z, () if is_box else ((*point, 1),), tuple(box) if is_box else None)
    return region


def rounds_of(
    found: VolumePrediction, region: Region, truth: np.ndarray, roi: str, labelled: np.ndarray
) -> PromptRounds:
    """The results of a prediction's only round, on the grid of the scan.

    Args:
        found: the prediction.
        region: the prompts.
        truth: (Z, rows, columns) bool, the prompted region.
        roi: the name of the prompted region.
        labelled: (Z, rows, columns) bool, False where the label is to be ignored.
    """
    prompted = np.isin(np.arange(len(truth)), list(region))
    mask = found.region(roi) & labelled
    counts = np.stack([x.sum((1, 2), dtype=np.int32) for x in (mask & truth, mask, truth)], axis=-1)
    click = np.zeros((len(truth), 2), np.float32)
    for z, prompt in region.items():
        click[z] = prompt.clicks[0][:2] if prompt.clicks else 0
    iou = np.where(prompted, found.iou, 0).astype(np.float32)
    return PromptRounds(prompted, iou[None], np.where(prompted[:, None], counts, 0)[None], click)
