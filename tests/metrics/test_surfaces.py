"""Surface elements and surface Dice, against geometry by hand."""

from math import hypot, sqrt

import numpy as np
import pytest

from samjax.metrics.hausdorff import hd95_by_area
from samjax.metrics.surfaces import surface_dice, surface_elements
from tests.metrics.masks import block, empty, pixels

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


def test_surface_dice_by_hand():
    # Two pixels 3 apart. Each has four surface elements of equal length; two of them are 2 from the other's,
    # two are 3 from it.
    pred, true = pixels((2, 1)), pixels((2, 4))
    for tolerance, near in ((1.999, 0), (2.0, 0.5), (2.999, 0.5), (3.0, 1.0)):
        assert surface_dice(pred, true, (1.0, 1.0), tolerance) == near
    assert hd95_by_area(pred, true, (1.0, 1.0)) == 3


def test_surface_elements_weigh_by_area():
    # A 14 x 14 square has 52 whole edge elements and 4 corners of sqrt(1/2); a far pixel adds 4 such corners:
    # 4 of 60 elements, but 2.83 of 57.66 in length, less than a twentieth.
    true = block((40, 40), (0, 14), (0, 14))
    pred = true | block((40, 40), (39, 40), (39, 40))
    assert hd95_by_area(pred, true, (1.0, 1.0)) == 0
    length = 52 + 4 * sqrt(1 / 2)
    expected = 2 * length / (2 * length + 4 * sqrt(1 / 2))
    assert surface_dice(pred, true, (1.0, 1.0), 1.0) == pytest.approx(expected)
    # A 13 x 13 square leaves the pixel more than a twentieth; its nearest corner elements are 26 away.
    true = block((40, 40), (0, 13), (0, 13))
    pred = true | block((40, 40), (39, 40), (39, 40))
    assert hd95_by_area(pred, true, (1.0, 1.0)) == pytest.approx(hypot(26, 26))
