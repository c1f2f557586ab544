"""How well a predicted mask matches the true one: overlap and distance of boundaries.

All functions take boolean masks of one shape, 2-D or 3-D, and spacing in mm per axis.

Empty masks never give NaN, nor a score that flatters:

| prediction | truth | Dice and the other shares | distances      |
|------------|-------|---------------------------|----------------|
| empty      | empty | 1                         | 0              |
| empty      | some  | 0                         | image diagonal |
| some       | empty | 0                         | image diagonal |
| some       | some  | as defined                | as defined     |

The image diagonal is sqrt(sum((shape * spacing)^2)) in mm, of the whole array that was given. Since an
empty pair counts as perfect, `summary.summarise` puts the mean over non-empty truths beside the mean.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samjax.errors import UserError
from samjax.metrics import surfaces
from samjax.metrics.surfaces import Mask, Spacing

_PERCENT = 95


@dataclass(frozen=True)
class _Pair:
    """Two masks cropped to their union, and what the whole images had to say."""

    pred: Mask
    true: Mask
    pred_count: int
    true_count: int

    @property
    def comparable(self) -> bool:
        """Whether neither mask is empty."""
        return self.pred_count > 0 and self.true_count > 0

    def overlap(self, value: Callable[[], float]) -> float:
        """`value()` under the empty policy for overlaps."""
        return value() if self.comparable else float(self.pred_count == self.true_count)

    def distance(self, value: Callable[[], float], shape: tuple[int, ...], spacing: Spacing) -> float:
        """`value()` under the empty policy for distances, in an image of this shape."""
        if self.comparable:
            return value()
        return 0.0 if self.pred_count == self.true_count else _diagonal(shape, spacing)


def dice(pred: Mask, true: Mask) -> float:
    """2 |P n T| / (|P| + |T|)."""
    return _dice(_pair(pred, true))


def volume_similarity(pred: Mask, true: Mask) -> float:
    """1 - | |P| - |T| | / (|P| + |T|): equal sizes give 1, wherever the masks lie."""
    pair = _pair(pred, true)
    p, t = pair.pred_count, pair.true_count
    return pair.overlap(lambda: 1 - abs(p - t) / (p + t))


def sensitivity(pred: Mask, true: Mask) -> float:
    """|P n T| / |T|: the share of the truth that was found."""
    pair = _pair(pred, true)
    return pair.overlap(lambda: _shared(pair) / pair.true_count)


def precision(pred: Mask, true: Mask) -> float:
    """|P n T| / |P|: the share of the prediction that is right."""
    pair = _pair(pred, true)
    return pair.overlap(lambda: _shared(pair) / pair.pred_count)


def hd95(pred: Mask, true: Mask, spacing: Sequence[float]) -> float:
    """The 95 % Hausdorff distance in mm: the larger of the two directed 95th percentiles.

    A directed distance goes from each boundary voxel of one mask to the nearest boundary voxel of the
    other; a boundary voxel has a background face-neighbour. Percentiles interpolate linearly. This is
    MONAI's definition.
    """
    spacing = checked_spacing(spacing, pred)
    pair = _pair(pred, true)
    return pair.distance(lambda: _hd95(pair, spacing), pred.shape, spacing)


def hd95_pooled(pred: Mask, true: Mask, spacing: Sequence[float]) -> float:
    """The variant of MedPy: the 95th percentile of the directed distances of both directions together, in mm.

    A short boundary counts for little beside a long one.
    """
    spacing = checked_spacing(spacing, pred)
    pair = _pair(pred, true)

    def pooled() -> float:
        p, t = surfaces.boundary(pair.pred), surfaces.boundary(pair.true)
        both = [surfaces.nearest_distances(p, t, spacing), surfaces.nearest_distances(t, p, spacing)]
        return _percentile(np.concatenate(both))

    return pair.distance(pooled, pred.shape, spacing)


def hd95_by_area(pred: Mask, true: Mask, spacing: Sequence[float]) -> float:
    """The robust Hausdorff distance of surface-distance in mm, which the BraTS challenges of 2023 use.

    As `hd95`, but between surface elements instead of boundary voxels, each weighing as much as its area:
    the smallest distance within which 95 % of a surface lies, without interpolation.
    """
    spacing = checked_spacing(spacing, pred)
    pair = _pair(pred, true)

    def by_area() -> float:
        return max(_area_percentile(*side) for side in _element_distances(pair, spacing))

    return pair.distance(by_area, pred.shape, spacing)


def surface_dice(pred: Mask, true: Mask, spacing: Sequence[float], tolerance: float) -> float:
    """The normalised surface Dice at a tolerance in mm (Nikolov et al. 2018, arXiv 1809.04430).

    The share of both surfaces, by area, that lies within `tolerance` of the other (exactly at it counts).
    Equal to surface-distance's, in 2-D with lengths of contour for areas.
    """
    spacing = checked_spacing(spacing, pred)
    if not tolerance >= 0:
        raise UserError(f"surface Dice: tolerance {tolerance} mm, expected 0 or more")
    pair = _pair(pred, true)

    def within() -> float:
        sides = _element_distances(pair, spacing)
        near = sum(areas[distances <= tolerance].sum() for distances, areas in sides)
        return float(near / sum(areas.sum() for _, areas in sides))

    return pair.overlap(within)


def score(pred: Mask, true: Mask, spacing: Sequence[float]) -> dict[str, float]:
    """The row of one slice or volume: `true_pixels`, `pred_pixels` (int), `dice`, `hd95` (mm)."""
    spacing = checked_spacing(spacing, pred)
    pair = _pair(pred, true)
    return {
        "true_pixels": pair.true_count,
        "pred_pixels": pair.pred_count,
        "dice": _dice(pair),
        "hd95": pair.distance(lambda: _hd95(pair, spacing), pred.shape, spacing),
    }


def score_slices(pred: Mask, true: Mask, spacing: Sequence[float]) -> dict[str, NDArray]:
    """`score` of every slice of a volume (slice, row, column), empty ones included, in one go.

    Args:
        pred, true: (n, rows, columns).
        spacing: mm along all three axes; only the last two bear on the result.

    Returns:
        The columns of `score`, each (n,): two of int64, two of float64.
    """
    spacing = checked_spacing(spacing, pred)
    check_masks(pred, true, dims=(3,))
    shape, plane = pred.shape[1:], spacing[1:]
    pred_pixels, true_pixels = _count_slices(pred), _count_slices(true)
    overlap = (pred_pixels == true_pixels).astype(float)
    distance = np.where(pred_pixels == true_pixels, 0.0, _diagonal(shape, plane))
    comparable = np.flatnonzero((pred_pixels > 0) & (true_pixels > 0))
    if comparable.size:
        pred, true = surfaces.crop_to_union(pred[comparable], true[comparable])
        overlap[comparable] = 2 * _count_slices(pred & true) / (pred_pixels + true_pixels)[comparable]
        # Slices are put so far apart that every nearest voxel lies in the same slice.
        distance[comparable] = _hd95_slices(pred, true, (10 * _diagonal(shape, plane), *plane))
    return {"true_pixels": true_pixels, "pred_pixels": pred_pixels, "dice": overlap, "hd95": distance}


def check_masks(pred: Mask, true: Mask, dims: tuple[int, ...] = (2, 3)) -> None:
    """Raises UserError unless both are boolean, of one shape and of one of the numbers of dimensions."""
    for name, mask in (("prediction", pred), ("truth", true)):
        if mask.dtype != bool or mask.ndim not in dims:
            wanted = " or ".join(f"{d}-D" for d in dims)
            raise UserError(
                f"scoring: the {name} is {mask.ndim}-D {mask.dtype}, expected a {wanted} boolean mask; "
                "compare it with a threshold or label value first"
            )
    if pred.shape != true.shape:
        raise UserError(
            f"scoring: the prediction has shape {pred.shape}, the truth {true.shape}; "
            "bring the prediction into the space of the truth first"
        )


def checked_spacing(spacing: Sequence[float], mask: Mask) -> Spacing:
    """The spacing as floats; raises UserError unless it has a positive number for each axis of the mask."""
    spacing = tuple(float(step) for step in spacing)
    if len(spacing) != mask.ndim or not all(step > 0 and math.isfinite(step) for step in spacing):
        raise UserError(
            f"scoring: spacing {spacing} mm for a {mask.ndim}-D mask, expected one positive number per axis"
        )
    return spacing


def _pair(pred: Mask, true: Mask) -> _Pair:
    check_masks(pred, true)
    pred, true = surfaces.crop_to_union(pred, true)
    return _Pair(pred, true, int(np.count_nonzero(pred)), int(np.count_nonzero(true)))


def _shared(pair: _Pair) -> int:
    return int(np.count_nonzero(pair.pred & pair.true))


def _count_slices(mask: Mask) -> NDArray:
    """The voxels of each slice (n,); with an axis np.count_nonzero would make integers of the mask first."""
    return np.array([np.count_nonzero(plane) for plane in mask], np.int64)


def _dice(pair: _Pair) -> float:
    return pair.overlap(lambda: 2 * _shared(pair) / (pair.pred_count + pair.true_count))


def _diagonal(shape: tuple[int, ...], spacing: Spacing) -> float:
    return math.hypot(*(n * step for n, step in zip(shape, spacing, strict=True)))


def _hd95(pair: _Pair, spacing: Spacing) -> float:
    p, t = surfaces.boundary(pair.pred), surfaces.boundary(pair.true)
    return max(_directed(p, t, spacing), _directed(t, p, spacing))


def _directed(source: Mask, target: Mask, spacing: Spacing) -> float:
    """The 95th percentile of the distances from `source` to `target`."""
    # Only the distances up to the percentile have to be known: the rest stays infinite.
    exact = _rank(int(np.count_nonzero(source)))[0] + 2
    return _percentile(surfaces.nearest_distances(source, target, spacing, exact))


def _hd95_slices(pred: Mask, true: Mask, spacing: Spacing) -> NDArray:
    """HD95 (n,) of slices none of which is empty, in a volume so stretched that no other slice is near."""
    p, t = surfaces.boundary(pred, axes=(1, 2)), surfaces.boundary(true, axes=(1, 2))
    directed = []
    for source, target in ((p, t), (t, p)):
        distances = surfaces.nearest_distances(source, target, spacing)
        ends = np.cumsum(_count_slices(source))
        directed.append([_percentile(part) for part in np.split(distances, ends[:-1])])
    return np.max(directed, axis=0)


def _rank(count: int) -> tuple[int, float]:
    """Where the percentile lies among `count` sorted values: the index below it, and how far beyond."""
    place = _PERCENT / 100 * (count - 1)
    return int(place), place - int(place)


def _percentile(values: NDArray) -> float:
    """The 95th percentile with linear interpolation (np.percentile is ten times as slow on short lists)."""
    below, beyond = _rank(values.size)
    above = min(below + 1, values.size - 1)
    ranked = np.partition(values, (below, above))
    return float(ranked[below] + (ranked[above] - ranked[below]) * beyond)


def _element_distances(pair: _Pair, spacing: Spacing) -> list[tuple[NDArray, NDArray]]:
    """For the predicted and the true surface: its elements' distances in mm to the other, and their areas."""
    p, p_areas = surfaces.surface_elements(pair.pred, spacing)
    t, t_areas = surfaces.surface_elements(pair.true, spacing)
    return [
        (surfaces.nearest_distances(p, t, spacing), p_areas),
        (surfaces.nearest_distances(t, p, spacing), t_areas),
    ]


def _area_percentile(distances: NDArray, areas: NDArray) -> float:
    """The distance within which 95 % of the area lies."""
    order = np.lexsort((areas, distances))
    covered = np.cumsum(areas[order]) / areas[order].sum()
    place = min(int(np.searchsorted(covered, _PERCENT / 100)), distances.size - 1)
    return float(distances[order[place]])
