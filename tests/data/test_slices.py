import numpy as np
import pytest

from samjax.data.slices import (
    decathlon_slices,
    empty_windows,
    enough_pixels,
    roi_pixels,
    windows,
)
from samjax.errors import UserError


@pytest.fixture
def counts():
    """20 slices; edema in 5 to 14, core in 8 to 11, enhancing in 9 alone; more in the middle."""
    table = np.zeros((20, 4), np.int32)
    table[5:15, 1] = [10, 20, 300, 400, 500, 500, 400, 300, 20, 10]
    table[8:12, 2] = [100, 250, 260, 5]
    table[9, 3] = 251
    table[:, 0] = 4000 - table.sum(axis=1)
    return table


def test_pixels_of_a_region(counts):
    assert roi_pixels(counts, "whole-tumor")[9] == 500 + 250 + 251
    assert roi_pixels(counts, "tumor-core")[9] == 250 + 251
    assert roi_pixels(counts, "enhancing").tolist().index(251) == 9


@pytest.mark.parametrize(
    ("roi", "min_pixels", "offset", "starts"),
    [
        ("whole-tumor", 1, 0, [4, 8, 12]),
        ("whole-tumor", 300, 0, [4, 8, 12]),
        ("whole-tumor", 301, 0, [8]),
        ("whole-tumor", 1, 3, [3, 7, 11]),
        ("whole-tumor", 1, 7, [3, 7, 11]),
        ("enhancing", 251, 0, [8]),
        ("enhancing", 252, 0, []),
        ("enhancing", 1, 1, [9]),
        ("whole-tumor", 0, 2, [2, 6, 10, 14]),
    ],
)
def test_training_windows(counts, roi, min_pixels, offset, starts):
    assert windows(counts, 4, roi, min_pixels, offset).tolist() == starts


def test_over_all_offsets_every_slice_is_reached_equally(counts):
    seen = np.zeros(20, int)
    for offset in range(4):
        starts = windows(counts, 4, "edema", 1, offset)
        for start in starts:
            assert roi_pixels(counts, "edema")[start : start + 4].any()
            seen[start : start + 4] += 1
        assert (np.diff(starts) == 4).all()
    assert (seen[5:15] == 4).all()


def test_single_slices_and_volumes_thinner_than_a_window(counts):
    assert windows(counts, 1, "enhancing", 1).tolist() == [9]
    assert windows(counts[:3], 4, "edema", 0, 2).tolist() == [0]
    assert windows(counts[:3], 4, "edema", 1).tolist() == []
    assert windows(counts[8:11], 4, "edema", 1, 3).tolist() == [0]


def test_empty_windows_are_drawn_by_their_share(counts):
    rng = np.random.default_rng(0)
    full = set(windows(counts, 2, "whole-tumor", 1).tolist())
    assert len(full) == 6
    some = empty_windows(counts, 2, "whole-tumor", 0, 0.34, rng)
    assert len(some) == 3
    assert not full & set(some.tolist())
    assert (np.diff(some) > 0).all()
    every = empty_windows(counts, 2, "whole-tumor", 0, 0.9, rng)
    assert every.tolist() == [0, 2, 16, 18]
    assert empty_windows(counts, 2, "whole-tumor", 0, 0.9, rng, brain=(1, 19)).tolist() == [2, 16]
    assert empty_windows(counts, 2, "whole-tumor", 0, 0.0, rng).tolist() == []
    drawn = {tuple(empty_windows(counts, 2, "whole-tumor", 0, 0.25, np.random.default_rng(s))) for s in range(20)}
    assert len(drawn) > 1


def test_windows_with_a_little_of_the_region_are_neither_full_nor_empty(counts):
    full = windows(counts, 2, "whole-tumor", 100)
    empty = empty_windows(counts, 2, "whole-tumor", 0, 0.9, np.random.default_rng(0), min_pixels=100)
    assert 4 not in full
    assert 4 not in empty


def test_windows_of_which_nothing_is_labelled_are_not_empty_ones(counts):
    counts[16:] = 0
    every = empty_windows(counts, 2, "whole-tumor", 0, 0.9, np.random.default_rng(0))
    assert every.tolist() == [0, 2]


@pytest.mark.parametrize("share", [-0.1, 1.0, 2])
def test_a_share_that_is_none(counts, share):
    with pytest.raises(UserError, match="--empty-share"):
        empty_windows(counts, 2, "edema", 0, share, np.random.default_rng(0))


def test_the_decathlon_rule_and_the_milder_one(counts):
    assert np.flatnonzero(decathlon_slices(counts)).tolist() == [9]
    assert np.flatnonzero(decathlon_slices(counts, 252)).tolist() == []
    assert np.flatnonzero(enough_pixels(counts, "non-enhancing", 250)).tolist() == [9, 10]
    assert np.flatnonzero(enough_pixels(counts, "edema", 250)).tolist() == [7, 8, 9, 10, 11, 12]
