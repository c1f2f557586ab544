"""The windows that epochs of training show."""

import numpy as np
import pytest

from samjax.data.cache.cases import CachedCase
from samjax.data.imaging.volumes import Box
from samjax.data.samples import TrainingWindows
from samjax.errors import UserError


def case(*slices: int, of: int = 12) -> CachedCase:
    """A case that shows edema in these slices."""
    counts = np.zeros((of, 4), np.int32)
    counts[list(slices), 1] = 20
    return CachedCase(None, counts, Box((0, 0, 0), (of, 4, 4)), None)


def windows(*cases: CachedCase, **options: object) -> TrainingWindows:
    return TrainingWindows(
        cases, **{"depth": 4, "roi": "edema", "min_pixels": 1, "empty_share": 0.0, "seed": 0} | options
    )


@pytest.mark.parametrize("empty_share", [0.0, 0.5])
def test_every_epoch_has_a_window_though_most_offsets_show_none(empty_share):
    """A tumour in the first slice alone of five: only windows that begin with it show it, and one in four does."""
    source = windows(case(0, of=5), empty_share=empty_share)
    for epoch in range(50):
        shown = source.epoch(epoch)
        assert (0, 0) in shown
        assert shown == source.epoch(epoch)


def test_epochs_that_show_something_at_once_are_drawn_once():
    source = windows(case(4, 5, 6), case(7), case(0, 11), seed=3)
    for epoch in range(20):
        rng = np.random.default_rng((3, 1, epoch))
        offsets = [int(rng.integers(4)) for _ in range(3)]
        assert all(start % 4 == offsets[number] for number, start in source.epoch(epoch))


def test_cases_without_the_roi_are_refused_in_one_line():
    source = windows(case(), case(3), min_pixels=21)
    for call in (source.check, lambda: source.epoch(0)):
        with pytest.raises(UserError, match="--min-pixels 21 of --roi edema"):
            call()


def test_several_regions_have_the_windows_of_a_run_for_each():
    """The whole tumour is in slices 2 to 9, the core in 5 to 7, enhancing tumour in 7 alone."""
    counts = np.zeros((12, 4), np.int32)
    counts[2:10, 1], counts[5:8, 2], counts[7, 3] = 20, 20, 20
    one = CachedCase(None, counts, Box((0, 0, 0), (12, 4, 4)), None)
    for epoch in range(20):
        drawn = [start for _, start in windows(one, depth=1, roi="all").epoch(epoch)]
        assert drawn == [*range(2, 10), *range(5, 8), 7]


def test_windows_without_tumour_are_drawn_once_for_several_regions():
    """Half of the windows of the whole tumour, 2 of 4, show none of it; the regions inside it add none."""
    counts = np.zeros((12, 4), np.int32)
    counts[:, 0], counts[4:6, 3] = 100, 20
    one = CachedCase(None, counts, Box((0, 0, 0), (12, 4, 4)), None)
    drawn = [start for _, start in windows(one, depth=1, roi="all", empty_share=0.5).epoch(0)]
    assert sorted(start for start in drawn if 4 <= start < 6) == [4, 4, 4, 5, 5, 5]
    assert len(drawn) == 8
