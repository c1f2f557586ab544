"""A run's grid: its spelling, the shape of a scan on it, and the grid that scans have in common."""

import numpy as np
import pytest

from samjax.data.imaging.geometry import geometry_of, regridded
from samjax.data.imaging.grids import RunGrid, common_grid
from samjax.errors import UserError


@pytest.mark.parametrize(
    ("text", "grid", "again", "words"),
    [
        ("1", RunGrid(1, 1), "1", "1 x 1 mm"),
        ("0.9375", RunGrid(0.9375, 0.9375), "0.9375", "0.938 x 0.938 mm"),
        ("0.8, 0.8", RunGrid(0.8, 0.8), "0.8", "0.8 x 0.8 mm"),
        ("0.7,1.1", RunGrid(0.7, 1.1), "0.7,1.1", "0.7 x 1.1 mm"),
        ("0.8,0.8,3.0", RunGrid(0.8, 0.8, 3), "0.8,0.8,3", "0.8 x 0.8 x 3 mm"),
    ],
)
def test_spellings(text: str, grid: RunGrid, again: str, words: str):
    assert RunGrid.parse(text) == grid
    assert str(grid) == again
    assert RunGrid.parse(str(grid)) == grid
    assert grid.words == words


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "1,1,1,1", "1x1", "0.05", "1,1,50", "inf"])
def test_other_spellings_are_refused_in_one_line(text: str):
    with pytest.raises(
        UserError, match=r"^--spacing .*: expected mm from 0.1 to 20: one number .*0.8,0.8,3$"
    ) as caught:
        RunGrid.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("grid", "shape", "spacing", "expected"),
    [
        (RunGrid(1, 1), (31, 480, 480), (5, 0.5, 0.5), (31, 240, 240)),
        (RunGrid(1, 1), (155, 240, 240), (1, 1.009, 0.991), (155, 240, 240)),  # within the tolerance
        (RunGrid(1, 1), (52, 343, 218), (3, 0.7, 1.1), (52, 240, 240)),
        (RunGrid(0.8, 0.8, 3), (155, 240, 240), (1, 1, 1), (52, 300, 300)),
        (RunGrid(1, 1, 5), (2, 3, 1), (0.5, 0.4, 0.4), (1, 1, 1)),  # never without a voxel
    ],
)
def test_the_field_of_view_stays(grid: RunGrid, shape: tuple, spacing: tuple, expected: tuple):
    assert grid.shape_of(shape, spacing) == expected
    assert grid.resamples(shape, spacing) == (expected != shape)


def test_what_is_on_the_grid_stays_on_it():
    rng = np.random.default_rng(0)
    for _ in range(500):
        shape, spacing = tuple(rng.integers(1, 300, 3).tolist()), rng.uniform(0.3, 6, 3)
        grid = RunGrid(*rng.uniform(0.3, 6, 3).tolist())
        on_grid = grid.shape_of(shape, spacing)
        there = [size * side / new for size, side, new in zip(shape, spacing, on_grid, strict=True)]
        assert grid.shape_of(on_grid, there) == on_grid


@pytest.mark.parametrize(
    ("spacings", "grid", "alike"),
    [
        ([(1, 1, 1), (5, 1, 1)], RunGrid(1, 1), True),
        ([(5, 0.9375, 0.9375), (5, 0.94, 0.94), (3, 0.9375, 0.9375)], RunGrid(0.9375, 0.9375), True),
        ([(3, 0.7, 1.1)], RunGrid(0.7, 1.1), True),  # nothing to resample: pixels as they are
        ([(1, 1, 1), (1, 1, 1), (5, 0.5, 0.5)], RunGrid(1, 1), False),
        ([(3, 0.7, 1.1), (3, 0.7, 0.7), (3, 1.1, 1.1)], RunGrid(0.9, 0.9), False),
    ],
)
def test_a_common_grid_or_square_pixels_of_the_median(spacings: list, grid: RunGrid, alike: bool):
    assert common_grid(spacings) == (grid, alike)


@pytest.mark.parametrize("turn", [0.0, 0.35])
def test_the_outer_edges_of_a_volume_stay_in_space(turn: float):
    turned = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned @ np.diag([-0.5, 0.6, 5]), (7, -8, 9)
    own = geometry_of((48, 40, 11), affine, "here")
    other = regridded(own, (18, 33, 21))
    assert other.shape == (18, 33, 21)
    np.testing.assert_allclose(np.multiply(other.spacing, other.shape), np.multiply(own.spacing, own.shape))
    for corner in np.ndindex(2, 2, 2):
        places = (np.array([*(np.array(corner) * geometry.shape - 0.5), 1]) for geometry in (own, other))
        first, second = (g.oriented_affine @ place for g, place in zip((own, other), places, strict=True))
        np.testing.assert_allclose(first, second)
