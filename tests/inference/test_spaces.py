"""Prompts in voxels of a file and in millimetres come to the same place as those in slices, rows and columns."""

import nibabel as nib
import numpy as np
import pytest

from samjax.data.imaging.geometry import Geometry, geometry_of, to_ours
from samjax.errors import UserError
from samjax.inference.spaces import boxes_in_volume, clicks_in_volume, mask_in_volume

SHAPE = (11, 13, 7)
TURN = np.deg2rad(20)
OBLIQUE = np.array(
    [
        [0, np.sin(TURN) * 0.8, np.cos(TURN) * 2.5, -20],
        [-0.8, 0, 0, 35],
        [0, -np.cos(TURN) * 0.8, np.sin(TURN) * 2.5, 5],
        [0, 0, 0, 1],
    ]
)
"""Axes that run to the back, down and to the right, turned by 20 degrees about the front."""
AFFINES = {"as stored by BraTS": np.diag([-1.0, -1.0, 1.0, 1.0]), "oblique": OBLIQUE}


@pytest.fixture(params=AFFINES, ids=str)
def geometry(request: pytest.FixtureRequest) -> Geometry:
    return geometry_of(SHAPE, AFFINES[request.param], "here")


def test_clicks_hit_the_voxel_of_the_file_that_they_name(geometry: Geometry):
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    voxels = np.array([[0, 0, 0], [10, 3, 6], [4, 12, 2]])
    millimetres = nib.affines.apply_affine(np.array(geometry.affine), voxels)
    wanted = [array[tuple(voxel)] for voxel in voxels]
    ours = to_ours(array, geometry)
    labels = np.array([[1], [0], [1]])
    beside = millimetres + 0.3  # less than half a voxel: the nearest one is taken
    for space, places in (("source", voxels), ("ras", millimetres), ("ras", beside)):
        found = clicks_in_volume(np.hstack([places, labels]), space, geometry)
        np.testing.assert_array_equal(found[:, 3], [1, 0, 1])
        assert [ours[tuple(place)] for place in found[:, :3].astype(int)] == wanted


def test_boxes_hold_what_they_held_in_the_file(geometry: Geometry):
    marked = np.zeros(SHAPE, bool)
    marked[2:6, 4:9, 1:4] = True
    ((*corners,),) = boxes_in_volume([[2, 4, 1, 5, 8, 3]], "source", geometry)
    first, last = np.array(corners[:3], int), np.array(corners[3:], int)
    held = np.zeros(geometry.shape, bool)
    held[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))] = True
    np.testing.assert_array_equal(held, to_ours(marked, geometry))


def test_a_box_in_millimetres_is_held_by_the_box_of_voxels(geometry: Geometry):
    inverse = np.linalg.inv(np.array(geometry.affine))
    centre = nib.affines.apply_affine(np.array(geometry.affine), [5, 6, 3])
    low, high = centre - 1.2, centre + 1.2
    ((*corners,),) = boxes_in_volume([[*low, *high]], "ras", geometry)
    inside = np.random.default_rng(0).uniform(low, high, (200, 3))
    voxels = np.rint(nib.affines.apply_affine(inverse, inside))
    places = clicks_in_volume(np.hstack([voxels, np.ones((200, 1))]), "source", geometry)[:, :3]
    assert (places >= corners[:3]).all()
    assert (places <= corners[3:]).all()


def test_a_mask_has_the_axes_of_the_file(geometry: Geometry):
    mask = np.random.default_rng(1).random(SHAPE) > 0.5
    np.testing.assert_array_equal(mask_in_volume(mask, "source", geometry), to_ours(mask, geometry))
    with pytest.raises(UserError, match="the scan's file has"):
        mask_in_volume(to_ours(mask, geometry)[:3], "source", geometry)


def test_what_has_no_place_is_refused(geometry: Geometry):
    with pytest.raises(UserError, match="space 'mm': expected one of volume, source, ras"):
        clicks_in_volume([(1, 1, 1, 1)], "mm", geometry)
    with pytest.raises(UserError, match="came from an array"):
        boxes_in_volume([(1, 1, 1, 2, 2, 2)], "ras", None)
    with pytest.raises(UserError, match="ends before it begins"):
        boxes_in_volume([(1, 1, 1, 0, 2, 2)], "source", geometry)
    with pytest.raises(UserError, match="4 finite numbers"):
        clicks_in_volume([(1, 1, float("nan"), 1)], "ras", geometry)
