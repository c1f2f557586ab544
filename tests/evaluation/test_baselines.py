"""What a prompt alone is worth: boxes, ellipses and disks against masks drawn by hand."""

import numpy as np
import pytest

from samjax.evaluation.baselines import DISK, ELLIPSE, FILLED_BOX, median_area, of_boxes, of_clicks
from tests.evaluation.cases import made_case, square


def drawn(*lines: str) -> np.ndarray:
    return np.array([[character == "#" for character in line] for line in lines])


def test_box_and_ellipse_by_hand():
    # An L that spans rows 1 to 4 and columns 1 to 5; pixel centres within the ellipse that touches its box.
    truth = np.zeros((3, 6, 7), bool)
    truth[1, 1:5, 1] = truth[1, 4, 1:6] = True
    masks = of_boxes(truth)
    assert masks.keys() == {FILLED_BOX, ELLIPSE}
    box = drawn(".......", ".#####.", ".#####.", ".#####.", ".#####.", ".......")
    ellipse = drawn(".......", "..###..", ".#####.", ".#####.", "..###..", ".......")
    np.testing.assert_array_equal(masks[FILLED_BOX][1], box)
    np.testing.assert_array_equal(masks[ELLIPSE][1], ellipse)
    for mask in masks.values():
        assert mask.dtype == bool
        assert not mask[[0, 2]].any()


def test_each_slice_has_its_own_box():
    truth = np.zeros((2, 9, 9), bool)
    truth[0, 2, 3] = truth[1, 5:8, 0:2] = True
    masks = of_boxes(truth)
    np.testing.assert_array_equal(masks[FILLED_BOX], truth)
    np.testing.assert_array_equal(masks[ELLIPSE][0], truth[0])


@pytest.mark.parametrize("size", [(40, 40), (31, 90), (120, 17)])
def test_an_ellipse_has_about_a_quarter_of_pi_of_its_box(size):
    truth = np.zeros((1, 130, 130), bool)
    truth[0, 4 : 4 + size[0], 7 : 7 + size[1]] = True
    ellipse = of_boxes(truth)[ELLIPSE][0]
    assert ellipse.sum() / (size[0] * size[1]) == pytest.approx(np.pi / 4, rel=0.02)
    # It touches all four sides of its box, and no corner of it.
    rows, columns = np.flatnonzero(ellipse.any(1)), np.flatnonzero(ellipse.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (4, 3 + size[0], 7, 6 + size[1])
    assert not ellipse[4, 7]


def test_a_disk_lies_at_the_click_and_only_where_there_is_roi():
    truth = np.zeros((2, 7, 9), bool)
    truth[0, 3, 5] = True
    click = np.float32([[5, 3], [2, 2]])  # (x, y): column 5, row 3
    disk = of_clicks(truth, click, area=np.pi * 2.1)[DISK]
    assert disk.dtype == bool
    expected = drawn(".........", ".........", "....###..", "....###..", "....###..", ".........", ".........")
    np.testing.assert_array_equal(disk[0], expected)
    assert not disk[1].any()


def test_a_disk_has_the_area_asked_for():
    truth = np.ones((1, 100, 100), bool)
    assert of_clicks(truth, np.float32([[50, 40]]), 1500.0)[DISK].sum() == pytest.approx(1500, rel=0.02)


def test_median_area_is_of_the_slices_that_show_the_roi():
    small = made_case(square((5, 20, 20), slice(1, 3), slice(0, 2), slice(0, 5)))  # two slices of 10 pixels
    large = made_case(square((5, 20, 20), slice(0, 1), slice(0, 6), slice(0, 5), code=3))  # one of 30
    assert median_area([small, large], "whole-tumor") == 10
    assert median_area([small, large], "enhancing") == 30
    assert median_area([small], "enhancing") == 0
