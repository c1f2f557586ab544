"""The model of a server: one computation at a time, and people before what is encoded in the background."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from samjax.data.cases import MODALITIES
from samjax.errors import UserError
from samjax.inference.model import SegmentationModel
from samjax.inference.prompts import SlicePrompt
from samjax.serve.opened import OpenedCase

_WARM_SIDE = 64
"""Side in pixels of the slices on which the programs are compiled; what is slow to compile does not depend on it."""


class Engine:
    """A model, a lock around it, and a thread that encodes the slices that somebody is about to look at.

    Attributes:
        model: the model.
        run: the folder of its run; None for base weights.
    """

    def __init__(self, model: SegmentationModel, run: Path | None = None):
        self.model, self.run = model, run
        self._computing = threading.Lock()
        self._changed = threading.Condition()
        self._people = 0
        self._shown: tuple[OpenedCase, int] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._encode_in_background, name="samjax-encoder", daemon=True)
        self._thread.start()

    @contextmanager
    def foreground(self) -> Iterator[None]:
        """Holds the model for somebody who waits for an answer; the background stops after the window it is at."""
        with self._changed:
            self._people += 1
        try:
            with self._computing:
                yield
        finally:
            with self._changed:
                self._people -= 1
                self._changed.notify_all()

    def show(self, case: OpenedCase, slice_: int) -> None:
        """Says which slice somebody looks at: it is encoded first, then those around it."""
        with self._changed:
            self._shown = case, slice_
            self._changed.notify_all()

    def forget(self, case: OpenedCase) -> None:
        """Stops encoding a case that is closed."""
        with self._changed:
            if self._shown is not None and self._shown[0] is case:
                self._shown = None

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def warm_up(self) -> None:
        """Compiles the programs that the first clicks need, the most usual first."""
        shape = (self.model.depth, _WARM_SIDE, _WARM_SIDE)
        images = np.full((*shape, len(MODALITIES)), 100, np.uint8)
        if self.model.is_unet:
            return
        case = OpenedCase.from_array(self.model, images, (1.0, 1.0, 1.0))
        mask = np.zeros(shape[1:], bool)
        mask[20:40, 20:40] = True
        for clicks in (1, 2, 4, 8):
            click = (32, 32, 1)
            for given in (None, mask) if "mask" in self.model.prompts else (None,):
                with self.foreground():
                    case.volume.predict_slices([SlicePrompt(0, (click,) * clicks, mask=given)])

    def _encode_in_background(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or (not self._people and self._has_work()))
                if self._closed:
                    return
                case, slice_ = self._shown
            try:
                with self._computing:
                    case.encode_next(slice_)
            except (UserError, RuntimeError) as error:  # the same comes to whoever clicks; say it once, and rest
                print(f"{case.case.id if case.case else 'array'}: cannot be encoded ({error})", file=sys.stderr)
                self.forget(case)

    def _has_work(self) -> bool:
        return (
            self._shown is not None
            and not self.model.is_unet
            and self._shown[0].next_missing(self._shown[1]) is not None
        )
