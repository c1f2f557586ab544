"""Boundaries of masks, the distances between them, and the area of their surface elements.

Everything here works on a pair of boolean masks cropped to their common bounding box, in 2-D or 3-D.
Beyond the crop both masks are background, so cropping changes no boundary and no distance.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from samjax.metrics.boxes import bounding_box

Mask = NDArray[np.bool_]
Spacing = tuple[float, ...]

# Offsets up to this many times the finest spacing are looked up one by one; what lies farther is left to a
# k-d tree. A look-up takes about 1 ns and a query 1 to 2 us, so that the 515 offsets in 3-D never cost more
# than the tree, and mostly replace it.
_NEAR = 5

# A mask with a larger share of boundary voxels than this is noise: one distance transform of the whole box
# (0.2 us a voxel) then costs less than a query for each of them, and less memory than their look-ups.
_CROWDED = 1 / 8


def crop_to_union(first: Mask, second: Mask) -> tuple[Mask, Mask]:
    """Both masks, contiguous, cut to the bounding box of their union (no element if both are empty)."""
    boxes = [box for box in (bounding_box(first), bounding_box(second)) if box is not None]
    if not boxes:
        return first[:0], second[:0]
    box = tuple(slice(min(a.start for a in axis), max(a.stop for a in axis)) for axis in zip(*boxes, strict=True))
    return np.ascontiguousarray(first[box]), np.ascontiguousarray(second[box])


def boundary(mask: Mask, axes: Sequence[int] | None = None) -> Mask:
    """The voxels of `mask` with a background face-neighbour; outside the array counts as background.

    `axes` restricts the neighbours to these axes: (1, 2) gives every slice's own boundary.
    """
    inside = mask.copy()
    for axis in range(mask.ndim) if axes is None else axes:
        source, target = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)
        target[1:] &= source[:-1]
        target[:-1] &= source[1:]
        target[0] = target[-1] = False
    return mask & ~inside


def nearest_distances(source: Mask, target: Mask, spacing: Spacing, exact: int | None = None) -> NDArray:
    """The distance in mm from each voxel of `source` to the nearest voxel of `target`, neither of them empty.

    Args:
        source, target: masks of one shape.
        spacing: mm per axis.
        exact: how many of the smallest distances are wanted; the others may be left at infinity. All if None.

    Returns:
        float64, one per voxel of `source` in C order.
    """
    if np.count_nonzero(source) > _CROWDED * source.size:
        return _transform(target, spacing)[source]
    reach, shells = _near_shells(spacing)
    # The margin keeps every offset inside the array, so that it is one number to add to a flat position.
    source, target = _padded(source, reach), _padded(target, reach)
    pending = np.flatnonzero(source)
    distances = np.full(pending.size, np.inf)
    surplus = 0 if exact is None else max(0, pending.size - exact)
    rows = np.arange(pending.size)
    strides = np.array(target.strides)  # of one byte each
    flat = target.ravel()
    for length, shell in shells:
        if pending.size <= surplus:
            return distances
        hit = flat.take(pending + (shell @ strides)[:, None]).any(axis=0)
        distances[rows[hit]] = length
        pending, rows = pending[~hit], rows[~hit]
    if pending.size > surplus:
        points, targets = (
            np.stack(np.unravel_index(flat_index, source.shape), axis=-1)
            for flat_index in (pending, np.flatnonzero(flat))
        )
        distances[rows] = _tree_distances(points, targets, spacing)
    return distances


def _padded(mask: Mask, margins: Sequence[int]) -> Mask:
    """The mask with this many background voxels on both sides of each axis (np.pad is ten times as slow)."""
    padded = np.zeros([n + 2 * margin for n, margin in zip(mask.shape, margins, strict=True)], bool)
    padded[tuple(slice(m, m + n) for n, m in zip(mask.shape, margins, strict=True))] = mask
    return padded


@lru_cache(maxsize=32)
def _near_shells(spacing: Spacing) -> tuple[tuple[int, ...], list[tuple[float, NDArray]]]:
    """How far the near offsets reach along each axis, and the offsets grouped by their length in mm."""
    radius = _NEAR * min(spacing)
    reach = tuple(int(radius // step) for step in spacing)
    grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1)
    offsets = grid.reshape(-1, len(spacing))
    lengths = _lengths(offsets, spacing)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius]
    steps, starts = np.unique(lengths[order], return_index=True)
    return reach, list(zip(steps.tolist(), np.split(offsets[order], starts[1:]), strict=True))


def _lengths(offsets: NDArray, spacing: Spacing) -> NDArray:
    """The length in mm of whole-voxel offsets (n, d)."""
    return np.sqrt(((offsets * np.array(spacing)) ** 2).sum(axis=-1))


def _tree_distances(points: NDArray, targets: NDArray, spacing: Spacing) -> NDArray:
    """Distances in mm from voxel indices `points` (n, d) to the nearest of `targets` (m, d), both int."""
    from scipy.spatial import cKDTree  # 0.1 s to import, and most pairs of small masks never come here

    scale = np.array(spacing)
    tree = cKDTree(targets * scale, leafsize=32, balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(points * scale)
    # From whole steps: a difference of scaled coordinates can be off by a rounding error.
    return _lengths(points - targets[nearest], spacing)


def _transform(target: Mask, spacing: Spacing) -> NDArray:
    """The distance in mm from every voxel to the nearest of `target`."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(~target, sampling=spacing)


