"""What the page shows, and its size, focus and policy."""

import json
from itertools import pairwise
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest

from tests.browser.conftest import GRID, NAMES
from tests.browser.expected import segmented
from tests.browser.window import until

pytestmark = pytest.mark.browser

SHAPE = GRID.shape[::-1]


def test_it_fits_on_a_small_screen(window):
    for key in ("v", "Shift+V"):
        window.press(key)
        sizes = window.ask(
            "['html', 'body', 'nav', 'main', 'aside', 'header', 'footer'].map((name) => {"
            " const e = document.querySelector(name);"
            " return [name, e.scrollWidth - e.clientWidth, e.scrollHeight - e.clientHeight]; })"
        )
        assert [one for one in sizes if one[1] > 0 or one[2] > 0] == []


def test_modalities_change_in_place(window, tumour):
    window.go_to(tumour)
    pictures = []
    for key, name in zip("1234", ("T1", "T1-Gd", "T2", "FLAIR"), strict=True):
        window.press(key)
        until(lambda name=name: name in window.text("#value"), f"{name} is shown")
        pictures.append(window.picture()[100:600, 200:700].astype(int))
        assert window.cursor() == tumour
    differences = [abs(one - other).mean() for one, other in pairwise(pictures)]
    assert min(differences) > 3


def test_level_and_width_are_kept_for_each_modality(window):
    level = window.text("#level-value")
    bright = window.picture()[100:600, 200:700].mean()
    window.press("l", "l", "l")
    assert float(window.text("#level-value")) > float(level)
    assert window.picture()[100:600, 200:700].mean() < bright - 1
    raised = window.text("#level-value")
    window.press("2")
    until(lambda: "T1-Gd" in window.text("#value"), "T1-Gd is shown")
    assert window.text("#level-value") != raised
    window.press("4")
    assert window.text("#level-value") == raised
    window.press("w")
    assert window.text("#level-value") == level


def test_dragging_the_right_button_changes_level_and_width(window):
    level, width = (float(window.text(f"#{name}-value")) for name in ("level", "width"))
    x, y = window.place(window.cursor())
    window.page.mouse.move(x, y)
    window.page.mouse.down(button="right")
    window.page.mouse.move(x + 60, y - 60, steps=3)
    window.page.mouse.up(button="right")
    assert float(window.text("#level-value")) > level
    assert float(window.text("#width-value")) > width
    window.press("w")


def test_prompts_are_drawn_on_their_slice_alone(window, tumour):
    window.edit(lambda: window.click(tumour))
    window.press("o")  # without the mask

    def green() -> int:
        picture = window.picture().astype(int)[46:, 172:750]
        return int(((picture[..., 1] > 180) & (picture[..., 0] < 100)).sum())

    assert green() > 30
    window.press("PageUp")
    assert green() == 0
    window.press("PageDown", "o")
    assert green() > 30


def test_regions_are_hidden_and_shown(window, tumour):
    window.edit(lambda: window.press("a"))
    window.go_to(tumour)
    all_of_it = window.coloured(tumour[0], SHAPE).sum()
    window.press("Shift+Digit1")
    core = window.coloured(tumour[0], SHAPE).sum()
    window.page.uncheck("[data-region=tumor-core]")
    window.page.uncheck("[data-region=enhancing]")
    assert all_of_it > core > window.coloured(tumour[0], SHAPE).sum()
    for name in ("whole-tumor", "tumor-core", "enhancing"):
        window.page.check(f"[data-region={name}]")


def test_zoom_keeps_clicks_on_their_voxels(window, tumour):
    window.go_to(tumour)
    window.press("+", "+", "+")
    target = (tumour[0], tumour[1] + 2, tumour[2] - 3)
    window.edit(lambda: window.page.mouse.click(*window.place(target)))
    assert window.cursor() == target
    window.press("0")


def test_a_zoomed_picture_follows_the_crosshair(window, tumour):
    window.go_to(tumour)
    window.press(*"++++++")
    window.press(*["Shift+ArrowLeft"] * 5)
    left, top, width, height = window.ask(
        "(() => { const { left, top, width, height } = document.getElementById('viewer').getBoundingClientRect();"
        " return [left, top, width, height]; })()"
    )
    x, y = window.place(window.cursor())
    assert left < x < left + 2 / 3 * width
    assert top < y < top + height
    window.edit(lambda: window.page.mouse.click(*window.place((tumour[0], tumour[1], tumour[2] - 49))))
    assert window.cursor() == (tumour[0], tumour[1], tumour[2] - 49)
    window.press("0")


def test_prompts_that_the_model_does_not_know_are_explained(new_window, server):
    window = changed_state(new_window(), server, lambda state: state["model"].update(prompts=["point"]))
    for command, reason in (("tool-box", "was not trained with boxes"), ("automatic", "makes no proposal")):
        button = f"[data-command={command}]"
        assert window.page.get_attribute(button, "aria-disabled") == "true"
        assert f"glioma {reason}" in window.page.get_attribute(button, "title")
    version = window.version()
    window.press("a")
    window.note("glioma makes no proposal")
    assert window.version() == version
    assert window.page.get_attribute("[data-command=tool-positive]", "aria-disabled") == "false"


def test_names_from_the_server_are_text(new_window, server):
    name = "<img src=x onerror=alert(1)>"
    case = {"id": name, "state": "unusable", "message": name}

    def change(state):
        state["cases"].append(case)
        state["model"].update(warning=name, name=name)

    window = changed_state(new_window(), server, change)
    assert window.text("#cases li:last-child button") == 2 * name
    assert window.text("#model") == name
    assert name in window.text("#notices")
    assert window.ask("document.images.length") == 0
    assert window.problems == []


