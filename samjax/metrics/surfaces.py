"""Surfaces of masks: their elements with areas, the distances between two surfaces, and surface Dice.

The surface lies between the voxel centres, as marching cubes (squares in 2-D) would draw it. All take boolean masks
of one shape, 2-D or 3-D, and spacing in mm per axis; `masks` has the scores of empty masks.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from samjax.metrics.boundaries import nearest_distances
from samjax.metrics.masks import Mask, MaskPair, Spacing, checked_spacing, mask_pair, padded


def surface_dice(pred: Mask, true: Mask, spacing: Sequence[float], tolerance: float) -> float:
    """The normalised surface Dice at a tolerance in mm (Nikolov et al. 2018, arXiv 1809.04430).

    The share of both surfaces, by area, that lies within `tolerance` of the other (exactly at it counts). Equal to
    surface-distance's, in 2-D with lengths of contour for areas.

    Raises:
        ValueError: the masks, the spacing or the tolerance cannot be used.
    """
    spacing = checked_spacing(spacing, pred)
    if not tolerance >= 0:
        raise ValueError(f"surface Dice: tolerance {tolerance} mm, expected 0 or more")
    pair = mask_pair(pred, true)

    def within() -> float:
        sides = element_distances(pair, spacing)
        near = sum(areas[distances <= tolerance].sum() for distances, areas in sides)
        return float(near / sum(areas.sum() for _, areas in sides))

    return pair.overlap(within)


def element_distances(pair: MaskPair, spacing: Spacing) -> list[tuple[NDArray, NDArray]]:
    """For the predicted and the true surface: its elements' distances in mm to the other, and their areas."""
    p, p_areas = surface_elements(pair.pred, spacing)
    t, t_areas = surface_elements(pair.true, spacing)
    return [(nearest_distances(p, t, spacing), p_areas), (nearest_distances(t, p, spacing), t_areas)]


def surface_elements(mask: Mask, spacing: Spacing) -> tuple[Mask, NDArray]:
    """The surface of a mask between the voxel centres, as marching cubes (squares in 2-D) would draw it.

    Returns:
        A mask, one longer than `mask` along each axis, of the cells between 2 x 2 (x 2) voxel centres which
        the surface passes; and for each of them, in C order, its area in mm2 (length in mm in 2-D).
    """
    framed = padded(mask, [1] * mask.ndim).view(np.uint8)
    code = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for corner in range(2**mask.ndim):
        window = tuple(slice(b, b + n) for b, n in zip(_bits(corner, mask.ndim), code.shape, strict=True))
        code |= framed[window] << corner
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
