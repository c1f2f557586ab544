"""The model of a server: one computation at a time, and people before what is encoded in the background."""

import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jax
import numpy as np

from samjax.data.cases import MODALITIES
from samjax.errors import UserError
from samjax.inference.model import SegmentationModel
from samjax.inference.prompts import SlicePrompt
from samjax.serve.opened import OpenedCase

_FAILURES = (UserError, RuntimeError, MemoryError)
"""What also comes to whoever clicks: the thread says it once, and rests."""
_LONGEST_REST = 2.0
"""Seconds for which the thread waits at most after a request, for another one that may follow: as long as a window
takes, since a click beside its encoding would be slower."""
_WARM_SIDE = 64
"""Side in pixels of the slices on which the programs are compiled; what is slow to compile does not depend on it."""


class Engine:
    """A model that one thread uses at a time, in the order in which they ask for it; and a thread of its own that
    encodes the slices that somebody is about to look at.

    Attributes:
        model: the model.
        run: the folder of its run; None for base weights.
    """

    def __init__(self, model: SegmentationModel, run: Path | None = None, warm: bool = False):
        """
        Args:
            warm: whether the thread first compiles the programs that clicks need.
        """
        self.model, self.run = model, run
        self._changed = threading.Condition()
        self._turns: deque[object] = deque()  # of who computes, and of those who wait for it
        self._people = 0
        self._window_seconds = 0.0  # of the newest window
        self._rested = 0.0  # the time from which on the thread goes on after somebody's request
        self._shown: tuple[weakref.ref[OpenedCase], int] | None = None
        self._closed = False
        steps = list(_warm_up(model)) if warm and not model.is_unet else []
        self._thread = threading.Thread(target=self._work, args=(steps,), name="samjax-encoder", daemon=True)
        self._thread.start()

    @contextmanager
    def foreground(self) -> Iterator[None]:
        """Holds the model for somebody who waits for an answer; the background stops after the window it is at."""
        with self._changed:
            self._people += 1
        try:
            with self._turn():
                yield
        finally:
            with self._changed:
                self._people -= 1
                self._rested = time.monotonic() + min(self._window_seconds, _LONGEST_REST)
                self._changed.notify_all()

    def give_way(self) -> None:
        """Lets those have their turn who have asked for the model since; for somebody who holds it for long."""
        with self._changed:
            if len(self._turns) > 1:
                mine = self._turns.popleft()
                self._wait_for_turn(mine)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._changed:
            self._wait_for_turn(object())
        try:
            yield
        finally:
            with self._changed:
                self._turns.popleft()
                self._changed.notify_all()

    def _wait_for_turn(self, mine: object) -> None:
        self._turns.append(mine)
        self._changed.notify_all()
        self._changed.wait_for(lambda: self._turns[0] is mine)

    def show(self, case: OpenedCase, slice_: int) -> None:
        """Says which slice somebody looks at: it is encoded first, then those around it; until nobody has the case."""
        with self._changed:
            self._shown = weakref.ref(case), slice_
            self._changed.notify_all()

    def forget(self, case: OpenedCase) -> None:
        """Stops encoding a case that is closed."""
        with self._changed:
            if self._shown is not None and self._shown[0]() is case:
                self._shown = None

    def close(self) -> None:
        """Ends the thread, and returns when nothing is computed any more: a process must not end in the midst of it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        with self._turn():
            pass

    def _work(self, steps: Sequence[Callable[[], object]]) -> None:
        """What the thread does: some steps, then encoding, a window at a time and while nobody waits."""
        for step in steps:
            if not self._has_turn(lambda: True):
                return
            try:
                with self._turn():
                    step()
            except _FAILURES as error:
                print(f"the first click may be slow: programs cannot be compiled before it ({error})", file=sys.stderr)
        while self._has_turn(self._has_work):
            self._encode_next()

    def _encode_next(self) -> None:
        case, slice_ = self._looked_at()
        if case is None:
            return
        try:
            begin = time.monotonic()
            with self._turn():
                encoded = case.encode_next(slice_)
            jax.block_until_ready(encoded)  # no more than one window is on its way, and whoever clicks goes before it
            self._window_seconds = time.monotonic() - begin
        except _FAILURES as error:
            print(f"{case.case.id if case.case else 'array'}: cannot be encoded ({error})", file=sys.stderr)
            self.forget(case)

    def _looked_at(self) -> tuple[OpenedCase | None, int]:
        case, slice_ = self._shown or (None, 0)
        return case and case(), slice_

    def _has_turn(self, ready: Callable[[], bool]) -> bool:
        """Waits until there is something to do and nobody else waits, or is about to; False when closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._closed or (not self._people and ready()))
                rest = self._rested - time.monotonic()
                if self._closed or rest <= 0:
                    return not self._closed
                self._changed.wait(rest)

    def _has_work(self) -> bool:
        case, slice_ = self._looked_at()
        return case is not None and not self.model.is_unet and case.next_missing(slice_) is not None


def _warm_up(model: SegmentationModel) -> Iterator[Callable[[], object]]:
    """Steps that compile the programs of the first clicks, the most usual first."""
    shape = (model.depth, _WARM_SIDE, _WARM_SIDE)
    images = np.full((*shape, len(MODALITIES)), 100, np.uint8)
    volume = OpenedCase.from_array(model, images, (1.0, 1.0, 1.0)).volume
    middle = _WARM_SIDE // 2
    mask = np.zeros(shape[1:], bool)
    mask[middle:, middle:] = True
    for clicks in (1, 2, 4, 8):
        for given in (None, mask) if "mask" in model.prompts else (None,):
            prompt = SlicePrompt(0, ((middle, middle, 1),) * clicks, mask=given)
            yield partial(volume.predict_slices, [prompt])
