"""What a prompt alone is worth, against masks drawn by hand, and what a threshold of FLAIR finds."""

import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from samjax.data.cases import Source
from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.volumes import read_scan
from samjax.evaluation.baselines import (
    DISK,
    ELLIPSE,
    FILLED_BOX,
    FLAIR,
    bright_in_flair,
    median_area,
    of_boxes,
    of_clicks,
    of_flair,
)
from samjax.metrics.overlap import dice
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


@pytest.fixture(scope="module")
def flair() -> np.ndarray:
    """A brain of about 100 in a background of 0; in it a bright ball with a dark centre, and a small bright ball."""
    z, y, x = np.indices((30, 40, 44))
    scan = np.random.default_rng(0).normal(100, 5, z.shape).clip(60, 140)

    def ball(*centre: int) -> np.ndarray:
        return np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)

    scan[ball(14, 18, 17) < 8] = 200
    scan[ball(14, 18, 17) < 3] = 40
    scan[ball(14, 30, 34) < 4] = 220
    scan[ball(14, 20, 22) > 16] = 0
    return np.rint(scan).astype(np.int16)


def test_the_flair_threshold_keeps_the_largest_bright_part_without_holes(flair: np.ndarray):
    found = bright_in_flair(flair)
    assert (found.dtype, found.shape) == (bool, flair.shape)
    assert found[14, 18, 17], "the dark centre is a hole"
    assert not found[14, 30, 34], "the second ball is smaller"
    z, y, x = np.indices(flair.shape)
    ball = np.sqrt((z - 14) ** 2 + (y - 18) ** 2 + (x - 17) ** 2) < 8
    assert dice(found, ball & (flair > 0)) > 0.9


def test_the_flair_threshold_is_the_published_rule_on_the_whole_scan(flair: np.ndarray):
    scan = np.pad(flair, 20)
    brain = scan > 0
    bright = brain & (ndimage.gaussian_filter(scan.astype(np.float32), 1.5) > 1.3 * np.median(scan[brain]))
    numbers, _ = ndimage.label(bright)
    largest = numbers == 1 + np.bincount(numbers.ravel())[1:].argmax()
    np.testing.assert_array_equal(bright_in_flair(scan), ndimage.binary_fill_holes(largest))


def test_the_flair_threshold_counts_from_the_background(flair: np.ndarray):
    expected = bright_in_flair(flair)
    np.testing.assert_array_equal(bright_in_flair(flair * 8), expected)
    np.testing.assert_array_equal(bright_in_flair(flair.astype(np.float32) - 1000), expected)


def test_z_scores_have_no_flair_threshold(flair: np.ndarray):
    brain = flair > 0
    scores = np.where(brain, (flair - flair[brain].mean()) / flair[brain].std(), 0)
    assert bright_in_flair(scores) is None
    assert bright_in_flair(np.zeros((4, 5, 6))) is None
    dark = np.where(brain, 100, 0)
    assert not bright_in_flair(dark).any()


def test_the_flair_threshold_is_of_the_file_as_it_is_stored(flair: np.ndarray, tmp_path: Path):
    made = made_case(np.zeros(flair.shape, np.uint8)).case
    path = tmp_path / "flair.nii.gz"
    affine = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # stored as slice, row, column
    nib.save(nib.Nifti1Image(flair, affine), path)
    case = replace(made, images={"flair": Source(path)})
    np.testing.assert_array_equal(of_flair(case)[FLAIR], bright_in_flair(flair))
    assert of_flair(replace(made, images={"t1": Source(path)})) == {}


@pytest.mark.skipif("SAMJAX_REAL_DATA" not in os.environ, reason="SAMJAX_REAL_DATA is not set")
def test_the_flair_threshold_has_its_known_dice_on_real_scans():
    known = {"Brats18_2013_3_1": 0.368, "Brats18_TCIA02_135_1": 0.922}
    cases = {case.id: case for case in find_cases(Path(os.environ["SAMJAX_REAL_DATA"]) / "brats18")}
    for name, expected in known.items():
        truth = read_scan(Source(cases[name].label), {}).array > 0
        assert dice(of_flair(cases[name])[FLAIR], truth) == pytest.approx(expected, abs=5e-4)
