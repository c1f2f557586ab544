"""Between our scans and SimpleITK's images; SimpleITK is imported when it is first needed.

Our affines lead to RAS millimetres. ITK's points are LPS: x and y have the other sign.
"""

from types import ModuleType
from typing import Any

import numpy as np

from samjax.errors import UserError

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MOST_SHEAR = 0.5
"""Share of the smallest voxel side by which a corner may move when the axes of a grid are made orthogonal."""


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


def to_itk(array: np.ndarray, affine: np.ndarray, name: str) -> Any:
    """A SimpleITK image of (slice, row, column) values, as float32.

    Args:
      array: real numbers.
      affine: 4 x 4 matrix from (slice, row, column, 1) to RAS millimetres.
      name: name of the scan, for the error.

    Raises:
      UserError: the axes of the grid are not at right angles.
    """
    matrix = RAS_TO_LPS @ affine
    axes = matrix[:3, [2, 1, 0]]  # ITK's first axis is ours of columns
    spacing = np.linalg.norm(axes, axis=0)
    left, _, right = np.linalg.svd(axes / spacing)
    directions = left @ right  # the nearest axes at right angles
    far = np.abs((directions - axes / spacing) * spacing) @ np.array(array.shape[::-1])
    if far.max() > MOST_SHEAR * spacing.min():
        raise UserError(
            f"{name}: the axes of its voxels are not at right angles (they are off by up to {far.max():.1f} mm); "
            "resample it onto an upright grid first"
        )
    image = simple_itk().GetImageFromArray(np.ascontiguousarray(array, dtype=np.float32))
    image.SetSpacing(spacing.tolist())
    image.SetDirection(directions.ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def affine_of(image: Any) -> np.ndarray:
    """The 4 x 4 matrix from (slice, row, column, 1) of a SimpleITK image to RAS millimetres."""
    axes = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    matrix = np.eye(4)
    matrix[:3, :3] = axes[:, ::-1]
    matrix[:3, 3] = image.GetOrigin()
    return RAS_TO_LPS @ matrix


def to_array(image: Any) -> np.ndarray:
    """The values of a SimpleITK image as (slice, row, column)."""
    return simple_itk().GetArrayFromImage(image)


def coarser(image: Any, spacing: float) -> Any:
    """A SimpleITK image averaged over whole voxels, to about `spacing` millimetres along each axis that is finer."""
    factors = [max(1, round(spacing / own)) for own in image.GetSpacing()]
    factors = [min(factor, side) for factor, side in zip(factors, image.GetSize(), strict=True)]
    return image if max(factors) == 1 else simple_itk().BinShrink(image, factors)
