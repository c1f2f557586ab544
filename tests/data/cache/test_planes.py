"""Prepared cases in other planes than their own."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from samjax.data.cache.cases import open_case
from samjax.data.cache.views import views_of
from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.planes import PLANES
from samjax.data.samples import ReadWindow, TrainingWindows, largest_square
from tests.data.trees import example, save_brats


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    root = tmp_path_factory.mktemp("planes")
    save_brats(root / "data", "BraTS2021_00000", example(), orientation="RAS")
    return open_case(find_cases(root / "data", "adult")[0], root / "cache")


@pytest.mark.parametrize("hidden", [frozenset(), frozenset({"t2"})])
def test_a_plane_shows_the_voxels_of_the_volume(cached, hidden):
    cached = replace(cached, hidden=hidden)
    whole = cached.read(0, cached.shape[0])
    for view in views_of([cached], ("coronal", "sagittal"), False):
        images, labels = (PLANES[view.name].seen(array) for array in whole)
        assert view.shape == labels.shape
        found = view.read(-1, view.shape[0] + 2, 24)
        for got, expected in zip(found, (images, labels), strict=True):
            np.testing.assert_array_equal(got[1:-2, : view.shape[1], : view.shape[2]], expected)
            assert got.sum(dtype=int) == expected.sum(dtype=int)
        np.testing.assert_array_equal(view.counts, [[(one == code).sum() for code in range(4)] for one in labels])
        outside = np.ones(view.shape, bool)
        outside[view.box.index] = False
        assert not images[outside].any()
        assert images[view.box.index].any(axis=-1).any((1, 2)).all()


def test_every_case_comes_once_in_each_plane_with_draws_of_its_own(cached):
    views = views_of([cached, cached], tuple(PLANES), False)
    assert [view.title for view in views[::2]] == [
        "BraTS2021_00000", "BraTS2021_00000 (coronal)", "BraTS2021_00000 (sagittal)",
    ]  # fmt: skip
    assert len({view.identity for view in views[::2]}) == 3
    assert views[0] is cached
    assert largest_square([cached]) == largest_square(views) == 20

    windows = TrainingWindows(views, 2, "whole-tumor", 1, 0.25, 7)
    drawn = windows.epoch(1)
    assert {number for number, _ in drawn} == set(range(6))
    assert pickle.loads(pickle.dumps(windows)).epoch(1) == drawn
    assert drawn != windows.epoch(2)
    read = ReadWindow(views, 2, 20)
    samples = [read(window) for window in drawn]
    assert {tuple(sample["extent"].tolist()) for sample in samples} == {(20, 16), (9, 16), (9, 20)}
    assert all(sample["labels"].shape == (2, 20, 20) for sample in samples)
    assert np.mean([sample["labels"].any() for sample in samples]) > 0.6
