"""Makes docs/images/serve.png: the page of `samjax serve` with the generated scan that it shows without --input.

Run: python docs/make_serve_figure.py; see page_in_browser.py for what it needs.
"""

import io
import time
from pathlib import Path

from page_in_browser import click, edit, generated_scan
from PIL import Image

OUT = Path(__file__).with_name("images") / "serve.png"
CLICKS = (("p", (24, 76, 98)), ("n", (24, 54, 76)), ("p", (24, 88, 80)))
"""The tool's key and the voxel (slice, row, column) of each click, on the slice that is shown first."""
RENDERED = 15.0  # seconds until the 3-D render has followed


def main() -> None:
    """Clicks, propagates, and takes the picture."""
    with generated_scan() as page:
        for tool, voxel in CLICKS:
            page.keyboard.press(tool)
            click(page, voxel)
        edit(page, "t")
        time.sleep(RENDERED)
        Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(OUT, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
