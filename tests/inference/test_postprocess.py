"""Cleaning of masks: the text of a rule, which components stay, holes in 3-D, and maps of several regions."""

import numpy as np
import pytest
from scipy import ndimage

from samjax.data.labels import EDEMA, ENHANCING, NON_ENHANCING, ROIS, roi_codes, roi_mask
from samjax.errors import UserError
from samjax.inference.postprocess import RAW, Postprocess, cleaned, components_of, holes_of

SPACING = (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("none", RAW),
        ("fill", Postprocess(fill=True)),
        ("fit", Postprocess(fit=True)),
        ("fit,share=0.2,fill", Postprocess(share=0.2, fill=True, fit=True)),
        ("min=500", Postprocess(min_mm3=500)),
        ("min=1234567.5,share=0.05,largest=2,fill", Postprocess(1234567.5, 0.05, 2, True)),
    ],
)
def test_a_rule_reads_back_as_it_is_written(text: str, rule: Postprocess):
    assert Postprocess.parse(text) == rule
    assert str(rule) == text


def test_parts_may_come_in_any_order_with_spaces():
    assert Postprocess.parse(" fill, largest=1 ,min=5e2") == Postprocess(500, 0, 1, True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a condition is empty"), ("auto", '"auto" is no condition'), ("min", "min needs a value"),
        ("min=", 'min cannot be ""'), ("min=-1", 'min cannot be "-1"'), ("min=0", 'min cannot be "0"'),
        ("min=nan", 'min cannot be "nan"'), ("min=inf", 'min cannot be "inf"'), ("share=0", 'share cannot be "0"'),
        ("share=1.5", 'share cannot be "1.5"'), ("largest=0", 'largest cannot be "0"'),
        ("largest=1.5", 'largest cannot be "1.5"'), ("largest=-1", 'largest cannot be "-1"'),
        ("fill=1", "fill takes no value"), ("fit=1", "fit takes no value"),
        ("fill,fill", "fill is given twice"), ("min=1,min=2", "min is given twice"),
        ("none,fill", "none stands alone"), ("keep=1", '"keep" is no condition'), ("fill,", "a condition is empty"),
    ],
)  # fmt: skip
def test_other_texts_are_refused_in_one_line_with_the_reason(text: str, why: str):
    with pytest.raises(UserError) as told:
        Postprocess.parse(text)
    assert str(told.value).startswith(f'--postprocess "{text}": {why}; expected auto, none, or any of')
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("rule", "stays"),
    [
        ("none", [1, 1, 1, 1]),
        ("min=50", [1, 1, 1, 0]),
        ("min=60", [1, 1, 0, 0]),
        ("share=0.1", [1, 1, 0, 0]),
        ("share=0.05", [1, 1, 1, 0]),
        ("largest=1", [0, 1, 0, 0]),
        ("largest=3", [1, 1, 1, 0]),
        ("largest=9", [1, 1, 1, 1]),
        ("min=60,largest=1", [0, 1, 0, 0]),
        ("min=5000", [0, 0, 0, 0]),
    ],
)
def test_what_stays_by_volume_and_rank(rule: str, stays: list[int]):
    assert Postprocess.parse(rule).stays([400, 1000, 50, 10]).tolist() == [bool(x) for x in stays]
    assert Postprocess.parse(rule).stays([]).size == 0


def test_of_equal_components_as_many_stay_as_are_asked_for():
    assert Postprocess(largest=2).stays([7, 7, 7]).sum() == 2


def foci() -> np.ndarray:
    """A tumour of 1000 voxels, a second focus of 125, and a speck of 2 that touches by corners."""
    mask = np.zeros((24, 26, 28), bool)
    mask[2:12, 2:12, 2:12] = True
    mask[14:19, 14:19, 14:19] = True
    mask[21, 22, 23] = mask[22, 23, 24] = True
    return mask


def test_components_of_the_second_focus_and_a_speck():
    parts = components_of(foci(), (2.0, 0.5, 1.0))
    assert parts.volumes.tolist() == [1000, 125, 2]
    assert components_of(foci(), (2.0, 1.0, 1.0)).volumes.tolist() == [2000, 250, 4]


