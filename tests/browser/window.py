"""A window of the browser with the page: what a person does and sees."""

import base64
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

PATIENCE = 60.0  # seconds for anything to happen


def until(happened: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Waits until something has happened, and returns what it gave."""
    deadline = time.monotonic() + patience
    while not (found := happened()):
        assert time.monotonic() < deadline, f"has not happened within {patience:g} s: {what}"
        time.sleep(0.03)
    return found


@dataclass
class Window:
    """`page` is Playwright's; `problems` are errors in its console, violations of the policy among them."""

    page: Any
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def open(self, address: str) -> None:
        """Opens the page and waits until it shows a case."""
        self.page.goto(address)
        self.wait()

    def ask(self, expression: str, argument: Any = None) -> Any:
        """What a JavaScript expression gives."""
        return self.page.evaluate(expression, argument)

    def wait(self) -> None:
        """Waits until the case is shown and no edit is on its way."""
        until(lambda: self.ask("Boolean(window.samjax?.idle())"), "the page is idle")

    def version(self) -> int:
        """The version of the case that is shown."""
        return self.ask("window.samjax.version()")

    def cursor(self) -> tuple[int, int, int]:
        """The crosshair's voxel."""
        return tuple(self.ask("window.samjax.cursor()"))

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        """The mask as the page has it."""
        text = self.ask(
            "() => { const m = window.samjax.mask(); let t = '';"
            " for (let i = 0; i < m.length; i += 8192) t += String.fromCharCode(...m.subarray(i, i + 8192));"
            " return btoa(t); }"
        )
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)

    def drawn(self) -> None:
        """Waits until what has changed is on the screen: a click is on the slice that is seen."""
        self.ask("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.ask("window.samjax.finished()")

    def place(self, voxel: Sequence[int], plane: str = "axial") -> tuple[float, float]:
        """Where a voxel is on the page."""
        self.drawn()
        found = self.ask("([v, p]) => window.samjax.pagePosition(v, p)", [list(map(int, voxel)), plane])
        assert found is not None, f"{plane} is not shown"
        return tuple(found)

    def edit(self, act: Callable[[], Any]) -> None:
        """Does something that edits the case, and waits for the answer."""
        before = self.version()
        act()
        until(lambda: self.version() != before, "the edit is answered")
        self.wait()

    def press(self, *keys: str) -> None:
        """Presses keys one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def go_to(self, voxel: Sequence[int]) -> None:
        """Moves the crosshair to a voxel by keys alone."""
        for axis, (further, back) in enumerate(
            (("PageUp", "PageDown"), ("ArrowDown", "ArrowUp"), ("ArrowRight", "ArrowLeft"))
        ):
            steps = int(voxel[axis]) - self.cursor()[axis]
            self.press(*[further if steps > 0 else back] * abs(steps))
        assert self.cursor() == tuple(map(int, voxel))

    def click(self, voxel: Sequence[int], plane: str = "axial") -> None:
        """Clicks on a voxel with the mouse; its axial slice is brought to the front before."""
        if plane == "axial":
            self.go_to((voxel[0], *self.cursor()[1:]))
        self.page.mouse.click(*self.place(voxel, plane))

    def drag(self, first: Sequence[int], last: Sequence[int]) -> None:
        """Drags the mouse from one voxel of a slice to another."""
        self.go_to((first[0], *self.cursor()[1:]))
        self.page.mouse.move(*self.place(first))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(last), steps=4)
        self.page.mouse.up()

    def text(self, selector: str) -> str:
        """An element's text."""
        return self.page.text_content(selector) or ""

    def note(self, part: str) -> None:
        """Waits for the line below the picture to say something."""
        until(lambda: part in self.text("#note"), f"the note says {part!r}, not {self.text('#note')!r}")

    def picture(self) -> np.ndarray:
        """What a person sees, (height, width, 3) uint8, once all is drawn."""
        self.drawn()
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))

    def coloured(self, slice_: int, shape: Sequence[int]) -> np.ndarray:
        """The voxels of the shown axial slice whose mask is seen, (rows, columns) bool; grey ones have none.

        Crosshair and prompts, which lie over it, are taken away.
        """
        self.page.eval_on_selector("#marks", "(e) => { e.style.visibility = 'hidden'; }")
        picture = self.picture().astype(int)
        self.page.eval_on_selector("#marks", "(e) => { e.style.visibility = ''; }")
        first, last = self.place((slice_, 0, 0)), self.place((slice_, shape[1] - 1, shape[2] - 1))
        xs = np.linspace(first[0], last[0], shape[2]).astype(int)
        ys = np.linspace(first[1], last[1], shape[1]).astype(int)
        return np.ptp(picture[np.ix_(ys, xs)], axis=-1) > 24
