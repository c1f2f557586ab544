import numpy as np
import pytest

from samjax.data.labels import (
    IGNORED,
    ROIS,
    SCHEMES,
    find_scheme,
    from_canonical,
    roi_mask,
    roi_value,
    scheme_text,
    to_canonical,
)
from samjax.errors import UserError

# The source values of each region, by scheme, as the collections document them.
REGIONS = {
    "brats2021": {"edema": {2}, "non-enhancing": {1}, "enhancing": {4}, "tumor-core": {1, 4}},
    "brats2023": {"edema": {2}, "non-enhancing": {1}, "enhancing": {3}, "tumor-core": {1, 3}},
    "ped2024": {"edema": {4}, "non-enhancing": {2, 3}, "enhancing": {1}, "tumor-core": {1, 2, 3}},
    "gli2024": {"edema": {2}, "non-enhancing": {1}, "enhancing": {3}, "tumor-core": {1, 3}},
    "msd": {"edema": {1}, "non-enhancing": {2}, "enhancing": {3}, "tumor-core": {2, 3}},
}
WHOLE = {
    "brats2021": {1, 2, 4},
    "brats2023": {1, 2, 3},
    "ped2024": {1, 2, 3, 4},
    "gli2024": {1, 2, 3},
    "msd": {1, 2, 3},
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("roi", ROIS)
def test_each_region_of_each_scheme_holds_the_documented_values(scheme, roi):
    values = np.array(sorted(SCHEMES[scheme].codes), np.uint8)
    inside = roi_mask(to_canonical(values, scheme, "x"), roi)
    assert set(values[inside].tolist()) == {**REGIONS[scheme], "whole-tumor": WHOLE[scheme]}[roi]


@pytest.mark.parametrize(
    ("scheme", "roi", "value"),
    [
        ("brats2021", "whole-tumor", 2),
        ("brats2021", "tumor-core", 1),
        ("brats2021", "enhancing", 4),
        ("brats2023", "enhancing", 3),
        ("ped2024", "whole-tumor", 4),
        ("ped2024", "tumor-core", 2),
        ("msd", "whole-tumor", 1),
        ("msd", "tumor-core", 2),
    ],
)
def test_a_region_is_written_with_its_outermost_compartment(scheme, roi, value):
    assert roi_value(scheme, roi) == value


@pytest.mark.parametrize("scheme", SCHEMES)
def test_canonical_codes_survive_writing_and_reading(scheme):
    codes = np.array([[0, 1], [2, 3]], np.uint8)
    written = from_canonical(codes, scheme)
    assert written.dtype == np.uint8
    np.testing.assert_array_equal(to_canonical(written, scheme, "x"), codes)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int64, np.float32, np.float64, ">i2"])
def test_labels_of_any_number_type(dtype):
    found = to_canonical(np.array([0, 1, 2, 4]).astype(dtype), "brats2021", "x")
    assert found.dtype == np.uint8
    assert found.tolist() == [0, 2, 1, 3]


def test_floats_that_only_just_miss_are_rounded():
    assert to_canonical(np.array([0.9999999, 4.0000002]), "brats2021", "x").tolist() == [2, 3]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([0, 3], "3"),
        ([0, -1], "-1"),
        ([0, 300], "300"),
        ([0, 255], "255"),
        ([0.0, 1.5], "1.5"),
        ([0.0, np.nan], "nan"),
    ],
)
def test_a_foreign_value_is_refused_with_file_and_value(values, named):
    with pytest.raises(UserError, match=rf"a/seg.nii.gz: label value {named} .*0, 1, 2, 4.*--labels") as caught:
        to_canonical(np.array(values), "brats2021", "a/seg.nii.gz")
    assert "\n" not in str(caught.value)


def test_a_scheme_can_be_spelled_out():
    scheme = "edema=7,non-enhancing=2/3,enhancing=1,other=9"
    assert to_canonical(np.array([0, 7, 2, 3, 1, 9]), scheme, "x").tolist() == [0, 1, 2, 2, 3, 0]
    assert roi_value(scheme, "tumor-core") == 2
    assert scheme_text(find_scheme(scheme).codes) == scheme


def test_values_may_be_ignored():
    scheme = "edema=1,non-enhancing=2,enhancing=3,ignore=4/9"
    codes = to_canonical(np.array([0, 1, 2, 3, 4, 9]), scheme, "x")
    assert codes.tolist() == [0, 1, 2, 3, IGNORED, IGNORED]
    assert not any(roi_mask(codes[4:], roi).any() for roi in ROIS)
    assert from_canonical(codes, scheme).tolist() == [0, 1, 2, 3, 4, 4]
    assert find_scheme(scheme).ignored == (4, 9)
    assert scheme_text(find_scheme(scheme).codes) == scheme


def test_known_schemes_keep_their_names():
    assert [scheme_text(scheme.codes) for scheme in SCHEMES.values()] == list(SCHEMES)


@pytest.mark.parametrize(
    "text",
    ["brats2022", "edema=1,enhancing=3", "edema=1,non-enhancing=1,enhancing=3", "edema=x", "", "edema=0,"],
)
def test_a_bad_scheme_names_the_flag(text):
    with pytest.raises(UserError, match=r"^--labels .*brats2021"):
        find_scheme(text)


def test_an_unknown_region_names_the_flag():
    with pytest.raises(UserError, match=r"--roi core: .*tumor-core"):
        roi_value("msd", "core")
