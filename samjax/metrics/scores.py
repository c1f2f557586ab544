"""The scores of every slice and every volume: pixel counts, Dice and HD95."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samjax.metrics.hausdorff import hd95_of, hd95_of_slices
from samjax.metrics.masks import Mask, check_masks, checked_spacing, count_slices, crop_to_union, diagonal, mask_pair
from samjax.metrics.overlap import dice_of


def score(pred: Mask, true: Mask, spacing: Sequence[float]) -> dict[str, float]:
    """The scores of one slice or volume: `true_pixels`, `pred_pixels` (int), `dice`, `hd95` (mm).

    Args:
        pred, true: boolean masks of one shape, 2-D or 3-D.
        spacing: mm per axis.

    Raises:
        ValueError: the masks or the spacing are not as described.
    """
    spacing = checked_spacing(spacing, pred)
    pair = mask_pair(pred, true)
    return {
        "true_pixels": pair.true_count,
        "pred_pixels": pair.pred_count,
        "dice": dice_of(pair),
        "hd95": hd95_of(pair, spacing),
    }


def score_slices(pred: Mask, true: Mask, spacing: Sequence[float]) -> dict[str, NDArray]:
    """`score` of every slice of a volume (slice, row, column), empty ones included, in one go.

    Args:
        pred, true: (n, rows, columns) bool.
        spacing: mm along all three axes; only the last two affect the result.

    Returns:
        The columns of `score`, each (n,): two of int64, two of float64.

    Raises:
        ValueError: the masks or the spacing are not as described.
    """
    spacing = checked_spacing(spacing, pred)
    check_masks(pred, true, dims=(3,))
    plane = spacing[1:]
    pred_pixels, true_pixels = count_slices(pred), count_slices(true)
    overlap = (pred_pixels == true_pixels).astype(float)
    distance = np.where(pred_pixels == true_pixels, 0.0, diagonal(pred.shape[1:], plane))
    comparable = np.flatnonzero((pred_pixels > 0) & (true_pixels > 0))
    if comparable.size:
        pred, true = crop_to_union(pred[comparable], true[comparable])
        overlap[comparable] = 2 * count_slices(pred & true) / (pred_pixels + true_pixels)[comparable]
        distance[comparable] = hd95_of_slices(pred, true, plane)
    return {"true_pixels": true_pixels, "pred_pixels": pred_pixels, "dice": overlap, "hd95": distance}
