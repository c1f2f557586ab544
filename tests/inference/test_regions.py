"""Masks of several regions in one label map."""

import numpy as np
import pytest

from samjax.data.labels import EDEMA, ENHANCING, NON_ENHANCING, roi_mask
from samjax.errors import UserError
from samjax.inference.regions import region_codes, require_inner

WHOLE = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
CORE = np.array([0, 1, 1, 0, 1, 1, 0, 0], bool)
ENHANCED = np.array([0, 0, 1, 1, 0, 1, 1, 0], bool)
MASKS = {"enhancing": ENHANCED, "whole-tumor": WHOLE, "tumor-core": CORE}


def test_inner_regions_go_over_outer_ones_and_make_them_larger():
    codes = region_codes(MASKS)
    assert codes.dtype == np.uint8
    e, n, a = EDEMA, NON_ENHANCING, ENHANCING
    assert codes.tolist() == [e, n, a, a, n, a, a, 0]
    np.testing.assert_array_equal(roi_mask(codes, "whole-tumor"), WHOLE | CORE | ENHANCED)
    np.testing.assert_array_equal(roi_mask(codes, "tumor-core"), CORE | ENHANCED)
    np.testing.assert_array_equal(roi_mask(codes, "enhancing"), ENHANCED)


def test_nested_regions_are_clipped_to_all_that_enclose_them():
    codes = region_codes(MASKS, nested=True)
    assert codes.tolist() == [EDEMA, NON_ENHANCING, ENHANCING, EDEMA, 0, 0, 0, 0]
    np.testing.assert_array_equal(roi_mask(codes, "whole-tumor"), WHOLE)
    np.testing.assert_array_equal(roi_mask(codes, "tumor-core"), WHOLE & CORE)
    np.testing.assert_array_equal(roi_mask(codes, "enhancing"), WHOLE & CORE & ENHANCED)


def test_only_the_regions_that_are_there_enclose_others():
    two = {"whole-tumor": WHOLE, "enhancing": ENHANCED}
    np.testing.assert_array_equal(roi_mask(region_codes(two, nested=True), "enhancing"), WHOLE & ENHANCED)
    side = {"edema": CORE, "enhancing": ENHANCED}
    np.testing.assert_array_equal(region_codes(side, nested=True), region_codes(side))
    np.testing.assert_array_equal(region_codes({"tumor-core": CORE}) > 0, CORE)


def test_nesting_needs_a_region_inside_another():
    require_inner(["whole-tumor", "edema"])
    for rois in (["whole-tumor"], ["edema", "enhancing"], []):
        with pytest.raises(UserError, match="--nested: there are no regions of SAM of which one lies inside another"):
            require_inner(rois)
