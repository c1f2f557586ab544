"""The 95 % Hausdorff distance in the three definitions in use; `hd95` is the one of all tables.

All take boolean masks of one shape, 2-D or 3-D, and spacing in mm per axis; `masks` has the scores of empty masks.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samjax.metrics.boundaries import boundary, nearest_distances
from samjax.metrics.masks import Mask, MaskPair, Spacing, checked_spacing, count_slices, diagonal, mask_pair
from samjax.metrics.surfaces import element_distances

_PERCENT = 95


def hd95(pred: Mask, true: Mask, spacing: Sequence[float]) -> float:
    """The 95 % Hausdorff distance in mm: the larger of the two directed 95th percentiles.

    A directed distance goes from each boundary voxel of one mask to the nearest boundary voxel of the other; a
    boundary voxel has a background face-neighbour. Percentiles interpolate linearly. This is MONAI's definition.
    """
    spacing = checked_spacing(spacing, pred)
    return hd95_of(mask_pair(pred, true), spacing)


def hd95_of(pair: MaskPair, spacing: Spacing) -> float:
    """`hd95` of masks that are a pair already."""

    def larger() -> float:
        p, t = boundary(pair.pred), boundary(pair.true)
        return max(_directed(p, t, spacing), _directed(t, p, spacing))

    return pair.distance(larger, spacing)


def hd95_pooled(pred: Mask, true: Mask, spacing: Sequence[float]) -> float:
    """MedPy's variant: the 95th percentile of the directed distances of both directions together, in mm.

    A short boundary counts for little next to a long one.
    """
    spacing = checked_spacing(spacing, pred)
    pair = mask_pair(pred, true)

    def pooled() -> float:
        p, t = boundary(pair.pred), boundary(pair.true)
        return _percentile(np.concatenate([nearest_distances(p, t, spacing), nearest_distances(t, p, spacing)]))

    return pair.distance(pooled, spacing)


def hd95_by_area(pred: Mask, true: Mask, spacing: Sequence[float]) -> float:
    """The robust Hausdorff distance of surface-distance in mm, which the BraTS challenges of 2023 use.

    It is `hd95` between surface elements instead of boundary voxels, each weighted by its area: the smallest
    distance within which 95 % of a surface lies, without interpolation.
    """
    spacing = checked_spacing(spacing, pred)
    pair = mask_pair(pred, true)
    return pair.distance(lambda: max(_area_percentile(*side) for side in element_distances(pair, spacing)), spacing)


def hd95_of_slices(pred: Mask, true: Mask, spacing: Spacing) -> NDArray:
    """`hd95` of every slice of a volume in one go, float64 (n,); no slice of either mask is empty.

    Args:
        pred, true: (n, rows, columns) bool.
        spacing: mm along rows and columns.
    """
    # Slices are put so far apart that every nearest voxel lies in the same slice.
    stretched = (10 * diagonal(pred.shape[1:], spacing), *spacing)
    p, t = boundary(pred, axes=(1, 2)), boundary(true, axes=(1, 2))
    directed = []
    for source, target in ((p, t), (t, p)):
        distances = nearest_distances(source, target, stretched)
        ends = np.cumsum(count_slices(source))
        directed.append([_percentile(part) for part in np.split(distances, ends[:-1])])
    return np.max(directed, axis=0)


def _directed(source: Mask, target: Mask, spacing: Spacing) -> float:
    """The 95th percentile of the distances from `source` to `target`."""
    # Only the distances up to the percentile have to be known: the rest stays infinite.
    exact = _rank(int(np.count_nonzero(source)))[0] + 2
    return _percentile(nearest_distances(source, target, spacing, exact))


def _rank(count: int) -> tuple[int, float]:
    """The position of the percentile among `count` sorted values: the index below it, and the fraction beyond."""
    place = _PERCENT / 100 * (count - 1)
    return int(place), place - int(place)


def _percentile(values: NDArray) -> float:
    """The 95th percentile with linear interpolation (np.percentile is ten times as slow on short lists)."""
    below, beyond = _rank(values.size)
    above = min(below + 1, values.size - 1)
    ranked = np.partition(values, (below, above))
    return float(ranked[below] + (ranked[above] - ranked[below]) * beyond)


def _area_percentile(distances: NDArray, areas: NDArray) -> float:
    """The distance within which 95 % of the area lies."""
    order = np.lexsort((areas, distances))
    covered = np.cumsum(areas[order]) / areas[order].sum()
    place = min(int(np.searchsorted(covered, _PERCENT / 100)), distances.size - 1)
    return float(distances[order[place]])
