"""Linear resampling between two grids with one field of view.

The outer edges of both grids coincide: voxel i of n reaches from i / n to (i + 1) / n of an axis, and its centre lies
half-way between. A value is the mean of the source over a window around the voxel's centre. Where an axis becomes
coarser the window is as wide as the new voxel, so that detail is averaged, as by a scanner, instead of skipped. Where
it becomes finer the window is as wide as a source voxel, which is linear interpolation between the nearest centres.
Sums run over few terms in a fixed order, so that equal voxels give equal bytes, whatever lies around them.
"""

import functools
from collections.abc import Sequence

import numpy as np

from samjax.data.imaging.grids import Shape
from samjax.data.labels import BACKGROUND, IGNORED

RESAMPLING_VERSION = 1
"""Raised whenever the same voxels would give other numbers, so that caches of before are not used."""


@functools.cache
def axis_weights(target: int, source: int) -> np.ndarray:
    """The weights (target, source) float32 of an axis of `source` voxels in one of `target`; each row's sum is 1."""
    width = max(1.0, source / target)
    centres, edges = (np.arange(target)[:, None] + 0.5) * source / target, np.arange(source)
    weights = np.minimum(centres + width / 2, edges + 1) - np.maximum(centres - width / 2, edges)
    weights = np.maximum(weights, 0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


Steps = Sequence[tuple[int, np.ndarray]]
"""The axes (0 slices, 1 rows, 2 columns) that change, each with its weights, in the order in which they are taken."""


def steps_between(shape: Shape, source: Shape) -> Steps:
    """The steps that bring a volume of shape `source` to `shape`: those that leave fewest voxels come first."""
    axes = [axis for axis in range(3) if shape[axis] != source[axis]]
    return [
        (axis, axis_weights(shape[axis], source[axis])) for axis in sorted(axes, key=lambda n: shape[n] / source[n])
    ]


def cropped_steps(steps: Steps, start: Shape, stop: Shape) -> tuple[Steps, Shape, Shape]:
    """The steps for the box of a volume from `start` up to before `stop`, outside of which all is 0.

    Returns:
      The steps, and the box of all voxels that they reach.
    """
    first, last, cropped = list(start), list(stop), []
    for axis, weights in steps:
        inside = weights[:, start[axis] : stop[axis]]
        reached = np.flatnonzero(inside.any(axis=1))
        first[axis], last[axis] = int(reached[0]), int(reached[-1]) + 1
        cropped.append((axis, inside[first[axis] : last[axis]]))
    return cropped, tuple(first), tuple(last)


def resampled(array: np.ndarray, steps: Steps) -> np.ndarray:
    """An array (..., slices, rows, columns) of any real type after these steps, float32."""
    from scipy.sparse import csr_array

    array = np.asarray(array, np.float32)
    for axis, weights in steps:
        moved = np.moveaxis(array, axis - 3, 0)
        flat = csr_array(weights) @ moved.reshape(len(moved), -1)
        array = np.moveaxis(flat.reshape(len(weights), *moved.shape[1:]), 0, axis - 3)
    return array


def resample_images(images: np.ndarray, steps: Steps) -> np.ndarray:
    """Images (slices, rows, columns, C) uint8 on another grid; background stays 0 where nothing else is near."""
    channels = [_to_bytes(resampled(images[..., channel], steps)) for channel in range(images.shape[-1])]
    return np.stack(channels, axis=-1)


def resample_labels(labels: np.ndarray, steps: Steps) -> np.ndarray:
    """Canonical codes (slices, rows, columns) uint8 on another grid: of each voxel the code with the largest share.

    Of equal shares the lowest code wins. Ignored voxels count as a code of their own. What the shares lack to 1 is
    background, so that labels may be cropped.
    """
    codes = [code for code in range(BACKGROUND + 1, IGNORED + 1) if (labels == code).any()]
    if not codes:
        return resampled(labels, steps).astype(np.uint8)
    shares = [resampled(labels == code, steps) for code in codes]
    largest = 1 - sum(shares)
    found = np.full(largest.shape, BACKGROUND, np.uint8)
    for code, share in zip(codes, shares, strict=True):
        found[share > largest] = code
        largest = np.maximum(largest, share)
    return found


def resample_region(region: np.ndarray, shape: Shape) -> np.ndarray:
    """A region (slices, rows, columns) bool on a grid of `shape`: the voxels that it fills to more than a half.

    A slice that is the nearest to one that shows the region shows it too: the voxels with the largest share of it.
    """
    share = resampled(region, steps_between(shape, region.shape))
    found = share > 0.5
    for z in set(nearest_slices(len(region), shape[0])[region.any((1, 2))].tolist()):
        if not found[z].any():
            found[z] = share[z] == share[z].max()
    return found


def nearest_slices(slices: int, target: int) -> np.ndarray:
    """The slice among `target` that holds the centre of each of `slices` slices, int (slices,)."""
    return np.floor((np.arange(slices) + 0.5) * target / slices).astype(int)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
