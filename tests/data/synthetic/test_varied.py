"""Varied patients of the phantom: that they differ as much as real ones, and that they are read as scans."""

import numpy as np
import pytest

from samjax.data.formats.layouts import find_cases
from samjax.data.synthetic.phantom import PhantomOptions, make_case, write_cohort

OPTIONS = PhantomOptions((80, 80, 24), (240.0, 240.0, 144.0))


@pytest.fixture(scope="module")
def cases():
    return [make_case("varied", 7, index, OPTIONS) for index in range(16)]


def over_white_matter(case, modality, where):
    image, t1 = case["images"][modality].astype(float), case["images"]["t1"]
    healthy = (t1 > 0) & (case["label"] == 0)
    return np.median(image[where]) / np.median(image[healthy & (t1 > np.quantile(t1[healthy], 0.7))])


def test_the_same_arguments_give_the_same_voxels(cases):
    again = make_case("varied", 7, 3, OPTIONS)
    assert all(np.array_equal(again["images"][m], cases[3]["images"][m]) for m in again["images"])
    assert np.array_equal(again["label"], cases[3]["label"])


def test_tumours_go_from_small_to_very_large(cases):
    millilitres = [np.count_nonzero(case["label"]) * np.prod(OPTIONS.spacing) / 1000 for case in cases]
    assert min(millilitres) < 40
    assert max(millilitres) > 120


def test_edema_is_faint_in_some_and_bright_in_others(cases):
    edema = [(case, case["label"] == 2) for case in cases]
    contrast = [over_white_matter(case, "flair", where) for case, where in edema if where.sum() > 50]
    assert len(contrast) > 12
    assert 0.95 < min(contrast) < 1.4
    assert max(contrast) > 1.7


def test_every_label_occurs_and_lies_in_the_brain(cases):
    assert {int(value) for case in cases for value in np.unique(case["label"])} == {0, 1, 2, 3}
    assert all((case["images"]["flair"][case["label"] > 0] > 0).all() for case in cases)


def test_a_cohort_is_read_as_labelled_scans(tmp_path):
    options = PhantomOptions((24, 24, 12), (240.0, 240.0, 144.0))
    assert options.spacing == (10.0, 10.0, 12.0)
    write_cohort(tmp_path / "many", "varied", 2, options=options)
    assert [case.id for case in find_cases(tmp_path / "many")] == ["BraTS-VAR-90000-000", "BraTS-VAR-90001-000"]
