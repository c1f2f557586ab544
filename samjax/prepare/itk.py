"""Between our scans and SimpleITK's images; SimpleITK is imported when it is first needed.

Our affines lead to RAS millimetres. ITK's points are LPS: x and y have the other sign. A transform of a modality leads
from points of the reference to points of that modality's own scan.
"""

from types import ModuleType
from typing import Any

import numpy as np

from samjax.errors import UserError
from samjax.prepare.grid import Grid

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MOST_SHEAR = 0.5
"""Share of the smallest voxel side by which a corner may move when the axes of a grid are made orthogonal."""
_COARSER = 1.2
"""Ratio of two spacings from which on an image is smoothed before it is resampled."""


def simple_itk() -> ModuleType:
    """The module SimpleITK.

    Raises:
      UserError: it is not installed.
    """
    try:
        import SimpleITK
    except ImportError:
        raise UserError("samjax prepare needs SimpleITK, which is missing: pip install 'samjax[prepare]'") from None
    return SimpleITK


def upright(affine: np.ndarray, shape: tuple[int, int, int], name: str) -> Grid:
    """A scan's grid with its axes at exactly right angles.

    Args:
      affine: 4 x 4 matrix from (slice, row, column, 1) to RAS millimetres.
      shape: number of slices, rows and columns.
      name: name of the scan, for the error.

    Raises:
      UserError: the axes are not at right angles.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / spacing)
    straight = affine.copy()
    straight[:3, :3] = left @ right * spacing  # the nearest axes at right angles
    off = (np.abs(straight - affine)[:3, :3] @ shape).max()
    if off > MOST_SHEAR * spacing.min():
        raise UserError(
            f"{name}: the axes of its voxels are not at right angles (off by up to {off:.1f} mm); resample it onto an "
            "upright grid first"
        )
    return Grid(straight, shape)


def to_itk(array: np.ndarray, grid: Grid) -> Any:
    """A SimpleITK image of (slice, row, column) real numbers, as float32."""
    image = simple_itk().GetImageFromArray(np.ascontiguousarray(array, dtype=np.float32))
    origin, spacing, direction = _placement(grid)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image


def grid_of(image: Any) -> Grid:
    """The grid of a SimpleITK image."""
    axes = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    matrix = np.eye(4)
    matrix[:3, :3] = axes[:, ::-1]
    matrix[:3, 3] = image.GetOrigin()
    return Grid(RAS_TO_LPS @ matrix, image.GetSize()[::-1])


def to_array(image: Any) -> np.ndarray:
    """The values of a SimpleITK image as (slice, row, column)."""
    return simple_itk().GetArrayFromImage(image)


def coarser(image: Any, spacing: float) -> Any:
    """A SimpleITK image averaged over whole voxels, to about `spacing` millimetres along each axis that is finer."""
    factors = [max(1, round(spacing / own)) for own in image.GetSpacing()]
    factors = [min(factor, side) for factor, side in zip(factors, image.GetSize(), strict=True)]
    return image if max(factors) == 1 else simple_itk().BinShrink(image, factors)


def resampled(image: Any, grid: Grid, transform: Any = None, outside: float = 0.0, smooth: bool = False) -> np.ndarray:
    """A SimpleITK image at the voxels of a grid, (slice, row, column) float32.

    Args:
      image: the image; smoothed first along axes that are finer than the grid.
      grid: the grid, in the space of the reference.
      transform: from points of the reference to points of the image; None: they are the same points.
      outside: value of voxels that the image does not reach.
      smooth: interpolate with cubic splines instead of linearly. No value leaves the range of the image's own.
    """
    sitk = simple_itk()
    if transform is None and grid.same_as(grid_of(image)):
        return to_array(image)
    values = to_array(image)
    lowest, highest = float(values.min()), float(values.max())
    for axis, sigma in enumerate(_smoothing(grid_of(image), grid)[::-1]):
        if sigma and image.GetSize()[axis] >= 4:  # fewer voxels than that cannot be smoothed
            image = sitk.RecursiveGaussian(image, sigma=sigma, direction=axis)
    origin, spacing, direction = _placement(grid)
    kind = sitk.sitkBSpline if smooth else sitk.sitkLinear
    move = transform if transform is not None else sitk.Transform()
    result = to_array(sitk.Resample(image, grid.shape[::-1], move, kind, origin, spacing, direction, outside))
    return np.clip(result, lowest, highest, out=result, where=result != outside)


def rigid_matrix(transform: Any) -> np.ndarray:
    """The 4 x 4 matrix of a rigid SimpleITK transform between points in RAS millimetres."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    centre = np.array(transform.GetCenter())
    matrix[:3, 3] = centre + transform.GetTranslation() - matrix[:3, :3] @ centre
    return RAS_TO_LPS @ matrix @ RAS_TO_LPS


def _smoothing(own: Grid, grid: Grid) -> list[float]:
    """Standard deviations in millimetres along the axes of an image before it is resampled to a coarser grid."""
    sigmas = []
    for axis, step in zip((own.affine[:3, :3] / own.spacing).T, own.spacing, strict=True):
        along = np.abs(axis @ (grid.affine[:3, :3] / grid.spacing))
        wanted = grid.spacing[int(along.argmax())]
        sigmas.append(0.4 * float(np.sqrt(wanted**2 - step**2)) if wanted > _COARSER * step else 0.0)
    return sigmas


def _placement(grid: Grid) -> tuple[list[float], list[float], list[float]]:
    """Origin, spacing and direction of a grid as SimpleITK has them."""
    matrix = RAS_TO_LPS @ grid.affine
    axes = matrix[:3, [2, 1, 0]]  # ITK's first axis is ours of columns
    spacing = np.linalg.norm(axes, axis=0)
    return matrix[:3, 3].tolist(), spacing.tolist(), (axes / spacing).ravel().tolist()
