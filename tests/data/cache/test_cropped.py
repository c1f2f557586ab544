"""Prepared cases whose slices are cropped to what the scan shows."""

import numpy as np
import pytest

from samjax.data.cache.cases import open_case
from samjax.data.cache.views import views_of
from samjax.data.formats.layouts import find_cases
from samjax.data.samples import ReadWindow, TrainingWindows, largest_square
from tests.data.trees import example, save_brats


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    root = tmp_path_factory.mktemp("cropped")
    save_brats(root / "data", "BraTS2021_00000", example(), orientation="RAS")
    return open_case(find_cases(root / "data", "adult")[0], root / "cache")


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_a_crop_shows_what_the_scan_shows_and_no_more(cached, plane):
    (whole,), (crop,) = (views_of([cached], (plane,), cropped) for cropped in (False, True))
    assert crop.shape[1:] < whole.shape[1:]
    size = max(crop.shape[1:]) + 3
    images, labels = crop.read(-1, crop.shape[0] + 1, size)
    expected = whole.read(-1, whole.shape[0] + 1)
    for found, all_of_it in zip((images, labels), expected, strict=True):
        assert found.shape[1:3] == (size, size)
        inside = all_of_it[:, *whole.box.index[1:]]
        np.testing.assert_array_equal(found[:, : crop.shape[1], : crop.shape[2]], inside)
        assert found.sum(dtype=int) == all_of_it.sum(dtype=int)
    assert images[:, 0].any()
    assert images[:, :, 0].any()
    np.testing.assert_array_equal(crop.counts, whole.counts)
    with pytest.raises(ValueError, match="does not hold"):
        crop.read(0, 1, min(crop.shape[1:]))


def test_windows_of_crops_are_those_of_the_whole(cached):
    whole, crop = (views_of([cached], ("axial",), cropped) for cropped in (False, True))
    assert largest_square(crop) < largest_square(whole)
    drawn = [TrainingWindows(views, 2, "whole-tumor", 1, 0.25, 7).epoch(1) for views in (whole, crop)]
    assert drawn[0] == drawn[1]
    sample = ReadWindow(crop, 2, largest_square(crop))(drawn[1][0])
    assert tuple(sample["extent"]) == crop[0].shape[1:]
