"""Pairs of boolean masks: validation, cropping to their common bounding box, and the scores of empty masks.

All metrics of this package take two boolean masks of one shape, 2-D or 3-D, and spacing in mm per axis. Empty masks
never give NaN, nor a score that flatters:

| prediction | truth | Dice and the other shares | distances      |
|------------|-------|---------------------------|----------------|
| empty      | empty | 1                         | 0              |
| empty      | some  | 0                         | image diagonal |
| some       | empty | 0                         | image diagonal |
| some       | some  | as defined                | as defined     |

The image diagonal is sqrt(sum((shape * spacing)^2)) in mm, of the whole array that was given. Since an empty pair
counts as perfect, `summary.summarise` gives the mean over non-empty truths along with the mean over all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samjax.metrics.boxes import bounding_box

Mask = NDArray[np.bool_]
Spacing = tuple[float, ...]


@dataclass(frozen=True)
class MaskPair:
    """A prediction and a truth, cropped to the bounding box of their union, which changes no metric."""

    pred: Mask
    true: Mask
    pred_count: int
    """Voxels of the prediction."""
    true_count: int
    """Voxels of the truth."""
    shape: tuple[int, ...]
    """Shape of the whole image before cropping."""

    @property
    def shared_count(self) -> int:
        """Voxels that lie in both masks."""
        return int(np.count_nonzero(self.pred & self.true))

    @property
    def comparable(self) -> bool:
        """Whether neither mask is empty."""
        return self.pred_count > 0 and self.true_count > 0

    def overlap(self, value: Callable[[], float]) -> float:
        """`value()`, a share in [0, 1], or the score of the policy for empty masks."""
        return value() if self.comparable else float(self.pred_count == self.true_count)

    def distance(self, value: Callable[[], float], spacing: Spacing) -> float:
        """`value()`, a distance in mm, or the distance of the policy for empty masks."""
        if self.comparable:
            return value()
        return 0.0 if self.pred_count == self.true_count else diagonal(self.shape, spacing)


def mask_pair(pred: Mask, true: Mask) -> MaskPair:
    """The two masks as a pair.

    Raises:
        ValueError: they are not two boolean masks of one shape, 2-D or 3-D.
    """
    check_masks(pred, true)
    shape = pred.shape
    pred, true = crop_to_union(pred, true)
    return MaskPair(pred, true, int(np.count_nonzero(pred)), int(np.count_nonzero(true)), shape)


def check_masks(pred: Mask, true: Mask, dims: tuple[int, ...] = (2, 3)) -> None:
    """Raises ValueError unless both are boolean, of one shape, and have one of these numbers of dimensions."""
    for name, mask in (("prediction", pred), ("truth", true)):
        if mask.dtype != bool or mask.ndim not in dims:
            wanted = " or ".join(f"{d}-D" for d in dims)
            raise ValueError(
                f"scoring: the {name} is {mask.ndim}-D {mask.dtype}, expected a {wanted} boolean mask; "
                "compare it with a threshold or label value first"
            )
    if pred.shape != true.shape:
        raise ValueError(
            f"scoring: the prediction has shape {pred.shape}, the truth {true.shape}; "
            "bring the prediction into the space of the truth first"
        )


def checked_spacing(spacing: Sequence[float], mask: Mask) -> Spacing:
    """The spacing as floats; raises ValueError unless it has one positive number for each axis of the mask."""
    spacing = tuple(float(step) for step in spacing)
    if len(spacing) != mask.ndim or not all(step > 0 and math.isfinite(step) for step in spacing):
        raise ValueError(
            f"scoring: spacing {spacing} mm for a {mask.ndim}-D mask, expected one positive number per axis"
        )
    return spacing


def diagonal(shape: tuple[int, ...], spacing: Spacing) -> float:
    """The length in mm of an image's diagonal."""
    return math.hypot(*(n * step for n, step in zip(shape, spacing, strict=True)))


def count_slices(mask: Mask) -> NDArray:
    """The voxels of each slice, int64 (n,); with an axis, np.count_nonzero would make integers of the mask first."""
    return np.array([np.count_nonzero(plane) for plane in mask], np.int64)


def padded(mask: Mask, margins: Sequence[int]) -> Mask:
    """The mask with this many background voxels on both sides of each axis (np.pad is ten times as slow)."""
    larger = np.zeros([n + 2 * margin for n, margin in zip(mask.shape, margins, strict=True)], bool)
    larger[tuple(slice(m, m + n) for n, m in zip(mask.shape, margins, strict=True))] = mask
    return larger


def crop_to_union(first: Mask, second: Mask) -> tuple[Mask, Mask]:
    """Both masks, contiguous, cut to the bounding box of their union (no element if both are empty)."""
    boxes = [box for box in (bounding_box(first), bounding_box(second)) if box is not None]
    if not boxes:
        return first[:0], second[:0]
    box = tuple(slice(min(a.start for a in axis), max(a.stop for a in axis)) for axis in zip(*boxes, strict=True))
    return np.ascontiguousarray(first[box]), np.ascontiguousarray(second[box])
