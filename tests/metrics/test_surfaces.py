"""Boundaries, nearest distances and surface elements, against plain loops and geometry by hand."""

from math import sqrt

import numpy as np
import pytest

from samjax.metrics.surfaces import boundary, crop_to_union, nearest_distances, surface_elements
from tests.metrics.masks import SPACINGS, block, empty, pairs, plain_boundary, plain_distances

CASES = [(ndim, name) for ndim in (2, 3) for name in pairs(ndim)]


@pytest.mark.parametrize("order", ["C", "F"])
def test_crop_is_the_box_of_both(order):
    first, second = block((9, 8, 7), (2, 4), (3, 4), (1, 2)), block((9, 8, 7), (3, 6), (1, 2), (6, 7))
    crops = crop_to_union(np.asarray(first, order=order), np.asarray(second, order=order))
    for whole, crop in zip((first, second), crops, strict=True):
        np.testing.assert_array_equal(crop, whole[2:6, 1:4, 1:7])
        assert crop.flags.c_contiguous


def test_crop_with_empty_masks():
    some, none = block((5, 6), (1, 3), (2, 6)), empty(5, 6)
    assert [crop.shape for crop in crop_to_union(some, none)] == [(2, 4)] * 2
    assert [crop.size for crop in crop_to_union(none, none)] == [0, 0]


@pytest.mark.parametrize(("ndim", "name"), CASES)
def test_boundary(ndim, name):
    mask = pairs(ndim)[name][0]
    np.testing.assert_array_equal(np.argwhere(boundary(mask)), plain_boundary(mask))


def test_boundary_within_slices():
    # Every slice of this block is inside its neighbours but for the rim.
    mask = block((5, 6, 7), (0, 5), (1, 5), (1, 6))
    slices = boundary(mask, axes=(1, 2))
    for index in range(5):
        np.testing.assert_array_equal(slices[index], boundary(mask[index]))
    assert not slices[2, 2, 3]
    assert boundary(mask)[0, 2, 3]


@pytest.mark.parametrize(("ndim", "name"), CASES)
def test_nearest_distances(ndim, name):
    source, target = pairs(ndim)[name]
    source, target = boundary(source), boundary(target)
    for spacing in SPACINGS[ndim]:
        plain = plain_distances(np.argwhere(source), np.argwhere(target), spacing)
        np.testing.assert_allclose(nearest_distances(source, target, spacing), plain, rtol=1e-14)


@pytest.mark.parametrize("exact", [1, 7, 60, 199, 200])
def test_nearest_distances_up_to_a_rank(exact):
    rng = np.random.default_rng(1)
    source, target = empty(300), empty(300)
    source[rng.choice(300, 200, replace=False)] = True
    target[rng.choice(40, 3, replace=False)] = True
    every = np.sort(nearest_distances(source, target, (1.0,)))
    some = np.sort(nearest_distances(source, target, (1.0,), exact))
    np.testing.assert_array_equal(some[:exact], every[:exact])


# The corners of one cell inside the mask, and the area of the patch that cuts them off, for cells of
# 1 x 1 x 1 and of 1 x 1 x 2 mm. By hand: the patch passes through the middles of the edges. A triangle has
# the area vector (1, 1, 1) / 8; in the longer cell it becomes (2, 2, 1) / 8, of length 3 / 8.
PATCHES = {
    "corner": (["000"], sqrt(3) / 8, 3 / 8),
    "edge along the long axis": (["000", "001"], sqrt(1 / 2), 2 * sqrt(1 / 2)),
    "edge across it": (["000", "010"], sqrt(1 / 2), sqrt(4 + 1) / 2),
    "corners of a diagonal": (["000", "011"], 2 * sqrt(3) / 8, 2 * 3 / 8),
    "opposite corners": (["000", "111"], 2 * sqrt(3) / 8, 2 * 3 / 8),
    "three of a face": (["000", "001", "010"], 3 * sqrt(3) / 8 + 1 / 2, 3 * 3 / 8 + 2 / 2),
    "edge and corner": (["000", "001", "110"], sqrt(1 / 2) + sqrt(3) / 8, 2 * sqrt(1 / 2) + 3 / 8),
    "face across the long axis": (["000", "010", "100", "110"], 1.0, 1.0),
    "face along the long axis": (["000", "001", "100", "101"], 1.0, 2.0),
    "corner and its neighbours": (["000", "001", "010", "100"], 6 * sqrt(3) / 8, 6 * 3 / 8),
    # From 001 along the last axis, the middle one and the first: flat parts along the outer two.
    "path": (
        ["001", "000", "010", "110"],
        4 * sqrt(3) / 8 + 2 * sqrt(1 / 8),
        4 * 3 / 8 + sqrt(4 + 4) / 4 + sqrt(4 + 1) / 4,
    ),
    "alternating corners": (["000", "011", "101", "110"], 4 * sqrt(3) / 8, 4 * 3 / 8),
}


@pytest.mark.parametrize("name", PATCHES)
def test_patch_areas(name):
    corners, cube, long = PATCHES[name]
    mask = empty(2, 2, 2)
    for corner in corners:
        mask[tuple(int(step) for step in corner)] = True
    for spacing, area in (((1.0, 1.0, 1.0), cube), ((1.0, 1.0, 2.0), long)):
        for inside in (mask, ~mask):
            cells, areas = surface_elements(inside, spacing)
            place = cells.ravel()[:13].sum()  # of the cell between all eight voxels, (1, 1, 1)
            assert cells[1, 1, 1]
            assert areas[place] == pytest.approx(area)


def test_areas_of_whole_bodies():
    # One voxel: an octahedron of edge sqrt(1/2), area 2 sqrt(3) / 2.
    assert surface_elements(block((1, 1, 1), (0, 1), (0, 1), (0, 1)), (1.0,) * 3)[1].sum() == pytest.approx(sqrt(3))
    # A cube of 2 x 2 x 2 voxels: 8 corners, 12 bevelled edges, 6 faces; its middle is no surface.
    cells, areas = surface_elements(~empty(2, 2, 2), (1.0, 1.0, 1.0))
    assert cells.shape == (3, 3, 3)
    assert cells.sum() == 26
    assert areas.sum() == pytest.approx(8 * sqrt(3) / 8 + 12 * sqrt(1 / 2) + 6)
    # A 2 x 2 square of pixels of 3 x 4 mm: two sides of 3, two of 4, four corners cut at half the diagonal 5.
    cells, areas = surface_elements(~empty(2, 2), (3.0, 4.0))
    assert cells.sum() == 8
    assert areas.sum() == pytest.approx(2 * 3 + 2 * 4 + 4 * 5 / 2)
    # Two pixels across a diagonal: the cell between them holds two cut corners.
    assert surface_elements(np.eye(2, dtype=bool), (3.0, 4.0))[1].sum() == pytest.approx(8 * 5 / 2)
