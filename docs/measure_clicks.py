"""How long from a click to the mask on the screen? Prints the figures of docs/clicking.md.

In a Chromium without a graphics card (WebGL on the CPU), the generated scan and the model that comes with samjax: the
time from pressing the button until the server has answered, until the page has drawn, and until the pixels are there.
Run: python docs/measure_clicks.py; see page_in_browser.py for what it needs.
"""

import statistics
import time

from page_in_browser import click, edit, generated_scan, until

CLICKS = 60
PLACE = (24, 76, 98)  # slice, row, column
LAYOUTS = {"Shift+V": "axial slice alone", "v": "three planes and 3-D"}
ENCODED = "document.getElementById('progress').hidden"
MEASURED = """() => new Promise((done) => {
  const before = window.samjax.timings().at(-1)?.asked;
  const look = () => {
    const last = window.samjax.timings().at(-1);
    if (last && last.asked !== before && last.action === "click") {
      done([last.answered - last.asked, last.drawn - last.asked, window.samjax.finished() - last.asked]);
    } else {
      setTimeout(look);
    }
  };
  look();
})"""


def main() -> None:
    """Clicks and takes each click back, in both layouts."""
    with generated_scan() as page:
        until(page, ENCODED)
        click(page, PLACE)
        edit(page, "Control+z")
        for key, layout in LAYOUTS.items():
            page.keyboard.press(key)
            time.sleep(2)
            found = []
            for number in range(CLICKS):
                voxel = [PLACE[0], PLACE[1] + number % 7, PLACE[2] + number % 5]
                x, y = page.evaluate("(voxel) => window.samjax.pagePosition(voxel, 'axial')", voxel)
                page.evaluate(f"() => {{ window.measured = ({MEASURED})(); }}")
                page.mouse.click(x, y)
                found.append(page.evaluate("window.measured"))
                edit(page, "Control+z")
            for what, times in zip(("answered", "drawn", "in the canvas"), zip(*found, strict=True), strict=True):
                print(f"{layout}, {what}: {describe(times)}")


def describe(times: tuple[float, ...]) -> str:
    """Median and 95th percentile of milliseconds."""
    p95 = statistics.quantiles(times, n=20)[-1]
    return f"median {statistics.median(times):.0f} ms, p95 {p95:.0f} ms (n = {len(times)})"


if __name__ == "__main__":
    main()
