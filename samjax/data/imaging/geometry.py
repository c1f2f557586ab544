"""Conversion between a file's voxel grid and ours, whose axes are (slice, row, column).

Ours increase to the superior, posterior and patient's left, so that pictures show anterior up and
the patient's right on the left. Nothing is turned: an oblique grid keeps its axes, each of which goes
to the nearest anatomical one.
"""

from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np

from samjax.data.imaging.grids import LARGEST, SMALLEST
from samjax.errors import UserError

# Our axes as (RAS axis, direction along it).
_OURS = ((2, 1), (1, -1), (0, -1))


@dataclass(frozen=True)
class Geometry:
    """A source array's grid and how our axes lie in it.

    `source_shape` is (i, j, k) as stored; `affine` its 4 x 4 matrix to RAS millimetres, by rows;
    `axes[n]` is the source axis along which our axis n runs, and `reversed[n]` whether it runs against it.
    """

    source_shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    axes: tuple[int, int, int]
    reversed: tuple[bool, bool, bool]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The array's size in (slices, rows, columns)."""
        slices, rows, columns = (self.source_shape[axis] for axis in self.axes)
        return slices, rows, columns

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxels along (slice, row, column)."""
        slices, rows, columns = (float(np.linalg.norm([row[axis] for row in self.affine[:3]])) for axis in self.axes)
        return slices, rows, columns

    @property
    def oriented_affine(self) -> np.ndarray:
        """The 4 x 4 matrix from (slice, row, column, 1) to RAS millimetres."""
        to_source = np.zeros((4, 4))
        to_source[3, 3] = 1
        for ours, (axis, backwards) in enumerate(zip(self.axes, self.reversed, strict=True)):
            to_source[axis, ours] = -1 if backwards else 1
            to_source[axis, 3] = self.source_shape[axis] - 1 if backwards else 0
        return np.array(self.affine) @ to_source


def geometry_of(shape: tuple[int, ...], affine: np.ndarray, where: object) -> Geometry:
    """The geometry of a 3-D grid of `shape` with the 4 x 4 `affine`; `where` names the file in errors.

    Raises:
      UserError: the grid is not 3-D, the affine not finite and invertible, or its distances are not millimetres.
    """
    if len(shape) != 3:
        sides = " x ".join(map(str, shape))
        raise UserError(f"{where}: shape {sides}, expected one 3-D volume")
    affine = np.asarray(affine, np.float64)
    usable = np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9
    if not usable:
        matrix = affine[:3].round(3).tolist()
        raise UserError(f"{where}: its affine {matrix} gives the voxels no place in space; repair the header")
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if sides.min() < SMALLEST or sides.max() > LARGEST:
        raise UserError(
            f"{where}: its voxels are {' x '.join(f'{side:.3g}' for side in sides)} mm apart, expected {SMALLEST:g} to "
            f"{LARGEST:g}; is the header in millimetres?"
        )
    found = {int(axis): (source, sign) for source, (axis, sign) in enumerate(nib.io_orientation(affine))}
    i, j, k = shape
    slices, rows, columns = ((found[axis][0], found[axis][1] * sign < 0) for axis, sign in _OURS)
    return Geometry(
        source_shape=(int(i), int(j), int(k)),
        affine=tuple(tuple(map(float, row)) for row in affine),
        axes=(slices[0], rows[0], columns[0]),
        reversed=(bool(slices[1]), bool(rows[1]), bool(columns[1])),
    )


def regridded(geometry: Geometry, shape: tuple[int, int, int]) -> Geometry:
    """The geometry of a grid of another `shape` (slices, rows, columns) with the same axes and field of view."""
    if shape == geometry.shape:
        return geometry
    source_shape, scale = [0, 0, 0], np.ones(3)
    for axis, new, old in zip(geometry.axes, shape, geometry.shape, strict=True):
        source_shape[axis], scale[axis] = new, old / new
    change = np.diag([*scale, 1.0])
    change[:3, 3] = (scale - 1) / 2  # the first voxel's centre: the outer edges stay
    affine = (np.array(geometry.affine) @ change).tolist()
    i, j, k = source_shape
    return replace(geometry, source_shape=(i, j, k), affine=tuple(map(tuple, affine)))


def to_ours(array: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A view of a source array (i, j, k) as (slice, row, column)."""
    flips = tuple(slice(None, None, -1) if backwards else slice(None) for backwards in geometry.reversed)
    return array.transpose(geometry.axes)[flips]


def to_source(array: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A view of an array (slice, row, column) on the source's axes (i, j, k); the inverse of `to_ours`."""
    flips = tuple(slice(None, None, -1) if backwards else slice(None) for backwards in geometry.reversed)
    return array[flips].transpose(np.argsort(geometry.axes))


def points_to_ours(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Source voxel indices (..., 3) as (slice, row, column), of the same dtype; fractions are kept."""
    points = np.asarray(points)[..., list(geometry.axes)]
    last = np.array(geometry.shape, points.dtype) - 1
    return np.where(geometry.reversed, last - points, points)


def points_to_source(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(slice, row, column) indices (..., 3) as source voxel indices; the inverse of `points_to_ours`."""
    points = np.asarray(points)
    last = np.array(geometry.shape, points.dtype) - 1
    return np.where(geometry.reversed, last - points, points)[..., np.argsort(geometry.axes)]


def same_grid(first: Geometry, second: Geometry, tolerance: float = 0.1) -> bool:
    """Whether two grids, brought to our axes, put every voxel in the same place.

    `tolerance` is a share of the smallest voxel side, allowed at the farthest corner: headers
    round their matrices differently.
    """
    if first.shape != second.shape:
        return False
    corners = np.array(np.meshgrid(*((0, side - 1) for side in first.shape), [1])).reshape(4, -1)
    apart = (first.oriented_affine - second.oriented_affine) @ corners
    return bool(np.linalg.norm(apart, axis=0).max() <= tolerance * min(first.spacing))
