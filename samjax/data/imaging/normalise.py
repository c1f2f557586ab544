"""Percentile normalisation of one image to 8 bits."""

import numpy as np

from samjax.data.imaging.soft_edge import brain_within_soft_edge
from samjax.errors import UserError

PERCENTILES = (0.5, 99.5)
"""Percentiles of the foreground that become 0 and 255."""
# Up to this many distinct integers, a histogram costs less than sorting the voxels.
_MOST_BINS = 1 << 17


def normalise(values: np.ndarray, background: float, name: str) -> np.ndarray:
    """An image as uint8, with percentiles 0.5 and 99.5 of the foreground mapped to 0 and 255.

    Voxels equal to `background` become 0. Equal values give equal bytes whatever type they are stored in. Where the
    brain has a soft edge, the percentiles leave the darkest of it out (see `soft_edge`): it would stretch the range
    towards the background, and a model would take the brighter brain for tumour.

    Args:
      values: (slice, row, column) of any integer or float type, cropped to the brain; may be a view.
      background: the value outside the brain; see `background`.
      name: name of the image, for the error.

    Returns:
      uint8 of the same shape, contiguous.

    Raises:
      UserError: the foreground has a single value.
    """
    array = np.ascontiguousarray(values)  # many files are flipped views, slow to walk along
    brain = brain_within_soft_edge(array, background)
    lowest, highest = array.min(), array.max()
    if array.dtype.kind in "iu" and int(highest) - int(lowest) < _MOST_BINS:
        levels = np.arange(int(lowest), int(highest) + 1)
        if brain is None:
            counts = sum(_counts(plane, lowest, levels.size) for plane in array) * (levels != background)
        else:
            counts = _counts(array[brain], lowest, levels.size)
        low, high = _window_of_counts(levels, counts, name)
        table = np.where(levels != background, _to_bytes(levels, low, high), 0).astype(np.uint8)
        return np.stack([table[_above(lowest, plane)] for plane in array])
    low, high = _window_of_values(array[array != background if brain is None else brain], name)
    return np.stack([np.where(plane != background, _to_bytes(plane, low, high), np.uint8(0)) for plane in array])


def _window_of_values(values: np.ndarray, name: str) -> tuple[float, float]:
    """The percentiles of the values that become 0 and 255; the extremes where nearly all voxels are alike."""
    ranks = _ranks(values.size)
    places = np.concatenate([np.floor(ranks), np.ceil(ranks)]).astype(np.intp)
    under, over = np.partition(values, places)[places].reshape(2, -1)
    return _window(ranks, under, over, (values.min(), values.max()), name)


def _window_of_counts(levels: np.ndarray, counts: np.ndarray, name: str) -> tuple[float, float]:
    """The same as `_window_of_values`, computed from the number of voxels at each level."""
    below = np.cumsum(counts)
    ranks = _ranks(below[-1])
    under, over = (levels[np.searchsorted(below, whole(ranks), side="right")] for whole in (np.floor, np.ceil))
    present = levels[counts > 0]
    return _window(ranks, under, over, (present[0], present[-1]), name)


def _ranks(count: int) -> np.ndarray:
    """Positions of the percentiles among `count` sorted values, counted from 0; a fraction lies between two values."""
    return np.array(PERCENTILES) / 100 * (int(count) - 1)


def _window(
    ranks: np.ndarray, under: np.ndarray, over: np.ndarray, extremes: tuple[float, float], name: str
) -> tuple[float, float]:
    """The percentiles between the values just `under` and `over` their ranks, as `np.percentile` interpolates.

    They are computed in float64, whatever the values' type, so that the same values give the same bytes.
    """
    under, over = under.astype(np.float64), over.astype(np.float64)
    low, high = under + (over - under) * (ranks % 1)
    if low == high:
        low, high = extremes
    if low == high:
        raise UserError(f"{name}: constant, all of the brain is {low:g}; repair or leave out the case")
    return float(low), float(high)


def _counts(values: np.ndarray, lowest: np.generic, levels: int) -> np.ndarray:
    """The number of values at each level from `lowest` on."""
    return np.bincount(_above(lowest, values).ravel(), minlength=levels)


def _above(lowest: np.generic, plane: np.ndarray) -> np.ndarray:
    """A plane's integers as indices counted from `lowest`; one plane at a time stays in the processor's cache."""
    return plane.astype(np.intp) - int(lowest)


def _to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
