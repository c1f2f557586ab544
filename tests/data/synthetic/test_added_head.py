"""Heads around stripped scans."""

import numpy as np
import pytest
from scipy import ndimage

from samjax.data.synthetic.added_head import head_around
from samjax.data.synthetic.phantom import PhantomOptions, make_case
from samjax.errors import UserError

OPTIONS = PhantomOptions((192, 192, 144))


@pytest.fixture(scope="module")
def stripped():
    case = make_case("adult", 5, 0, OPTIONS)
    return case["images"], case["label"]


@pytest.fixture(scope="module")
def head(stripped):
    images, label = stripped
    return head_around(images, label, OPTIONS.affine, seed=1)


def test_the_brain_keeps_its_values_but_for_one_factor(stripped, head):
    images, label = stripped
    upright = label[::-1, ::-1]  # written to the left and posterior; heads go to the right and anterior
    low = np.argwhere(head.label).min(axis=0) - np.argwhere(upright).min(axis=0)
    inside = np.any([image > 0 for image in images.values()], axis=0)[::-1, ::-1]
    there = tuple((np.argwhere(inside) + low).T)
    np.testing.assert_array_equal(head.label[there], upright[inside])
    assert np.count_nonzero(head.label) == np.count_nonzero(label)
    assert head.brain[there].all()
    for name, image in images.items():
        ratio = head.images[name][there] / image[::-1, ::-1][inside]
        np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-4, err_msg=name)


def test_bone_is_dark_around_the_brain_and_scalp_bright_around_bone(head):
    distance = ndimage.distance_transform_edt(~head.brain)
    upper = np.arange(head.brain.shape[2]) > np.argwhere(head.brain)[:, 2].mean()
    for modality, image in head.images.items():
        inside = np.median(image[head.brain])
        assert np.percentile(image[(distance > 1) & (distance < 6) & upper], 20) < 0.5 * inside, modality
    body = np.max([image / np.median(image[head.brain]) for image in head.images.values()], axis=0)
    assert np.percentile(body[(distance > 8) & (distance < 16) & upper], 75) > 0.6


def test_a_case_without_a_modality_is_refused(stripped):
    images, label = stripped
    with pytest.raises(UserError, match="t2 is missing or empty"):
        head_around({name: image for name, image in images.items() if name != "t2"}, label, OPTIONS.affine, 1)
