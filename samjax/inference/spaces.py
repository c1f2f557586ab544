"""Turns prompts that are given in a file's voxels or in RAS millimetres into (slice, row, column) of a volume."""

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal

import numpy as np

from samjax.data.imaging.geometry import Geometry, points_to_ours, to_ours
from samjax.errors import UserError

Space = Literal["volume", "source", "ras"]
"""`volume`: (slice, row, column), as `data.imaging.geometry` orients them; `source`: voxels (i, j, k) of the file;
`ras`: millimetres to the patient's right, front and top, as viewers show them."""
SPACES: tuple[Space, ...] = ("volume", "source", "ras")


def clicks_in_volume(points: Any, space: Space, geometry: Geometry | None) -> Any:
    """Clicks (m, 4), a place in `space` and a label each, with places as (slice, row, column).

    Millimetres become the voxel whose centre is nearest.

    Raises:
        UserError: the space is unknown, the volume came from no file, or the clicks are no (m, 4) numbers.
    """
    if (known := _geometry(space, geometry)) is None or not len(points):
        return points
    array = _numbers(points, "points", 4)
    return np.concatenate([_placed(array[:, :3], space, known), array[:, 3:]], axis=1)


def boxes_in_volume(boxes: Any, space: Space, geometry: Geometry | None) -> Any:
    """Boxes (n, 6), two opposite corners in `space` each, as the first and last (slice, row, column) of each.

    Of a box in millimetres all eight corners are taken: on an oblique grid it becomes the smallest box of voxels that
    holds them.

    Raises:
        UserError: the space is unknown, the volume came from no file, or the boxes are no (n, 6) numbers.
    """
    if (known := _geometry(space, geometry)) is None or not len(boxes):
        return boxes
    array = _numbers(boxes, "boxes", 6).reshape(-1, 2, 3)
    for box in array[(array[:, 0] > array[:, 1]).any(axis=1)]:
        raise UserError(f"box {box.reshape(-1).tolist()}: ends before it begins along an axis of {space}")
    corners = np.stack([array[:, list(chosen), range(3)] for chosen in product((0, 1), repeat=3)], axis=1)
    placed = _placed(corners, space, known)
    return np.concatenate([placed.min(axis=1), placed.max(axis=1)], axis=1)


def mask_in_volume(mask: np.ndarray, space: Space, geometry: Geometry | None) -> np.ndarray:
    """A mask with its axes as (slice, row, column); with `source` and `ras` it has the axes (i, j, k) of the file.

    Raises:
        UserError: the space is unknown, the volume came from no file, or the mask is not of the file's shape.
    """
    if (known := _geometry(space, geometry)) is None:
        return mask
    if mask.shape != known.source_shape:
        raise UserError(f"mask of shape {mask.shape}: the scan's file has {known.source_shape} voxels")
    return to_ours(mask, known)


def _geometry(space: Space, geometry: Geometry | None) -> Geometry | None:
    """The geometry that places of `space` need; None if they need none."""
    if space not in SPACES:
        raise UserError(f"space {space!r}: expected one of {', '.join(SPACES)}")
    if space == "volume":
        return None
    if geometry is None:
        raise UserError(f"space {space!r}: the volume came from an array, which has no place; set it from files")
    return geometry


def _placed(places: np.ndarray, space: Space, geometry: Geometry) -> np.ndarray:
    """Places (..., 3) as (slice, row, column) float64; millimetres are rounded to whole voxels."""
    if space == "ras":
        inverse = np.linalg.inv(np.array(geometry.affine))
        places = np.rint(places @ inverse[:3, :3].T + inverse[:3, 3])
    return points_to_ours(places, geometry)


def _numbers(values: np.ndarray | Sequence, what: str, length: int) -> np.ndarray:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{what} {values!r}: expected {length} numbers for each") from None
    if array.ndim != 2 or array.shape[1] != length or not np.isfinite(array).all():
        raise UserError(f"{what} of shape {array.shape}: expected {length} finite numbers for each")
    return array