def changed_state(window, server, change):
    """Opens the page of a server that says something else of itself."""

    def answer(route):
        response = route.fetch()
        state = response.json()
        change(state)
        route.fulfill(response=response, json=state)

    window.page.route("**/api/state", answer)
    window.open(f"{server.address}/#{NAMES[0]}")
    return window


def test_the_wheel_goes_through_slices(window):
    slice_, row, column = window.cursor()
    window.page.mouse.move(*window.place((slice_, row, column)))
    window.page.mouse.wheel(0, -100)
    until(lambda: window.cursor()[0] > slice_, "a higher slice is shown")


def test_cases_are_changed_by_keys_and_the_broken_one_says_why(window):
    window.press("Shift+PageDown")
    until(lambda: NAMES[1] in window.text("[aria-current]"), "the second case is open")
    window.wait()
    window.press("Shift+PageDown")
    window.note("t2f")
    assert "unusable" in window.page.get_attribute("#cases li:nth-child(3)", "class")
    assert NAMES[1] in window.text("[aria-current]")
    window.problems[:] = [one for one in window.problems if "400 (Bad Request)" not in one]


def test_an_edit_while_another_case_is_opened_reaches_neither(window, tumour):
    held = []
    window.page.route(f"**/cases/{NAMES[1]}/open", lambda route: held.append(route))  # no method: it takes an attribute
    version = window.version()
    window.press("Shift+PageDown")
    until(lambda: held or window.page.wait_for_timeout(10), "the second case is asked for")
    window.click(tumour)
    window.note("a case is being opened: this edit was not made")
    assert window.version() == version
    held[0].continue_()
    until(lambda: NAMES[1] in window.text("[aria-current]"), "the second case is open")
    window.wait()
    window.press("Shift+PageUp")
    until(lambda: NAMES[0] in window.text("[aria-current]"), "the first case is open again")
    window.wait()
    assert window.version() == version


def test_the_models_warning_is_shown(window):
    assert "generated scans" in window.text("#notices")


def test_an_oblique_case_without_t2(new_window, server, cases):
    window = new_window()
    window.open(f"{server.address}/#{NAMES[1]}")
    assert "no T2" in window.text("#notices")
    assert window.page.get_attribute("[data-command=modality-t2]", "aria-disabled") == "true"
    mask = segmented(cases, NAMES[1])
    slice_ = int((mask > 0).sum(axis=(1, 2)).argmax())
    row, column = np.argwhere(mask[slice_])[len(np.argwhere(mask[slice_])) // 2]
    voxel = (slice_, int(row), int(column))
    window.edit(lambda: window.click(voxel))
    assert window.cursor() == voxel
    expected = segmented(cases, NAMES[1], points=[(*voxel, 1)])
    np.testing.assert_array_equal(window.mask(expected.shape), expected)
    np.testing.assert_array_equal(window.coloured(slice_, expected.shape), expected[slice_] > 0)
    for plane in ("coronal", "sagittal"):
        window.page.mouse.move(*window.place(voxel, plane))
        window.press("m")
        window.page.mouse.click(*window.place(voxel, plane))
        assert window.cursor() == voxel
    assert window.problems == []


def test_another_window_edits_the_same_case(window, new_window, server, tumour):
    other = new_window()
    other.open(f"{server.address}/#{NAMES[0]}")
    other.edit(lambda: other.click(tumour))
    until(lambda: window.version() == other.version(), "the first window shows the second one's edit")
    np.testing.assert_array_equal(window.mask(SHAPE), other.mask(SHAPE))
    assert other.problems == []


def test_an_edit_of_an_old_version_is_not_made(window, server, tumour):
    """The page is told by 409, not by the events, which are held back."""
    window.page.route("**/events", lambda route: route.abort())
    window.page.reload()
    window.wait()
    window.press("Shift+V")
    body = {"version": window.version(), "slice": tumour[0], "row": tumour[1], "column": tumour[2], "positive": True}
    request = Request(
        f"{server.address}/api/cases/{NAMES[0]}/click", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urlopen(request, timeout=60).close()
    window.press("Delete")
    window.note("another window")
    window.wait()
    assert window.version() == body["version"] + 1
    assert window.mask(SHAPE)[tumour]
    window.problems.clear()  # 409, and the events that were held back


def test_every_control_is_reached_by_tab_and_seen(window):
    expected = window.ask(
        "[...document.querySelectorAll('button, input, #viewer')].filter((e) => e.offsetParent).length"
    )
    window.ask("document.activeElement.blur()")
    reached = set()
    for _ in range(expected + 5):
        window.press("Tab")
        outline, label, key = window.ask(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e);"
            " return [s.outlineStyle + ' ' + s.outlineWidth,"
            " (e.ariaLabel || e.title || e.closest('label')?.textContent || '').trim(),"
            " [...document.querySelectorAll('*')].indexOf(e)]; })()"
        )
        if window.ask("document.activeElement === document.body"):
            continue
        reached.add(key)
        assert outline == "solid 2px"
        assert label
    assert len(reached) == expected


def test_the_help_lists_keys(window):
    window.press("?")
    assert window.page.is_visible("#help")
    for key in ("Ctrl + Z", "Page up", "Shift + 1", "Escape"):
        assert key in window.text("#help-keys")
    assert window.page.eval_on_selector("#help", "(e) => e.scrollHeight - e.clientHeight") == 0
    version = window.version()
    window.press("Delete")  # no key edits while the help is open
    window.press("Escape")
    until(lambda: not window.page.is_visible("#help"), "the help is closed")
    assert window.version() == version


def test_contrast_of_texts(window):
    """WCAG AA: 4.5 to 1, of every text that can be used."""
    window.edit(lambda: window.press("a"))
    assert window.ask(Path(__file__).with_name("contrast.js").read_text()) == []
