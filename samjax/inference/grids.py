"""Between the grid of a scan's files, on which prompts come and masks go, and the run's, on which the model works.

Both grids have one field of view (see `data.imaging.resampling`). Slices of the run's grid take the prompts of the
scan's slices, and predicted logits, not masks, go back: where several voxels make up one, the mask's edge stays between
them. A scan's slice counts as run if most of its weight is of slices that were run.
"""

from collections.abc import Sequence

import numpy as np

from samjax.data.imaging.grids import Shape
from samjax.data.imaging.resampling import nearest_slices, resample_region, resampled, steps_between
from samjax.inference.predictions import NOT_RUN, PromptRounds, VolumePrediction, volume_prediction
from samjax.inference.prompts import Region, SlicePrompt


def logits_to_source(logits: np.ndarray, shape: Shape) -> np.ndarray:
    """Logits of the run's grid on a scan's.

    Args:
        logits: (R, Z, rows, columns) float32; a slice that was not run holds `NOT_RUN` everywhere.
        shape: the scan's (slices, rows, columns).

    Returns:
        (R, *shape) float32; a slice more than half of whose weight was not run holds `NOT_RUN`. The weights of the
        slices that were run count alone.
    """
    run = (logits != NOT_RUN).any(axis=(0, 2, 3))
    steps = steps_between(shape, logits.shape[1:])
    slices = dict(steps).get(0, np.eye(len(run), dtype=np.float32))
    share = slices @ run.astype(np.float32)
    kept = share > 0.5
    of_run = np.where(run, slices, 0)[kept] / share[kept, None]
    found = np.full((len(logits), *shape), NOT_RUN, np.float32)
    found[:, kept] = resampled(logits, [(0, of_run), *(step for step in steps if step[0] != 0)])
    return found


def prediction_to_source(
    found: VolumePrediction,
    shape: Shape,
    rois: Sequence[str],
    nested: bool = False,
    kept: np.ndarray | None = None,
) -> VolumePrediction:
    """A SAM's prediction on a scan's grid, from one with logits on the run's.

    Predicted IoU and results by round are those of the nearest slice of the run's grid, and pixel counts stay in its
    pixels; the first clicks are moved.

    Args:
        shape: the scan's (slices, rows, columns).
        rois: the model's regions; `nested` as in `region_codes`.
        kept: (slices,) bool, the scan's slices that were prompted; the others are background. None: all.
    """
    logits = logits_to_source(found.logits, shape)
    if kept is not None:
        logits[:, ~kept] = NOT_RUN
    shown = (logits != NOT_RUN).any(axis=(0, 2, 3))
    nearest = nearest_slices(shape[0], len(found.iou))
    ious = np.where(shown, found.region_iou[:, nearest], np.nan).astype(np.float32)
    rounds = None if found.rounds is None else _rounds_to_source(found.rounds, nearest, shown, found.mask.shape, shape)
    return volume_prediction(logits > 0, ious, rois, nested, rounds, logits)


def _rounds_to_source(
    rounds: PromptRounds, nearest: np.ndarray, shown: np.ndarray, shape: Shape, source: Shape
) -> PromptRounds:
    """Results by round of a scan's slices, which are those of the `nearest` slices of the run's grid of `shape`."""
    click = np.stack([moved(rounds.click[nearest, n], shape[2 - n], source[2 - n]) for n in range(2)], axis=1)
    return PromptRounds(
        prompted=rounds.prompted[nearest] & shown,
        iou=np.where(shown, rounds.iou[:, nearest], 0),
        counts=np.where(shown[:, None], rounds.counts[:, nearest], 0),
        click=np.where((rounds.prompted[nearest] & shown)[:, None], click, 0).astype(np.float32),
    )


def region_to_run(region: Region, source: Shape, shape: Shape) -> Region:
    """An object's prompts on the slices and in the pixels of the run's grid of `shape`; `source` is the scan's shape.

    A slice's prompt goes to the slices of the run's grid whose centre it holds, or, if there is none, to that which
    holds its own centre. Clicks of several slices that go to one are one prompt there, and so are their masks.
    """
    found: Region = {}
    nearest, held = nearest_slices(source[0], shape[0]), nearest_slices(shape[0], source[0])
    for z, prompt in region.items():
        for number in np.flatnonzero(held == z).tolist() or [int(nearest[z])]:
            there, before = prompt_to_run(prompt, number, source, shape), found.get(number, SlicePrompt(number))
            clicks, box = (*before.clicks, *there.clicks), there.box or before.box
            masks = [mask for mask in (before.mask, there.mask) if mask is not None]
            found[number] = SlicePrompt(number, clicks, box, np.any(masks, axis=0) if masks else None)
    return found


def prompt_to_run(prompt: SlicePrompt, number: int, source: Shape, shape: Shape) -> SlicePrompt:
    """A prompt in the pixels of the run's grid, for its slice `number`; `source` is the scan's shape."""
    clicks = tuple((*_pixel(x, y, source, shape), label) for x, y, label in prompt.clicks)
    box = None if prompt.box is None else _box(prompt.box, source, shape)
    mask = None if prompt.mask is None else resample_region(prompt.mask[None], (1, *shape[1:]))[0]
    return SlicePrompt(number, clicks, box, mask)


def moved(place: np.ndarray | float, source: int, target: int) -> np.ndarray | float:
    """Places along an axis of `source` voxels, whole numbers being centres, on one of `target` voxels."""
    return (place + 0.5) * target / source - 0.5


def _pixel(x: float, y: float, source: Shape, shape: Shape) -> tuple[float, float]:
    return moved(x, source[2], shape[2]), moved(y, source[1], shape[1])


def _box(box: Sequence[float], source: Shape, shape: Shape) -> tuple[float, float, float, float]:
    """A box around the same part of the slice; its sides run through the centres of its outermost pixels."""
    x0, y0, x1, y1 = box
    (x0, x1), (y0, y1) = (
        _side(first, last, source[axis], shape[axis]) for axis, first, last in ((2, x0, x1), (1, y0, y1))
    )
    return x0, y0, x1, y1


def _side(first: float, last: float, source: int, target: int) -> tuple[float, float]:
    start, stop = moved(first - 0.5, source, target) + 0.5, moved(last + 0.5, source, target) - 0.5
    return (start, stop) if start <= stop else ((start + stop) / 2,) * 2
