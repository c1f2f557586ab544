"""The plane between the halves of a head, on ellipsoids that were turned and moved."""

import numpy as np
import pytest

from samjax.inference.fitting.symmetry import mirrored_indices

SHAPE = (60, 90, 80)


def head(degrees: float, shift: float, spacing: tuple[float, ...]) -> np.ndarray:
    """A brain-like body that is longest from front to back and narrower in front, turned about the slice axis."""
    z, y, x = (
        (axis - (n - 1) / 2) * mm for axis, n, mm in zip(np.indices(SHAPE, np.float32), SHAPE, spacing, strict=True)
    )
    x = x - shift
    turn = np.deg2rad(degrees)
    along, across = y * np.cos(turn) - x * np.sin(turn), y * np.sin(turn) + x * np.cos(turn)
    return (z / 48) ** 2 + (along / 80) ** 2 + (across / (62 + 0.1 * along)) ** 2 < 1


@pytest.mark.parametrize(("degrees", "shift"), [(0, 0), (6, 0), (0, 7), (-5, -4)])
def test_the_mirror_image_lies_across_the_plane(degrees: float, shift: float):
    spacing = (2.0, 2.0, 2.0)
    place = mirrored_indices(head(degrees, shift, spacing), np.array(spacing))
    turn = np.deg2rad(degrees)
    centre = (np.array(SHAPE) - 1) / 2
    right = np.array([0, np.sin(turn), np.cos(turn)])
    for along in (-20, 0, 20):
        middle = centre + np.array([4, along * np.cos(turn), -along * np.sin(turn) + shift / 2])
        here, there = middle + 12 * right, middle - 12 * right
        found = place[:, *np.rint(here).astype(int)]
        moved = there + np.rint(here) - here - 2 * np.dot(np.rint(here) - here, right) * right
        assert np.linalg.norm(found - moved) < 1.0  # voxels of 2 mm


def test_voxels_need_not_be_cubes():
    spacing = (5.0, 1.0, 1.0)
    brain = np.zeros((20, 120, 110), bool)
    brain[2:18, 10:110, 20:100] = True
    place = mirrored_indices(brain, np.array(spacing))
    np.testing.assert_allclose(place[:, 10, 60, 30], (10, 60, 89), atol=1.0)
