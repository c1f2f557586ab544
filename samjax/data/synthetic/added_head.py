"""A head around a stripped scan: its brain as it is, in a generated skull with scalp, face and neck.

So skull stripping can be tried, and its effect on a prediction measured, on brains that are available only without
their heads.
"""

from collections.abc import Mapping

import numpy as np

from samjax.data.synthetic import brain
from samjax.data.synthetic import scanner as scan
from samjax.data.synthetic.brain import Field, Points, edge
from samjax.data.synthetic.head import CORNER, EXTENT, Head, Pose, in_pose, voxel_centres
from samjax.data.synthetic.surroundings import BRIGHTNESS, surroundings
from samjax.errors import UserError

_FLUID = 1.5
"""Millimetres of fluid between the brain and its membranes."""
_CLOSED = 5.0
"""Furrows of the brain up to twice this many millimetres wide are filled with fluid."""
_PART = 40_000
"""Points that are computed together."""


def head_around(images: Mapping[str, np.ndarray], label: np.ndarray, affine: np.ndarray, seed: int) -> Head:
    """A head of 1 mm around a stripped scan.

    The brain is moved to where a generated one lies, not turned; at voxels of 1 mm along the axes of the world it keeps
    every value, but for one factor for each modality that makes it as bright as a generated brain.

    Args:
      images: t1, t1gd, t2 and flair by name, (i, j, k) on one grid, 0 outside of the brain.
      label: (i, j, k) uint8; its values are kept, on voxels that it fills by half.
      affine: 4 x 4, from (i, j, k, 1) to RAS millimetres.
      seed: seed of the surroundings.

    Raises:
      UserError: a modality is missing, or shows nothing.
    """
    for name in scan.MODALITIES:
        if name not in images or not np.any(images[name]):
            raise UserError(f"{name} is missing or empty; a head is made around t1, t1gd, t2 and flair")
    shape = tuple(map(round, EXTENT))
    onto = np.eye(4)
    onto[:3, 3] = np.asarray(CORNER) + 0.5
    pose = _pose(np.any([images[name] != 0 for name in scan.MODALITIES], axis=0), affine)

    def moved(volume: np.ndarray) -> np.ndarray:
        return in_pose(volume.astype(np.float32), affine, shape, onto, pose)

    placed = {name: moved(images[name]) for name in scan.MODALITIES}
    stripped = np.any([image > 0 for image in placed.values()], axis=0)
    outside = _distance(stripped) - np.float32(_FLUID)
    points = voxel_centres(shape, onto)
    signal = _around(seed, points, _standard(points, points[:, stripped.ravel()]), outside.ravel()).reshape(4, *shape)
    for row, name, level in zip(signal, scan.MODALITIES, _levels(), strict=True):
        row[stripped] = placed[name][stripped] * (level / np.median(placed[name][stripped]))
    labels = np.zeros(shape, np.uint8)
    for value in np.unique(label[label > 0]):
        labels[moved(label == value) > 0.5] = value
    return Head(dict(zip(scan.MODALITIES, signal, strict=True)), outside < 0, labels, onto)


def _pose(mask: np.ndarray, affine: np.ndarray) -> Pose:
    """The move by whole millimetres that brings a brain to the middle, and its top to the top, of a generated one."""
    low, high = _ends((affine[:3, :3] @ np.argwhere(mask).T) + affine[:3, 3:])
    least, most = _generated_ends()
    shift = np.append((least + most - low - high)[:2] / 2, most[2] - high[2])
    centre = np.asarray(CORNER) + 0.5  # a voxel's centre comes to lie on one
    return Pose(shift=tuple(np.round(shift - (centre - affine[:3, 3])) + (centre - affine[:3, 3])))


def _standard(points: Points, inside: Points) -> Points:
    """Points at their places in the standard anatomy, by the brain's ends; along z by its size along x and y."""
    low, high = _ends(inside)
    least, most = _generated_ends()
    scale = (most - least)[:2] / (high - low)[:2]
    scale = np.append(scale, scale.mean())
    anchor, there = np.append((low + high)[:2] / 2, high[2]), np.append((least + most)[:2] / 2, most[2])
    return ((points - anchor[:, None]) * scale[:, None] + there[:, None]).astype(np.float32)


def _ends(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return points.min(axis=1), points.max(axis=1)


def _generated_ends() -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest coordinates of a brain in the standard anatomy."""
    coarse = np.diag([3.0, 3.0, 3.0, 1.0])
    coarse[:3, 3] = CORNER
    points = voxel_centres(tuple(int(side / 3) for side in EXTENT), coarse)
    return _ends(points[:, brain.intracranial(points) < 0])


def _distance(mask: np.ndarray) -> np.ndarray:
    """Signed distance in voxels, float32, to a mask whose holes and furrows are closed."""
    from scipy import ndimage

    near = ndimage.distance_transform_edt(~mask) <= _CLOSED
    closed = ndimage.binary_fill_holes((ndimage.distance_transform_edt(near) > _CLOSED) | mask)
    return (ndimage.distance_transform_edt(~closed) - ndimage.distance_transform_edt(closed)).astype(np.float32)


def _around(seed: int, points: Points, standard: Points, outside: Field) -> Field:
    """Brightness (4, n) of everything but the brain, with fluid where the brain's space is not filled by it."""
    count = -(-points.shape[1] // _PART)
    parts = (np.array_split(array, count, axis=-1) for array in (points, standard, outside))
    signal = np.concatenate([surroundings(seed, *part) for part in zip(*parts, strict=True)], axis=1)
    fluid = edge(outside)
    for row, value in zip(signal, BRIGHTNESS["fluid"], strict=True):
        row += fluid * (np.float32(value) - row)
    return signal


def _levels() -> np.ndarray:
    """The median brightness (4,) of a generated brain: half grey and half white matter."""
    return scan.usual_brightness()[:, [brain.TISSUES.index("white"), brain.TISSUES.index("grey")]].mean(axis=1)
