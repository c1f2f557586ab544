"""Registration of two scans of one head, and what tells a good one from a bad one."""

import numpy as np
import pytest

from samjax.data.imaging.geometry import geometry_of, to_ours
from samjax.data.synthetic.head import Pose, Sequence, scan_head
from samjax.errors import UserError
from samjax.prepare.agreement import Agreement, agreement, mutual_information
from samjax.prepare.itk import coarser, grid_of, resampled, rigid_matrix, to_array, to_itk, upright
from samjax.prepare.registration import register
from tests.prepare.heads import FIRST, POSES, error, head, wanted

sitk = pytest.importorskip("SimpleITK")


def image_of(modality: str, sequence: Sequence, pose: Pose | None = None):
    array, affine = scan_head(head(1), modality, 5, pose or POSES[modality], sequence)
    geometry = geometry_of(array.shape, affine, modality)
    return to_itk(to_ours(array, geometry), upright(geometry.oriented_affine, geometry.shape, modality))


def test_thick_slices_are_registered_and_the_same_again():
    fixed = image_of("t1gd", Sequence((3, 3, 3)))
    moving = image_of("t2", Sequence((2, 2, 6), lowest=-95))
    first, second = register(fixed, moving), register(fixed, moving)
    assert first.GetParameters() == second.GetParameters()
    far, turn = error(rigid_matrix(first), wanted("t2"), seed=1)
    assert far < 1.5, far
    assert turn < 0.7, turn


def test_an_image_goes_to_simpleitk_and_back():
    rng = np.random.default_rng(0)
    affine = np.diag([3.0, -1, -2, 1])[[2, 1, 0, 3]]
    affine[:3, 3] = 5, 6, 7
    array = rng.integers(0, 99, (4, 5, 6))
    image = to_itk(array, upright(affine, array.shape, "x"))
    np.testing.assert_array_equal(to_array(image), array)
    np.testing.assert_allclose(grid_of(image).affine, affine)
    index, lps = (2, 3, 1), np.array([-1, -1, 1])  # column, row, slice
    np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), lps * (affine @ [1, 3, 2, 1])[:3])


def test_a_skewed_grid_is_refused_and_a_rounded_one_straightened():
    skewed = np.diag([3.0, 2, 2, 1])
    skewed[0, 1] = 0.3
    with pytest.raises(UserError, match=r"scan\.nii: the axes of its voxels are not at right angles"):
        upright(skewed, (20, 100, 100), "scan.nii")
    rounded = np.diag([3.0, 2, 2, 1])
    rounded[0, 1] = 0.001
    axes = upright(rounded, (20, 100, 100), "scan.nii").affine[:3, :3]
    assert abs(axes[:, 0] @ axes[:, 1]) < 1e-9


def test_coarser_voxels_keep_their_places():
    ramp = np.arange(12, dtype=np.float32)[:, None, None] * np.ones((1, 8, 8), np.float32)
    image = to_itk(ramp, upright(np.eye(4), ramp.shape, "x"))
    low = coarser(image, 2.0)
    places = np.arange(6) * 2 + 0.5
    np.testing.assert_allclose(to_array(low)[:, 0, 0], places)
    np.testing.assert_allclose(grid_of(low).affine[:3, 3], 0.5)


def test_resampling_keeps_the_range_and_says_where_nothing_is():
    rng = np.random.default_rng(1)
    array = (rng.random((12, 12, 12)) > 0.5).astype(np.float32)
    image = to_itk(array, upright(np.eye(4), array.shape, "x"))
    grid = upright(np.diag([0.7, 0.7, 0.7, 1]), (20, 20, 20), "x")
    smooth = resampled(image, grid, outside=np.nan, smooth=True)
    assert np.isnan(smooth[-1]).all()
    assert np.nanmin(smooth) == 0
    assert np.nanmax(smooth) == 1
    assert resampled(image, grid_of(image)).tolist() == array.tolist()


def test_mutual_information_of_known_images():
    rng = np.random.default_rng(2)
    first, mask = rng.random((20, 20, 20)), np.ones((20, 20, 20), bool)
    assert mutual_information(first, -first, mask) == pytest.approx(np.log(32), abs=0.05)  # contrast does not matter
    assert mutual_information(first, rng.random(first.shape), mask) < 0.1
    assert mutual_information(first, np.full(first.shape, np.nan), mask) == 0


def test_agreement_sees_what_a_scan_does_not_show():
    rng = np.random.default_rng(3)
    image = rng.random((30, 30, 30))
    brain = np.zeros(image.shape, bool)
    brain[5:25, 5:25, 5:25] = True
    part = image.copy()
    part[15:] = np.nan
    found = agreement(image, np.roll(image, 6, 0), part, brain, 1.0)
    assert found.covered == pytest.approx(0.5)
    assert found.after > 10 * found.before
    assert [doubt for doubt in found.doubts("t2", "t1") if "shows only 50 % of the brain" in doubt]
    assert Agreement(0.1, 0.5, 2.0, 1.0).doubts("t2", "t1") == []


def test_every_scan_is_of_the_head_in_its_pose():
    """The T2 of a pose at the points that the pose moves is the T2 of the head at rest."""
    array, affine = scan_head(head(1), "t2", 5, FIRST, Sequence((3, 3, 3), noise=0, bias=0))
    rest, own = scan_head(head(1), "t2", 5, None, Sequence((3, 3, 3), noise=0, bias=0))
    place = np.array([0, -16, 5, 1])
    voxel = np.rint(np.linalg.inv(affine) @ FIRST.matrix @ place)[:3].astype(int)
    still = np.rint(np.linalg.inv(own) @ place)[:3].astype(int)
    around = [tuple(slice(n - 3, n + 4) for n in centre) for centre in (voxel, still)]
    assert array[around[0]].mean() == pytest.approx(rest[around[1]].mean(), rel=0.1)
