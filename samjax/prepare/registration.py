"""Rigid registration of one modality of a case to another, by mutual information (Mattes et al. 2003).

The movement is found from coarse to fine. At the coarsest level many starts are tried, so that the heads may lie far
apart. Each registration runs in one thread and draws the points that it compares with a fixed seed: the same files give
the same transform on any number of cores.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from samjax.prepare.grid import voxels_to_points
from samjax.prepare.itk import RAS_TO_LPS, coarser, grid_of, simple_itk, to_array

SEED = 20240607
BINS = 32
"""Bins of each intensity in the joint histogram."""
START_DEGREES = 12.0
"""Turns about each axis that are tried as starts."""
BEST_STARTS = 4
"""Starts that are refined."""
SHORTER = 0.85
"""Factor by which a step is shortened when the direction turns back."""
AROUND = 16.0
"""Millimetres of air around the head that are compared too: the skin's outline leads far-off heads together."""
UPPER_HEAD = 130.0
"""Millimetres below the top of the head that count for its middle; a neck is seen in one scan and not in another."""


@dataclass(frozen=True)
class Level:
    """One resolution of a registration; lengths in millimetres."""

    spacing: float
    step: float
    """Length of the first step."""
    smallest: float
    """The step at which the search ends."""
    points: int
    """Number of points that are compared; 0: all."""
    steps: int
    """Most steps."""


START = Level(spacing=8.0, step=4.0, smallest=0.1, points=0, steps=100)
"""The coarsest level, at which the starts are compared."""
LEVELS = (
    Level(spacing=4.0, step=1.0, smallest=0.05, points=20_000, steps=60),
    Level(spacing=2.0, step=0.3, smallest=0.02, points=50_000, steps=40),
    Level(spacing=1.0, step=0.1, smallest=0.01, points=80_000, steps=30),
)


def register(fixed: Any, moving: Any, within: Any = None) -> Any:
    """The rigid transform from points of `fixed` to points of `moving`.

    Args:
      fixed, moving: SimpleITK images of one head.
      within: mask (uint8) of the part of `fixed` that is compared; None: the head and some air around.

    Returns:
      a SimpleITK `Euler3DTransform`, with its centre in the middle of the head in `fixed`.
    """
    within = _with_air(head_mask(coarser(fixed, START.spacing))) if within is None else within
    transform = _best_start(coarser(fixed, START.spacing), coarser(moving, START.spacing), within)
    for level in LEVELS:
        transform = _refined(coarser(fixed, level.spacing), coarser(moving, level.spacing), within, transform, level)
    return transform


def head_mask(image: Any) -> Any:
    """The voxels of a SimpleITK image that are brighter than the air around the head; uint8."""
    sitk = simple_itk()
    mask = sitk.OtsuThreshold(sitk.Sqrt(sitk.Clamp(image, lowerBound=0)), 0, 1, 128)
    return sitk.BinaryMorphologicalClosing(mask, [1, 1, 1])


def _with_air(mask: Any) -> Any:
    reach = [max(1, round(AROUND / own)) for own in mask.GetSpacing()]
    return simple_itk().BinaryDilate(mask, reach, simple_itk().sitkBox)


def _best_start(fixed: Any, moving: Any, within: Any) -> Any:
    """The best of several starts, each refined on these coarse images."""
    sitk = simple_itk()
    centre = _middle(fixed)
    shifts = [np.zeros(3), _centre_of_grid(moving) - _centre_of_grid(fixed), _middle(moving) - centre]
    turns = [turn for turn in product((-1, 0, 1), repeat=3) if np.abs(turn).sum() <= 1]
    starts = []
    for shift, turn in product(shifts, turns):
        start = sitk.Euler3DTransform()
        start.SetCenter(centre.tolist())
        start.SetTranslation(shift.tolist())
        start.SetRotation(*np.radians(START_DEGREES * np.asarray(turn)).tolist())
        starts.append(start)
    method = _method(fixed, within, START)
    values = [_value(method, fixed, moving, start) for start in starts]
    best = [starts[index] for index in np.argsort(values, kind="stable")[:BEST_STARTS]]
    refined = [_refined(fixed, moving, within, start, START) for start in best]
    return min(refined, key=lambda transform: _value(method, fixed, moving, transform))


def _refined(fixed: Any, moving: Any, within: Any, start: Any, level: Level) -> Any:
    sitk = simple_itk()
    method = _method(fixed, within, level)
    method.SetOptimizerAsRegularStepGradientDescent(level.step, level.smallest, level.steps, SHORTER, 1e-8)
    method.SetOptimizerScalesFromPhysicalShift()
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:  # too few points of the one lie in the other
        return start
    return transform


def _method(fixed: Any, within: Any, level: Level) -> Any:
    sitk = simple_itk()
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)  # several add up in an order that changes from run to run
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(within)
    method.SetMetricUseFixedImageGradientFilter(False)
    method.SetMetricUseMovingImageGradientFilter(False)
    method.SetInterpolator(sitk.sitkLinear)
    if level.points:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(min(1.0, level.points / fixed.GetNumberOfPixels()), SEED)
    return method


def _value(method: Any, fixed: Any, moving: Any, transform: Any) -> float:
    """The negative mutual information under a transform; infinite where the images hardly overlap."""
    method.SetInitialTransform(transform, inPlace=False)
    try:
        return method.MetricEvaluate(fixed, moving)
    except RuntimeError:
        return np.inf


def _centre_of_grid(image: Any) -> np.ndarray:
    """The middle of the field of view, in LPS millimetres."""
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(side - 1) / 2 for side in image.GetSize()]))


def _middle(image: Any) -> np.ndarray:
    """The centre of mass of the upper head, in LPS millimetres."""
    places = np.argwhere(to_array(head_mask(image)) > 0)
    if not len(places):
        return _centre_of_grid(image)
    points = voxels_to_points(places, RAS_TO_LPS @ grid_of(image).affine)
    return points[points[:, 2] > np.percentile(points[:, 2], 99.5) - UPPER_HEAD].mean(axis=0)
