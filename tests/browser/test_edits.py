"""Prompts and corrections with the mouse: the mask appears on the right pixels and is the model's answer."""

import nibabel as nib
import numpy as np
import pytest

from tests.browser.conftest import GRID, NAMES
from tests.browser.expected import predicted, segmented
from tests.browser.window import until

pytestmark = pytest.mark.browser

SHAPE = GRID.shape[::-1]


def seen_as(window, mask, slice_):
    """Asserts that exactly the mask's voxels of the shown slice have a colour on the screen."""
    wrong = window.coloured(slice_, mask.shape) != (mask[slice_] > 0)
    assert not wrong.any(), f"{wrong.sum()} pixels have the wrong colour: {np.argwhere(wrong)[:5].tolist()}"


def test_a_click_gives_the_predictors_mask_on_its_pixels(window, cases, tumour):
    window.edit(lambda: window.click(tumour))
    mask = window.mask(SHAPE)
    np.testing.assert_array_equal(mask, segmented(cases, points=[(*tumour, 1)]))
    assert mask[tumour]
    assert (mask[tumour[0]] > 0).sum() > 50
    assert window.cursor() == tumour
    seen_as(window, mask, tumour[0])


def test_undo_and_redo(window, cases, tumour):
    slice_, row, column = tumour
    window.edit(lambda: window.click(tumour))
    once = window.mask(SHAPE)
    window.page.keyboard.down("Shift")
    window.edit(lambda: window.click((slice_, row, column + 4)))
    window.page.keyboard.up("Shift")
    twice = window.mask(SHAPE)
    points = [(*tumour, 1), (slice_, row, column + 4, 0)]
    np.testing.assert_array_equal(twice, segmented(cases, points=points))
    assert (once != twice).any()
    window.edit(lambda: window.press("Control+z"))
    np.testing.assert_array_equal(window.mask(SHAPE), once)
    seen_as(window, once, slice_)
    window.edit(lambda: window.page.click("[data-command=undo]"))
    assert not window.mask(SHAPE).any()
    seen_as(window, np.zeros(SHAPE, np.uint8), slice_)
    window.edit(lambda: window.press("Control+y"))
    window.edit(lambda: window.press("Control+Shift+Z"))
    np.testing.assert_array_equal(window.mask(SHAPE), twice)


def test_a_box(window, cases, truth, tumour):
    rows, columns = np.nonzero(truth[tumour[0]])
    first, last = (tumour[0], rows.min(), columns.min()), (tumour[0], rows.max(), columns.max())
    window.press("b")
    window.edit(lambda: window.drag(first, last))
    np.testing.assert_array_equal(window.mask(SHAPE), segmented(cases, boxes=[(*first, *last)]))
    seen_as(window, window.mask(SHAPE), tumour[0])


def test_a_click_in_another_plane_prompts_the_axial_slice(window, cases, tumour):
    window.go_to(tumour)
    slice_, row, column = tumour
    window.edit(lambda: window.click((slice_ + 1, row, column), "coronal"))
    assert window.cursor() == (slice_ + 1, row, column)
    np.testing.assert_array_equal(window.mask(SHAPE), segmented(cases, points=[(slice_ + 1, row, column, 1)]))


def test_propagated_and_saved_as_the_command_does(window, cases, tumour, tmp_path, server):
    window.edit(lambda: window.click(tumour))
    window.edit(lambda: window.press("t"))
    mask = window.mask(SHAPE)
    np.testing.assert_array_equal(mask, segmented(cases, points=[(*tumour, 1)], propagate=True))
    assert mask.any(axis=(1, 2)).sum() > 2
    window.press("Control+s")
    path = server.output / f"{NAMES[0]}.nii.gz"
    window.note(str(path))
    until(lambda: "saved" in window.text("#cases li"), "the case is listed as saved")
    saved, expected = nib.load(path), predicted(cases, tmp_path / "predicted", [(*tumour, 1)])
    np.testing.assert_array_equal(np.asarray(saved.dataobj), np.asarray(expected.dataobj))
    np.testing.assert_array_equal(saved.affine, expected.affine)
    assert saved.get_data_dtype() == expected.get_data_dtype()


def test_up_and_down(window, cases, tumour):
    window.edit(lambda: window.click(tumour))
    both = segmented(cases, points=[(*tumour, 1)], propagate=True)
    window.edit(lambda: window.press("u"))
    up = np.where(np.arange(SHAPE[0])[:, None, None] >= tumour[0], both, 0)
    np.testing.assert_array_equal(window.mask(SHAPE), up)
    window.edit(lambda: window.page.click("[data-command=propagate-down]"))
    np.testing.assert_array_equal(window.mask(SHAPE), both)


def test_an_automatic_proposal_is_corrected(window, cases, tumour):
    window.edit(lambda: window.press("a"))
    proposed = segmented(cases, postprocess="auto")
    np.testing.assert_array_equal(window.mask(SHAPE), proposed)
    volume = float(window.text("[data-volume=whole-tumor]").split()[0])
    assert volume == pytest.approx((proposed > 0).sum() * np.prod(GRID.spacing) / 1000, abs=0.051)
    window.press("n")
    window.edit(lambda: window.click(tumour))
    corrected = window.mask(SHAPE)
    expected = segmented(cases, points=[(*tumour, 0)], initial=proposed)
    np.testing.assert_array_equal(corrected, expected)
    assert (corrected != proposed).any()
    window.press("p")


def test_without_cleaning(window, cases):
    window.page.uncheck("#postprocess")
    window.edit(lambda: window.page.click("[data-command=automatic]"))
    np.testing.assert_array_equal(window.mask(SHAPE), segmented(cases))


def test_erased_along_a_stroke(window, tumour):
    slice_, row, column = tumour
    window.edit(lambda: window.click(tumour))
    before = window.mask(SHAPE)
    window.press("e")
    window.edit(lambda: window.drag((slice_, row, column - 4), (slice_, row, column + 4)))
    after = window.mask(SHAPE)
    assert not after[slice_, row, column - 4 : column + 5].any()
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    along = np.clip(x, column - 4, column + 4)
    erased = ((y - row) * 2) ** 2 + ((x - along) * 2) ** 2 <= 5**2
    np.testing.assert_array_equal(after, np.where(erased & (np.arange(SHAPE[0]) == slice_)[:, None, None], 0, before))


def test_cleared_slice(window, tumour):
    slice_, row, column = tumour
    window.edit(lambda: window.click(tumour))
    window.edit(lambda: window.click((slice_ + 1, row, column)))
    window.edit(lambda: window.press("Delete"))
    mask = window.mask(SHAPE)
    assert mask[slice_].any()
    assert not mask[slice_ + 1].any()


def test_a_click_beside_the_brain_is_explained_in_one_line(window):
    window.press("Home")
    version = window.version()
    window.page.mouse.click(*window.place((SHAPE[0] - 1, 48, 48)))
    window.note(f"slice {SHAPE[0] - 1}")
    assert "\n" not in window.text("#note")
    assert window.page.get_attribute("#note", "class") == "error"
    assert window.version() == version
    assert not window.mask(SHAPE).any()
    window.problems[:] = [one for one in window.problems if "400 (Bad Request)" not in one]


def test_what_runs_can_be_stopped(window):
    version = window.version()
    window.press("a", "Escape")
    window.wait()
    window.note("stopped")
    assert window.version() == version
    assert not window.mask(SHAPE).any()
    window.problems[:] = [one for one in window.problems if "400 (Bad Request)" not in one]
