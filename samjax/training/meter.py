"""Fetches and logs the results of each step, and watches for steps that go wrong."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax

from samjax.errors import UserError
from samjax.training.metrics_log import MetricsLog
from samjax.training.progress import TrainingDisplay
from samjax.training.step import unreplicate

MOST_NONFINITE = 10
"""Number of steps in a row without a finite loss and gradient that ends the run."""
EVERYTHING = 0.99
"""Share of pixels above which a prediction counts as covering everything."""


class Dispatched(NamedTuple):
    """A step that was dispatched to the devices, and whose results are not fetched yet."""

    step: int
    epoch: int
    lr: float
    averaging: bool
    slices: int
    names: list[str]
    """Names of the step's samples."""
    metrics: dict[str, jax.Array]


class Meter:
    """Logs each step after the next one is dispatched, so that fetching its loss never keeps a device waiting."""

    def __init__(self, log: MetricsLog, display: TrainingDisplay, wait_seconds: Callable[[], float]):
        self._log, self._display, self._wait_seconds = log, display, wait_seconds
        self._pending: Dispatched | None = None
        self._nonfinite: list[list[str]] = []
        self._skipped = 0
        self._pixels = {"pred": 0, "true": 0, "pixels": 0}
        self.restart()

    def restart(self) -> None:
        """Restarts the clock after work that is not training."""
        self._wait_seconds()
        self._begin = time.perf_counter()

    def dispatched(self, step: Dispatched) -> None:
        """Records a step that was just dispatched and logs the one before.

        Raises:
            UserError: too many steps in a row had no finite loss or gradient.
        """
        self.flush()
        self._pending = step

    def flush(self) -> None:
        """Waits for the last dispatched step and logs it."""
        if self._pending is None:
            return
        done, self._pending = self._pending, None
        values = unreplicate(done.metrics)
        now = time.perf_counter()
        seconds, self._begin = now - self._begin, now
        loss, finite = float(values["loss"]), bool(values["finite"])
        self._log.write(
            "train", done.step, done.epoch, loss=loss, lr=done.lr, seconds=seconds,
            data_wait_seconds=self._wait_seconds(), slices=done.slices, counted=int(values["counted"]),
            grad_norm=float(values["grad_norm"]), finite=finite, averaging=done.averaging,
        )  # fmt: skip
        self._display.step(done.step, loss, done.lr, done.slices / seconds)
        for name in self._pixels:
            self._pixels[name] += int(values[name])
        self._watch(finite, done)

    def _watch(self, finite: bool, done: Dispatched) -> None:
        if finite:
            self._nonfinite.clear()
            return
        self._skipped += 1
        self._nonfinite.append(done.names)
        if len(self._nonfinite) >= MOST_NONFINITE:
            names = ", ".join(sorted({name for names in self._nonfinite for name in names}))
            raise UserError(
                f"step {done.step}: {MOST_NONFINITE} steps in a row had a loss or gradient that is not finite; their "
                f"samples were {names}; look at these, lower --lr or set --clip-norm"
            )

    def end_epoch(self, epoch: int) -> None:
        """Reports steps that were skipped and predictions that were empty or covered everything, if there were any."""
        if self._skipped:
            self._display.say(f"epoch {epoch + 1}: {self._skipped} steps skipped, loss or gradient not finite")
        predicted, true, pixels = (self._pixels[name] for name in ("pred", "true", "pixels"))
        if true and not predicted:
            self._display.say(
                f"ALARM: epoch {epoch + 1} predicted nothing in any slice; try another --lr, check --roi and "
                "--channels, or see whether the model learns one case at all (--overfit CASE)"
            )
        elif pixels and predicted > EVERYTHING * pixels:
            self._display.say(f"ALARM: epoch {epoch + 1} predicted everything everywhere; try a lower --lr")
        self._skipped = 0
        self._pixels = dict.fromkeys(self._pixels, 0)
