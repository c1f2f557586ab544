"""Dead-leaves pictures: determinism, what the numbers mean, variety, and speed that training can bear."""

import time

import numpy as np
import pytest
from scipy import ndimage

from samjax.data.synthetic.dead_leaves import DeadLeavesOptions, dead_leaves, visible_regions

NATURAL = DeadLeavesOptions(scan_like=0.0)
SCANS = DeadLeavesOptions(scan_like=1.0)


def pictures(count, options=None, seed=0):
    return [dead_leaves(np.random.default_rng((seed, index)), options) for index in range(count)]


@pytest.fixture(scope="module")
def sample():
    return pictures(24)


def test_same_generator_same_picture():
    (first, first_ids), (again, again_ids) = pictures(1)[0], pictures(1)[0]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first_ids, again_ids)
    other, other_ids = pictures(1, seed=1)[0]
    assert np.any(other != first)
    assert np.any(other_ids != first_ids)


@pytest.mark.parametrize("size", [64, 256])
def test_shapes_and_types(size):
    for picture, ids in pictures(6, DeadLeavesOptions(size=size)):
        assert picture.shape == (size, size, 3)
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        assert ids.shape == (size, size)
        assert ids.dtype == np.uint8


def test_shapes_overlap_in_number_and_in_all_sizes(sample):
    counts = [np.count_nonzero(np.bincount(ids.ravel())[1:]) for _, ids in sample]
    assert 15 < np.median(counts) < 80
    areas = np.concatenate([np.bincount(ids.ravel())[1:] for _, ids in sample])
    areas = areas[areas > 0]
    # Heavy tail: most shapes are small, a few take a large part of the picture.
    assert np.median(areas) < 0.02 * 256**2
    assert areas.max() > 0.15 * 256**2


def test_numbers_follow_what_is_seen():
    """A boundary of the numbers is, far more often than elsewhere, a step of the picture."""
    ratios = []
    for picture, ids in pictures(12, NATURAL, seed=2):
        step = np.abs(np.diff(picture.astype(float), axis=1)).sum(axis=2)
        boundary = np.diff(ids.astype(int), axis=1) != 0
        inside = ~ndimage.binary_dilation(boundary, iterations=3)
        ratios.append(step[boundary].mean() / step[inside].mean())
    assert np.median(ratios) > 2
    assert np.mean(np.asarray(ratios) > 1) > 0.9


def test_shapes_touch_their_own_box_only():
    """No shape leaves the box that it is drawn in: a shape cut by its box would end in a straight edge."""
    from samjax.data.synthetic import dead_leaves as module

    for index in range(300):
        rng = np.random.default_rng((7, index))
        shape = module._shape(rng, np.asarray((128.0, 128.0)), 30.0)
        span = np.arange(256, dtype=np.float32)
        outside = shape.depth(span[:, None], span[None]) > -0.5
        outside[shape.box(256)] = False
        assert not outside.any()


def test_scan_like_pictures_are_dark_around_one_head():
    for picture, ids in pictures(8, SCANS):
        assert not picture[ids == 0][::7].any() or picture[ids == 0].mean() < 6  # only the soft edge is lit
        head = ids > 0
        assert ndimage.label(head)[1] == 1
        assert 0.15 < head.mean() < 0.9


def test_some_pictures_are_grey_and_some_are_coloured(sample):
    def colourfulness(picture):
        means = ndimage.uniform_filter(picture.astype(np.float32), (9, 9, 0))
        return np.ptp(means, axis=2).mean()

    spread = np.asarray([colourfulness(picture) for picture, _ in sample])
    assert np.any(spread < 6)
    assert np.any(spread > 40)


def test_visible_regions_are_large_enough_and_in_one_piece(sample):
    total = 0
    for _, ids in sample:
        usable = visible_regions(ids, 60)
        assert 0 not in usable
        assert list(usable) == sorted(set(usable.tolist()))
        for number in usable:
            pieces, _ = ndimage.label(ids == number)
            sizes = np.bincount(pieces.ravel())[1:]
            assert sizes.sum() >= 60
            assert sizes.max() >= 0.6 * sizes.sum()
        total += usable.size
    assert total > 10 * len(sample)


def test_visible_regions_leaves_out_small_and_broken_shapes():
    ids = np.zeros((20, 20), np.uint8)
    ids[0:4, 0:5] = 1  # 20 pixels in one piece
    ids[10, 0:3] = 2  # too small
    ids[12:14, 0:5] = ids[17:19, 0:5] = 3  # two halves
    ids[5:9, 10:14], ids[15, 15] = 5, 5  # one piece and a crumb; 4 does not occur
    assert visible_regions(ids, 10).tolist() == [1, 5]
    assert visible_regions(ids, 10, min_share=0.4).tolist() == [1, 3, 5]
    assert visible_regions(ids, 3).tolist() == [1, 2, 5]
    assert visible_regions(np.zeros((5, 5), np.uint8), 1).size == 0


def test_parts_lie_inside_their_shape():
    """With one shape and parts in it, nothing is drawn outside of it."""
    parted = DeadLeavesOptions(shapes=(1, 1), radius=(0.3, 0.31), nested=1.0, scan_like=0.0)
    plain = DeadLeavesOptions(shapes=(1, 1), radius=(0.3, 0.31), nested=0.0, scan_like=0.0)
    numbers = set()
    for (_, ids), (_, alone) in zip(pictures(20, parted), pictures(20, plain), strict=True):
        np.testing.assert_array_equal(ids > 0, alone > 0)
        numbers |= set(np.unique(ids).tolist())
    assert max(numbers) >= 2


def test_fast_enough_for_training():
    """A training step of 8 pictures takes most of a second; the bound leaves room for a slow machine."""
    pictures(2)
    start = time.process_time()
    pictures(10, seed=3)
    assert (time.process_time() - start) / 10 < 0.15
