"""The bounding box of a mask, against the places of its voxels and SciPy's."""

import numpy as np
import pytest
from scipy import ndimage

from samjax.metrics.boxes import bounding_box


@pytest.mark.parametrize("shape", [(9,), (7, 11), (5, 8, 6), (3, 4, 5, 6)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_it_holds_every_voxel_and_touches_one_on_each_side(shape, order):
    rng = np.random.default_rng(len(shape))
    for count in (1, 1, 2, 3, 30):
        mask = np.zeros(shape, bool, order)
        mask[tuple(rng.integers(0, size, count) for size in shape)] = True
        places = np.argwhere(mask)
        expected = [slice(a, b + 1) for a, b in zip(places.min(0).tolist(), places.max(0).tolist(), strict=True)]
        assert bounding_box(mask) == tuple(expected)
        assert bounding_box(mask) == ndimage.find_objects(mask.astype(np.uint8))[0]
        assert bounding_box(mask[::-1].T) == bounding_box(np.ascontiguousarray(mask[::-1].T))


def test_an_empty_mask_has_none():
    assert bounding_box(np.zeros((4, 5), bool)) is None
    assert bounding_box(np.zeros((0, 5), bool)) is None


def test_a_full_mask_has_all():
    assert bounding_box(np.ones((4, 5), bool)) == (slice(0, 4), slice(0, 5))
