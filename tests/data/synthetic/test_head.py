"""Whole generated heads."""

import numpy as np
import pytest
from scipy import ndimage

from samjax.data.synthetic.head import Pose, Sequence, make_head, scan_head, true_brain


@pytest.fixture(scope="module")
def head():
    return make_head(3, 4.0)


def test_the_same_seed_makes_the_same_head_and_another_another(head):
    again = make_head(3, 4.0)
    for modality, image in head.images.items():
        np.testing.assert_array_equal(image, again.images[modality])
        assert image.dtype == np.float32
    assert not np.array_equal(head.brain, make_head(4, 4.0).brain)


def test_bone_is_dark_around_the_brain_and_scalp_bright_around_bone(head):
    distance = ndimage.distance_transform_edt(~head.brain) * 4.0
    upper = np.arange(head.brain.shape[2]) > np.argwhere(head.brain)[:, 2].mean()
    for modality, image in head.images.items():
        inside = np.median(image[head.brain])
        shell = np.percentile(image[(distance > 1) & (distance < 6) & upper], 20)
        assert shell < 0.5 * inside, modality
    body = np.max([image / np.median(image[head.brain]) for image in head.images.values()], axis=0)
    assert np.percentile(body[(distance > 8) & (distance < 16) & upper], 75) > 0.6


def test_volumes_and_tumours(head):
    assert 1.2 < head.brain.sum() * 0.064 / 1000 < 2.0
    assert (head.label[~head.brain] == 0).all()
    assert head.label.any()
    assert not make_head(3, 6.0, "none").label.any()


def test_a_scan_has_its_own_grid_and_the_head_its_pose(head):
    pose = Pose((0, 0, 30), (10, 0, 0))
    assert np.linalg.det(pose.matrix) == pytest.approx(1)
    array, affine = scan_head(head, "t2", 0, pose, Sequence((2, 2, 8), lowest=-60, highest=100, margin=10))
    assert array.shape == (94, 116, 20)
    assert array.dtype == np.int16
    np.testing.assert_allclose(np.diag(affine)[:3], (2, 2, 8))
    brain, still = (true_brain(head, affine, array.shape, one) for one in (pose, None))
    apart = (np.argwhere(brain).mean(axis=0) - np.argwhere(still).mean(axis=0)) * (2, 2, 8)
    middle = np.append(np.argwhere(head.brain).mean(axis=0), 1) @ head.affine.T
    np.testing.assert_allclose(apart[:2], (pose.matrix @ middle - middle)[:2], atol=2)
    assert np.median(array[brain]) > 3 * np.median(array[:, :2])