def surface_elements(mask: Mask, spacing: Spacing) -> tuple[Mask, NDArray]:
    """The surface of a mask between the voxel centres, as marching cubes (squares in 2-D) would draw it.

    Returns:
        A mask, one longer than `mask` along each axis, of the cells between 2 x 2 (x 2) voxel centres which
        the surface passes; and for each of them, in C order, its area in mm2 (length in mm in 2-D).
    """
    padded = _padded(mask, [1] * mask.ndim).view(np.uint8)
    code = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for corner in range(2**mask.ndim):
        window = tuple(slice(b, b + n) for b, n in zip(_bits(corner, mask.ndim), code.shape, strict=True))
        code |= padded[window] << corner
    areas = _areas(spacing)
    passed = (code != 0) & (code != len(areas) - 1)
    return passed, areas[code[passed]]


def _bits(corner: int, ndim: int) -> tuple[int, ...]:
    """A corner's place in its cell: bit k of its number is its step along axis k."""
    return tuple(corner >> axis & 1 for axis in range(ndim))


@lru_cache(maxsize=32)
def _areas(spacing: Spacing) -> NDArray:
    """The area of the surface in a cell of this size (mm) for each set of corners inside the mask.

    The patches are those of Nikolov et al. 2018 (arXiv 1809.04430), whose surface Dice this serves. A set
    and its complement have one surface. Of the smaller, corners joined by an edge share a patch, and
    corners that only face each other across a diagonal are cut off one by one.
    """
    ndim = len(spacing)
    # A patch is stretched with its cell: its area along axis k with the cell's extents along the others.
    stretch = np.prod(spacing) / np.array(spacing)
    areas = np.zeros(2 ** (2**ndim))
    for code in range(len(areas)):
        inside = frozenset(corner for corner in range(2**ndim) if code >> corner & 1)
        smaller = min(inside, frozenset(range(2**ndim)) - inside, key=len)
        normals = [normal for group in _joined(smaller) for normal in _patch_normals(group, ndim)]
        areas[code] = sum(np.linalg.norm(normal * stretch) for normal in normals)
    return areas


def _joined(corners: frozenset[int]) -> list[frozenset[int]]:
    """The groups of corners connected along edges of the cell (edge: the numbers differ in one bit)."""
    groups: list[frozenset[int]] = []
    for corner in sorted(corners):
        touching = [group for group in groups if any((corner ^ other).bit_count() == 1 for other in group)]
        groups = [group for group in groups if group not in touching]
        groups.append(frozenset({corner}).union(*touching))
    return groups


def _patch_normals(corners: frozenset[int], ndim: int) -> list[NDArray]:
    """The area vectors of the patch that cuts off joined corners of a unit cell, up to signs.

    The patch goes through the middles of the edges that leave the corners. Where these lie in no one plane
    it is folded, and the vectors are those of its flat parts.
    """
    ones, unit = np.ones(ndim), np.eye(ndim)
    edges = [(a, b) for a, b in combinations(sorted(corners), 2) if (a ^ b).bit_count() == 1]
    along = [(a ^ b).bit_length() - 1 for a, b in edges]  # the axis of each edge
    across = [axis for axis in range(ndim) if axis not in along]
    if len(corners) == 1:  # a triangle of side 1 / sqrt(2); in 2-D a line of that length
        return [ones / (8 if ndim == 3 else 2)]
    if len(corners) == 2:  # a rectangle of 1 x 1 / sqrt(2); in 2-D a line along the edge
        return [(ones - unit[along[0]]) / (2 if ndim == 3 else 1)]
    if len(corners) == 3:  # two corners of a face and the one between them: a pentagon, folded once
        return [ones * 3 / 8, unit[across[0]] / 2]
    if across:  # a face: a square
        return [unit[across[0]]]
    ends = [corner for corner in corners if sum(corner in edge for edge in edges) == 1]
    if len(ends) == 3:  # a corner and its three neighbours: a regular hexagon
        return [ones * 6 / 8]
    # A path along all three axes: a hexagon folded twice, with a flat part along the first and the last edge.
    outer = [axis for edge, axis in zip(edges, along, strict=True) if set(edge) & set(ends)]
    return [ones / 2, *((ones - unit[axis]) / 4 for axis in outer)]
