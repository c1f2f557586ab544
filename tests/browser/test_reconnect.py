"""A server that is killed and comes back: nothing is lost."""

import numpy as np
import pytest

from tests.browser.conftest import GRID, NAMES
from tests.browser.expected import segmented
from tests.browser.window import until

pytestmark = pytest.mark.browser

SHAPE = GRID.shape[::-1]


@pytest.fixture
def window(new_window, server):
    """The page with the first case, cleared; its console may say that the server is gone."""
    window = new_window()
    window.open(f"{server.address}/#{NAMES[0]}")
    window.edit(lambda: window.press("Shift+Delete"))
    yield window
    assert [one for one in window.problems if "ERR_" not in one and "/events" not in one] == []


def test_killed_between_two_edits(window, server, tumour, cases):
    slice_, row, column = tumour
    window.edit(lambda: window.click(tumour))
    mask, version = window.mask(SHAPE), window.version()
    server.kill()
    until(lambda: window.page.is_visible("#banner"), "the banner is shown")
    window.press("Delete")
    window.note("the server is gone")
    assert window.page.get_attribute("[data-command=automatic]", "aria-disabled") == "true"
    server.start()
    until(lambda: not window.page.is_visible("#banner"), "the page has found the server again")
    window.wait()
    assert window.version() == version
    np.testing.assert_array_equal(window.mask(SHAPE), mask)
    assert window.cursor() == tumour

    window.page.keyboard.down("Shift")
    window.edit(lambda: window.click((slice_, row, column + 4)))
    window.page.keyboard.up("Shift")
    points = [(*tumour, 1), (slice_, row, column + 4, 0)]
    np.testing.assert_array_equal(window.mask(SHAPE), segmented(cases, points=points))
    window.edit(lambda: window.press("Control+z"))
    window.edit(lambda: window.press("Control+z"))
    assert not window.mask(SHAPE).any()
    window.edit(lambda: window.press("Control+y"))
    np.testing.assert_array_equal(window.mask(SHAPE), mask)


def test_an_edit_that_was_on_its_way_is_made_after_all(window, server, tumour, cases):
    window.go_to(tumour)
    version = window.version()
    server.freeze()
    window.press("Enter")
    assert window.version() == version
    server.kill()
    until(lambda: window.page.is_visible("#banner"), "the banner is shown")
    server.start()
    until(lambda: window.version() == version + 1, "the click has been sent again")
    np.testing.assert_array_equal(window.mask(SHAPE), segmented(cases, points=[(*tumour, 1)]))


def test_reloaded_page_shows_what_was_there(window, server, tumour):
    window.edit(lambda: window.click(tumour))
    mask = window.mask(SHAPE)
    server.kill()
    server.start()
    window.page.reload()
    window.wait()
    np.testing.assert_array_equal(window.mask(SHAPE), mask)
    assert window.cursor() == tumour
