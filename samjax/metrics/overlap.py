"""Overlap of two masks: Dice, volume similarity, sensitivity and precision.

All take boolean masks of one shape, 2-D or 3-D, and give a number in [0, 1]; `masks` has the scores of empty masks.
"""

from samjax.metrics.masks import Mask, MaskPair, mask_pair


def dice(pred: Mask, true: Mask) -> float:
    """Dice: `2 |P n T| / (|P| + |T|)`."""
    return dice_of(mask_pair(pred, true))


def volume_similarity(pred: Mask, true: Mask) -> float:
    """Volume similarity: `1 - | |P| - |T| | / (|P| + |T|)`. Equal sizes give 1, wherever the masks lie."""
    pair = mask_pair(pred, true)
    p, t = pair.pred_count, pair.true_count
    return pair.overlap(lambda: 1 - abs(p - t) / (p + t))


def sensitivity(pred: Mask, true: Mask) -> float:
    """Sensitivity: `|P n T| / |T|`, the share of the truth that was found."""
    pair = mask_pair(pred, true)
    return pair.overlap(lambda: pair.shared_count / pair.true_count)


def precision(pred: Mask, true: Mask) -> float:
    """Precision: `|P n T| / |P|`, the share of the prediction that is right."""
    pair = mask_pair(pred, true)
    return pair.overlap(lambda: pair.shared_count / pair.pred_count)


def dice_of(pair: MaskPair) -> float:
    """`dice` of masks that are a pair already."""
    return pair.overlap(lambda: 2 * pair.shared_count / (pair.pred_count + pair.true_count))
