"""Lesion-wise Dice and HD95, as the BraTS challenges of 2023 score them.

The definition is that of the challenges' public evaluation (BraTS-2023-Metrics):

1. The truth is dilated; the true voxels in one 26-connected component of the dilated truth are one lesion.
2. The prediction is split into its 26-connected components.
3. A lesion is matched by every component that touches the dilated lesion, and scored against these
   components as a whole. A component may match several lesions. A lesion without a match is missed.
4. A component that matches no lesion is a false positive, however small it is.
5. Lesions of at most the threshold in mm3 are left out, found or missed; what matches them is still no
   false positive.
6. The score is the mean over the lesions left and the false positives. A missed lesion and a false positive
   have Dice 0 and HD95 374 mm. Where there are none of either, Dice is 1 and HD95 0.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samjax.metrics.hausdorff import hd95_by_area
from samjax.metrics.masks import Mask, check_masks, checked_spacing, crop_to_union
from samjax.metrics.overlap import dice

PENALTY_MM = 374.0
"""The challenges' number, about the diagonal of their images of 240 x 240 x 155 mm."""


@dataclass(frozen=True)
class LesionRules:
    """The rule by which one challenge counts lesions."""

    dilations: int
    """Number of dilation steps of the truth."""
    ignored_mm3: float
    """Volume in mm3 of the largest lesion that is left out."""


RULES = {
    "GLI": LesionRules(3, 50),
    "SSA": LesionRules(3, 50),
    "PED": LesionRules(3, 50),
    "MEN": LesionRules(1, 50),
    "MET": LesionRules(1, 2),
}


@dataclass(frozen=True)
class LesionScores:
    """The means over a case's lesions and false positives, and the numbers of each kind."""

    dice: float
    hd95: float
    """Mean HD95 in mm."""
    found: int
    missed: int
    false_positives: int


def lesion_scores(pred: Mask, true: Mask, spacing: Sequence[float], challenge: str) -> LesionScores:
    """Scores one region of one case lesion by lesion.

    Args:
        pred, true: boolean volumes of one shape.
        spacing: mm per axis.
        challenge: a key of `RULES`.

    Raises:
        ValueError: the masks, the spacing or the challenge are not as described.
    """
    if challenge not in RULES:
        raise ValueError(f"lesion-wise scores: challenge {challenge!r}, expected one of {', '.join(RULES)}")
    rules = RULES[challenge]
    check_masks(pred, true, dims=(3,))
    spacing = checked_spacing(spacing, pred)
    # No margin is needed for the dilation: a dilated voxel beyond the box stays one when moved onto the box's
    # face, so whatever it joins or touches outside is also joined or touched inside.
    pred, true = crop_to_union(pred, true)
    components = _components(pred)
    unmatched = set(range(1, components.max(initial=0) + 1))
    dices, distances = [], []
    missed = 0
    for lesion, touched in _lesions(true, components, rules.dilations):
        unmatched -= touched
        if np.count_nonzero(lesion) * np.prod(spacing) <= rules.ignored_mm3:
            continue
        if not touched:
            missed += 1
            continue
        matching = np.isin(components, list(touched))
        dices.append(dice(matching, lesion))
        distances.append(hd95_by_area(matching, lesion, spacing))
    failures = missed + len(unmatched)
    n = len(dices) + failures
    return LesionScores(
        dice=sum(dices) / n if n else 1.0,
        hd95=(sum(distances) + failures * PENALTY_MM) / n if n else 0.0,
        found=len(dices),
        missed=missed,
        false_positives=len(unmatched),
    )


def _lesions(true: Mask, components: NDArray, dilations: int) -> Iterator[tuple[Mask, set[int]]]:
    """The lesions of the truth, each with the numbers of the predicted components it touches when dilated."""
    from scipy import ndimage

    if true.size == 0:
        return
    numbers = _components(_dilated(true, dilations)) * true
    for number, (zs, ys, xs) in enumerate(ndimage.find_objects(numbers), start=1):
        near = tuple(slice(max(0, axis.start - dilations), axis.stop + dilations) for axis in (zs, ys, xs))
        lesion = numbers == number
        touched = np.unique(components[near][_dilated(lesion[near], dilations)])
        yield lesion, set(touched.tolist()) - {0}


def _components(mask: Mask) -> NDArray:
    """The number (1 ..) of each voxel's 26-connected component, 0 outside the mask."""
    from scipy import ndimage

    return ndimage.label(mask, np.ones((3, 3, 3)))[0]


def _dilated(mask: Mask, iterations: int) -> Mask:
    """The mask grown by `iterations` steps to the 18 neighbours across a face or an edge."""
    from scipy import ndimage

    return ndimage.binary_dilation(mask, ndimage.generate_binary_structure(3, 2), iterations)
