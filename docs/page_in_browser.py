"""The page of `samjax serve` in a Chromium, for the scripts here that show or measure it.

Needs the packages of the extras `serve` and `browser`, and a Chromium (CHROMIUM may name it).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

SIZE = {"width": 1280, "height": 720}
FLAGS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
PATIENCE = 120.0  # seconds for anything to happen


@contextmanager
def generated_scan() -> Iterator[Page]:
    """The page with the scan that `samjax serve` shows without --input; nothing is edited yet."""
    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with serving() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        page = browser.new_page(viewport=SIZE)
        page.goto(address)
        until(page, "Boolean(window.samjax?.idle())")
        yield page
        browser.close()


@contextmanager
def serving() -> Iterator[str]:
    """A server; gives its address."""
    command = [sys.executable, "-m", "samjax", "serve", "--no-browser", "--port", "0", "--output", "segmentations"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        yield next(word for line in process.stdout for word in line.split() if word.startswith("http://"))
        process.terminate()


def click(page: Page, voxel: Sequence[int]) -> None:
    """Clicks on a voxel of the axial slice that is shown, and waits for the answer."""
    x, y = page.evaluate("(voxel) => window.samjax.pagePosition(voxel, 'axial')", list(voxel))
    version = page.evaluate("window.samjax.version()")
    page.mouse.click(x, y)
    until(page, f"window.samjax.version() > {version} && window.samjax.idle()")


def edit(page: Page, key: str) -> None:
    """Presses the key of an edit, and waits for the answer."""
    version = page.evaluate("window.samjax.version()")
    page.keyboard.press(key)
    until(page, f"window.samjax.version() > {version} && window.samjax.idle()")


def until(page: Page, expression: str) -> None:
    """Waits until a JavaScript expression is true."""
    end = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        if time.monotonic() > end:
            raise SystemExit(f"not within {PATIENCE:g} s: {expression}")
        time.sleep(0.05)
