"""Everything without a mouse."""

import nibabel as nib
import numpy as np
import pytest

from tests.browser.conftest import GRID, NAMES
from tests.browser.expected import segmented

pytestmark = pytest.mark.browser

SHAPE = GRID.shape[::-1]


def test_a_case_is_segmented_and_saved_by_keys_alone(window, cases, tumour, server):
    slice_, row, column = tumour
    window.go_to(tumour)
    window.edit(lambda: window.press("Enter"))
    clicked = segmented(cases, points=[(*tumour, 1)])
    np.testing.assert_array_equal(window.mask(SHAPE), clicked)

    window.press("n")
    window.go_to((slice_, row, column + 4))
    window.edit(lambda: window.press("Space"))
    points = [(*tumour, 1), (slice_, row, column + 4, 0)]
    np.testing.assert_array_equal(window.mask(SHAPE), segmented(cases, points=points))
    window.edit(lambda: window.press("Control+z"))
    np.testing.assert_array_equal(window.mask(SHAPE), clicked)

    window.edit(lambda: window.press("t"))
    propagated = segmented(cases, points=[(*tumour, 1)], propagate=True)
    np.testing.assert_array_equal(window.mask(SHAPE), propagated)
    window.press("Control+s")
    path = server.output / f"{NAMES[0]}.nii.gz"
    window.note(str(path))
    saved = np.asarray(nib.load(path).dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(saved > 0, propagated > 0)
    window.press("p")


def test_a_box_by_its_two_corners(window, cases, tumour):
    slice_, row, column = tumour
    window.press("b")
    window.go_to((slice_, row + 8, column + 7))
    window.press("Enter")
    window.go_to((slice_, row - 6, column - 5))
    window.edit(lambda: window.press("Enter"))
    box = (slice_, row - 6, column - 5, slice_, row + 8, column + 7)
    np.testing.assert_array_equal(window.mask(SHAPE), segmented(cases, boxes=[box]))
    window.press("p")


def test_a_box_begun_is_dropped(window, tumour):
    window.press("b")
    window.go_to(tumour)
    version = window.version()
    window.press("Enter", "Escape", "p")
    window.edit(lambda: window.press("Enter"))
    assert window.version() == version + 1


def test_the_eraser(window, tumour):
    window.go_to(tumour)
    window.edit(lambda: window.press("Enter"))
    assert window.mask(SHAPE)[tumour]
    window.press("e", ",", ",")
    assert window.text("#radius-value") == "3 mm"
    window.edit(lambda: window.press("Enter"))
    assert not window.mask(SHAPE)[tumour]
    window.press(".", ".", "p")


def test_far_steps_and_ends(window):
    window.go_to((5, 40, 40))
    window.press("Shift+ArrowRight", "Shift+ArrowDown")
    assert window.cursor() == (5, 50, 50)
    window.press("Home")
    assert window.cursor()[0] == SHAPE[0] - 1
    window.press("PageUp")
    assert window.cursor()[0] == SHAPE[0] - 1
    window.press("End")
    assert window.cursor()[0] == 0


def test_keys_of_a_focused_control_are_its_own(window):
    window.page.focus("#opacity")
    before, version = window.cursor(), window.version()
    window.press("ArrowRight", "Home")
    assert window.cursor() == before
    assert window.text("#opacity-value") == "0 %"
    window.page.focus("[data-command=tool-box]")
    window.press("Enter")
    assert window.page.get_attribute("[data-command=tool-box]", "aria-pressed") == "true"
    assert window.version() == version
    window.page.focus("#opacity")
    window.press("End", "Escape", "p")
    assert window.ask("document.activeElement.id") == "viewer"
