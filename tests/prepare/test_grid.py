"""The grids of the search and of the result."""

import re

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.prepare.grid import FIELD, MARGIN, Grid, parse_spacing, points_to_voxels, voxels_to_points


def turned(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn[:, [2, 1, 0]] * spacing
    affine[:3, 3] = -40, 30, 10
    return Grid(affine, shape)


def test_spacing_is_of_one_number_or_of_rows_columns_and_slices():
    assert parse_spacing("1") == (1, 1, 1)
    assert parse_spacing("0.8,0.9,3") == (3, 0.8, 0.9)
    for text in ("", "x", "1,2", "nan", "0.1", "11", "-1", "1,1,1,1"):
        with pytest.raises(UserError, match=re.escape(f"--spacing {text}: expected")):
            parse_spacing(text)


def test_another_spacing_keeps_the_field_of_view():
    grid = turned((5.0, 0.6, 0.6), (30, 400, 300))
    fine = grid.resized((1.5, 1.5, 1.5))
    assert fine.spacing == pytest.approx((1.5, 1.5, 1.5))
    assert np.array(fine.shape) * 1.5 == pytest.approx(np.array(grid.shape) * grid.spacing, abs=1.5)
    corner = [voxels_to_points(np.array([[-0.5, -0.5, -0.5]]), one.affine) for one in (grid, fine)]
    np.testing.assert_allclose(*corner)
    assert grid.resized(grid.spacing).same_as(grid)


def test_the_result_is_as_large_as_a_scan_of_brats_and_holds_the_brain():
    grid = turned((1.0, 1.0, 1.0), (200, 256, 256))
    points = voxels_to_points(np.array([[20.0, 30, 40], [160, 200, 170]]), grid.affine)
    around = grid.around(points, (1.0, 1.0, 1.0))
    assert around.shape == FIELD
    offset = points_to_voxels(around.affine[:3, 3][None], grid.affine)
    np.testing.assert_allclose(offset, np.rint(offset), atol=1e-6)  # voxels on voxels: nothing is interpolated
    middle = points_to_voxels(points, around.affine).mean(axis=0)
    np.testing.assert_allclose(middle, (np.array(around.shape) - 1) / 2, atol=0.51)

    large = voxels_to_points(np.array([[0.0, 30, 40], [190, 200, 170]]), grid.affine)
    around = grid.around(large, (2.0, 1.0, 1.0))
    assert around.shape[0] * 2 >= 190 + 2 * MARGIN
    voxels = points_to_voxels(large, around.affine)
    assert (voxels > 0).all()
    assert (voxels < around.shape).all()
