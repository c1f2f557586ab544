"""Propagates a prompt to the neighbouring slices, one after the other, each prompted by the mask before it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from samjax.inference.predictions import SlicePrediction
from samjax.inference.prompts import Region, SlicePrompt
from samjax.metrics.boxes import bounding_box

GROWTH = 0.05
"""A propagated box is the mask's tight box, each side moved outwards by this share of the width or height, and by a
pixel at least: from one slice to the next a tumour may widen, and it can only be found inside the box."""
MIN_PIXELS = 10
"""Least number of pixels of a mask; a smaller mask ends the propagation."""
IOU_SHARE = 0.5
"""Share of the prompted slice's predicted IoU below which the propagation ends; models differ in the IoU's scale."""

PredictSlices = Callable[[Sequence[SlicePrompt]], list[SlicePrediction]]
Around = Callable[[np.ndarray, int], SlicePrompt]


@dataclass(frozen=True)
class Course:
    """The slices from which masks are propagated, and where to."""

    starts: frozenset[int] | None = None
    """The prompted slices from which it goes; None: from all of them."""
    directions: tuple[int, ...] = (1, -1)
    """1: to higher slices; -1: to lower ones."""


BOTH_WAYS = Course()


def propagate_prompts(
    predict_slices: PredictSlices,
    regions: Sequence[Region],
    slices: int,
    around: Around,
    course: Course = BOTH_WAYS,
) -> Iterator[SlicePrediction]:
    """The predictions of the prompted slices of each region, then those of the slices that their masks reach.

    From every prompted slice of the course the mask goes up and down until it has vanished, or a slice is reached that
    the region has a prompt for. Where two such walks meet, a slice is predicted twice: its mask is their union. A start
    that is prompted by a mask alone goes by that mask as it is, and is not predicted.

    Args:
        predict_slices: segments slices by their prompts.
        slices: number of slices of the volume.
        around: makes the next slice's prompt from a mask: `box_around` or `click_inside`.
        course: the slices to start from, and the directions.
    """
    for region in regions:
        starts = [prompt for z, prompt in region.items() if course.starts is None or z in course.starts]
        given = [prompt for prompt in starts if prompt.kinds == ("mask",)]
        asked = [prompt for prompt in starts if prompt.kinds != ("mask",)]
        predicted = predict_slices(asked) if asked else []
        yield from predicted
        for start in [*predicted, *(SlicePrediction(x.slice, x.mask[None], np.zeros(1)) for x in given)]:
            for direction in course.directions:
                path = range(start.slice + direction, slices if direction > 0 else -1, direction)
                yield from _walk(predict_slices, start, path, region, around)


def _walk(
    predict_slices: PredictSlices, start: SlicePrediction, path: range, region: Region, around: Around
) -> Iterator[SlicePrediction]:
    found, least = start, IOU_SHARE * max(start.iou, 0)
    for number in path:
        if number in region or not found.mask.any():
            return
        (found,) = predict_slices([around(found.mask, number)])
        if np.count_nonzero(found.mask) < MIN_PIXELS or found.iou < least:
            return
        yield found


def box_around(mask: np.ndarray, number: int) -> SlicePrompt:
    """The prompt that boxes a mask (rows, columns), slightly grown (`GROWTH`), on slice `number`."""
    sides = []
    for side, size in zip(bounding_box(mask), mask.shape, strict=True):
        growth = max(1, round(GROWTH * (side.stop - side.start)))
        sides.append((max(side.start - growth, 0), min(side.stop - 1 + growth, size - 1)))
    (y0, y1), (x0, x1) = sides
    return SlicePrompt(number, box=(x0, y0, x1, y1))


def click_inside(mask: np.ndarray, number: int) -> SlicePrompt:
    """The prompt that clicks where a mask (rows, columns) is deepest, on slice `number`."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), mask.shape)
    return SlicePrompt(number, ((int(x), int(y), 1),))