def test_a_second_focus_stays_by_volume_where_rank_would_take_it():
    mask = foci()
    tidy = mask.copy()
    tidy[20:] = False
    np.testing.assert_array_equal(cleaned(mask, SPACING, Postprocess(min_mm3=100)), tidy)
    np.testing.assert_array_equal(cleaned(mask, SPACING, Postprocess(share=0.1)), tidy)
    np.testing.assert_array_equal(cleaned(mask, SPACING, Postprocess(largest=2)), tidy)
    assert cleaned(mask, SPACING, Postprocess(largest=1)).sum() == 1000
    np.testing.assert_array_equal(cleaned(mask, SPACING, RAW), mask)
    # The smallest volume is in mm3: thick slices make the same voxels more.
    assert cleaned(mask, (5.0, 1.0, 1.0), Postprocess(min_mm3=10)).sum() == mask.sum()
    assert cleaned(mask, SPACING, Postprocess(min_mm3=10)).sum() == mask.sum() - 2


def test_nothing_in_nothing_out():
    empty = np.zeros((3, 4, 5), bool)
    for rule in ("none", "min=5,fill", "share=0.5", "largest=1,fill"):
        for mask in (empty, empty.astype(np.uint8)):
            found = cleaned(mask, SPACING, Postprocess.parse(rule))
            assert (found.any(), found.dtype, found.shape) == (False, mask.dtype, mask.shape)
    assert not cleaned(foci(), SPACING, Postprocess(min_mm3=1e6)).any()


def test_the_mask_that_is_given_stays_as_it_is():
    mask = foci()
    cleaned(mask, SPACING, Postprocess(largest=1, fill=True))
    np.testing.assert_array_equal(mask, foci())


def test_holes_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for share in (0.3, 0.6, 0.8):
        mask = rng.random((9, 14, 11)) < share
        np.testing.assert_array_equal(mask | holes_of(mask), ndimage.binary_fill_holes(mask))
        np.testing.assert_array_equal(cleaned(mask, SPACING, Postprocess(fill=True)), ndimage.binary_fill_holes(mask))


def test_a_ring_in_one_slice_is_no_hole_in_three_dimensions():
    mask = np.zeros((5, 9, 9), bool)
    mask[2, 2:7, 2:7] = True
    mask[2, 4, 4] = False
    np.testing.assert_array_equal(cleaned(mask, SPACING, Postprocess(fill=True)), mask)
    mask[1:4, 3:6, 3:6] = True
    mask[2, 4, 4] = False
    assert cleaned(mask, SPACING, Postprocess(fill=True))[2, 4, 4]


def test_what_is_removed_inside_of_a_cavity_is_filled():
    mask = np.zeros((11, 11, 11), bool)
    mask[1:10, 1:10, 1:10] = True
    mask[3:8, 3:8, 3:8] = False
    mask[5, 5, 5] = True
    assert cleaned(mask, SPACING, Postprocess(min_mm3=5, fill=True)).sum() == 9**3


def nested() -> np.ndarray:
    """Edema with a hole around a ring of enhancing tumour with a hole, and a speck of the core far away."""
    codes = np.zeros((17, 17, 30), np.uint8)
    codes[2:15, 2:15, 2:15] = EDEMA
    codes[3, 3, 3] = 0
    codes[5:12, 5:12, 5:12] = ENHANCING
    codes[6:11, 6:11, 6:11] = NON_ENHANCING
    codes[8, 8, 8] = 0
    codes[8, 8, 25:27] = ENHANCING, NON_ENHANCING
    return codes


def test_a_map_of_regions_is_cleaned_by_the_whole_tumour():
    codes = nested()
    found = cleaned(codes, SPACING, Postprocess(min_mm3=10, fill=True))
    expected = codes.copy()
    expected[:, :, 25:27] = 0
    expected[3, 3, 3], expected[8, 8, 8] = EDEMA, NON_ENHANCING
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8
    raw, whole = cleaned(codes, SPACING, RAW), roi_mask(found, "whole-tumor")
    np.testing.assert_array_equal(raw, codes)
    np.testing.assert_array_equal(whole, cleaned(codes > 0, SPACING, Postprocess(min_mm3=10, fill=True)))


def test_no_region_is_filled_that_was_not_predicted():
    codes = nested()
    codes[codes == NON_ENHANCING] = ENHANCING
    found = cleaned(codes, SPACING, Postprocess(fill=True), ("whole-tumor", "enhancing"))
    assert (found[3, 3, 3], found[8, 8, 8]) == (EDEMA, EDEMA)


@pytest.mark.parametrize("roi", ROIS)
def test_one_region_as_codes_is_cleaned_as_its_mask_is(roi: str):
    mask = foci()
    mask[5, 5, 5] = False
    code = roi_codes(roi)[0]
    rule = Postprocess(share=0.1, fill=True)
    codes = cleaned(mask.astype(np.uint8) * np.uint8(code), SPACING, rule, (roi,))
    np.testing.assert_array_equal(codes, cleaned(mask, SPACING, rule) * np.uint8(code))
