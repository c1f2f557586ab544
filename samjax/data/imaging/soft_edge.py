"""Finds a soft edge of the brain: voxels that interpolation or blur has mixed of brain and background.

A scan that was resampled or smoothed after skull stripping has a rim of one to three voxels with any value between
the background's and the brain's. The darkest of them say nothing of the brain, so normalisation leaves them out. The
limits lie between the hard edges of seven cases of BraTS 2018, where the share of nearly background is at most 0.06,
and the soft ones of three others, and of the seven when blurred or resampled, where it is at least 0.18.
"""

import numpy as np

_NEARLY, _SHARE = 0.1, 0.1
"""An edge is soft if at least the second is the share of its outermost voxels that differ from the background by less
than the first, as a share of the brain's median difference."""
_FEWEST = 100
"""Voxels at the edge, in the slices looked at, below which nothing can be told."""
BRAIN = 0.2
"""The least difference from the background, as a share of the brain's median difference, of voxels that are taken for
brain where the edge is soft. With 0.2 the median of the seven cases moves by 6 of 255 levels on average, and by 19 at
most, when they are blurred or resampled; without, by 13 and 40."""
_STEP = 4
"""Every so many slices are looked at to tell whether an edge is soft."""


def brain_within_soft_edge(array: np.ndarray, background: float) -> np.ndarray | None:
    """The brain without the darkest of its rim, where its edge is soft; None where it is hard, or too short to tell.

    Args:
      array: (slice, row, column) of any real type.
      background: the value outside the brain.

    Returns:
      bool of the same shape, or None.
    """
    if not _is_soft(array[:: min(_STEP, max(1, len(array) // 2))], background):
        return None
    away = _away(array, background)
    return away > BRAIN * np.median(away[array != background])


def _is_soft(array: np.ndarray, background: float) -> bool:
    """Whether the outermost voxels of the foreground, slice by slice, are mixed with background."""
    foreground = array != background
    outermost = _outermost(foreground)
    if np.count_nonzero(outermost) < _FEWEST:
        return False
    nearly = _away(array[outermost], background) < _NEARLY * np.median(_away(array[foreground], background))
    return bool(nearly.mean() >= _SHARE)


def _away(values: np.ndarray, background: float) -> np.ndarray:
    """Differences from the background, of one type, so that values compare alike whatever type they are stored in."""
    return np.abs(values.astype(np.float64) - background)


def _outermost(mask: np.ndarray) -> np.ndarray:
    """The voxels of a mask that are beside others in their slice; those at the ends of the array are not."""
    inside = mask.copy()
    for axis in (1, 2):
        moved, whole = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        moved[1:] &= whole[:-1]
        moved[:-1] &= whole[1:]
    return mask & ~inside
