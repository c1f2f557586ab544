"""What one client does: its image, its prompts and its mask, all on the axes of the array that it uploaded."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from samjax.errors import UserError
from samjax.metrics.boxes import bounding_box
from samjax.serve.editor import Editor
from samjax.serve.engine import Engine
from samjax.serve.nninteractive.placing import Placed
from samjax.serve.nninteractive.strokes import MOST_VOXELS, clicks_along
from samjax.serve.prompts import Point
from samjax.serve.segmentation import KEPT

PATIENCE = 45.0
"""Seconds after which a prediction is given up: clients wait for a minute, and then take the server for lost."""
MOST_WAITING = 100
"""Number of prompts that may wait for a prediction."""

Place = tuple[int, int, int]
Bounds = list[list[int]]
"""The first voxel along each axis and the one behind the last."""


class Answer(NamedTuple):
    """What a request has changed of the mask.

    Attributes:
        ran: whether anything was predicted or taken back.
        bounds: where the mask has changed, on the client's axes; None if nowhere.
        voxels: the mask there, uint8.
    """

    ran: bool
    bounds: Bounds | None = None
    voxels: np.ndarray | None = None


class _Prompt(NamedTuple):
    """Clicks, or a box from its first to its last (slice, row, column), and whether its masks are propagated."""

    points: tuple[Point, ...] = ()
    box: tuple[Place, Place] | None = None
    propagate: bool = True


class _Step(NamedTuple):
    """What is taken back at once: so many edits of the editor, before which `initial` was as here."""

    edits: int
    initial: frozenset[int]


class Session:
    """One client's segmentation of one image; the embeddings of the image are shared with others.

    A prompt is segmented on its slice and propagated from there, as one step that can be taken back. On a slice of the
    initial mask it corrects that slice alone. Prompts that wait for a prediction are made together when it comes, as
    one step too. Negative clicks on a slice without a mask have nothing to remove: they wait for one.

    Attributes:
        autozoom: whether masks are propagated; without it, a prompt changes its own slices alone.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic):
        """
        Args:
            engine: the model.
            clock: seconds that never go back.
        """
        self.autozoom = True
        self._engine, self._clock = engine, clock
        self._placed: Placed | None = None
        self._editor: Editor | None = None
        self._history: list[_Prompt | _Step] = []
        self._initial: frozenset[int] = frozenset()  # slices that show the initial mask
        self._sent: np.ndarray | None = None  # the mask that the client shows; None: not known

    @property
    def mask(self) -> np.ndarray:
        """The mask (x, y, z) uint8 on the client's axes. Raises a `UserError` if no image is set."""
        placed, editor = self._opened()
        return placed.array(editor.region(self._engine.model.rois[0])).astype(np.uint8, order="C")

    def set_image(self, placed: Placed) -> None:
        """Takes an image in place of the one before, of which nothing is kept."""
        self._placed = placed
        self.reset()
        self._engine.show(placed.case, placed.case.shape[0] // 2)

    def set_target_buffer(self, shape: Sequence[int]) -> None:
        """Says that the client shows an empty mask. Raises a `UserError` if it is not of the image's shape."""
        placed, _ = self._opened()
        if tuple(shape) != placed.shape:
            raise UserError(f"target buffer of shape {tuple(shape)}: expected that of the image, {placed.shape}")
        self._sent = np.zeros(placed.shape, np.uint8)

    def reset(self) -> None:
        """Removes all prompts, the mask, and what could be taken back; the client has emptied its mask."""
        if self._placed is None:  # clients also reset before their first image
            return
        self._editor = Editor(self._engine, self._placed.case)
        self._history, self._initial = [], frozenset()
        self._sent = np.zeros(self._placed.shape, np.uint8)

    def add_points(self, places: Sequence[Sequence[int]], positive: bool, run: bool) -> Answer:
        """Adds clicks, each (x, y, z) of the array.

        Args:
            run: whether to make it, and all that wait, now.

        Raises:
            UserError: no image is set, a place lies outside of it, or the model cannot answer the clicks.
        """
        placed, _ = self._opened()
        self._engine.model.require("point")
        for place in places:
            if not all(0 <= index < side for index, side in zip(place, placed.shape, strict=True)):
                raise UserError(f"point {list(place)}: lies outside of the image, {placed.shape}")
        return self._add(_Prompt(tuple((*placed.point(place), int(positive)) for place in places)), run)

    def add_box(self, bounds: Bounds, run: bool) -> Answer:
        """Adds a box of the array; what lies outside of the image is cut off.

        On one axial slice, or in 3-D, it is the model's box prompt on every slice that it spans. On a coronal or
        sagittal slice it says which slices show the object: each is clicked on the box's middle.

        Raises:
            UserError: no image is set, the box is empty or outside of it, or the model cannot answer it.
        """
        placed, _ = self._opened()
        kept = [(max(first, 0), min(stop, side)) for (first, stop), side in zip(bounds, placed.shape, strict=True)]
        if any(first >= stop for first, stop in kept):
            raise UserError(f"box {bounds}: expected the first voxel and the one behind the last of {placed.shape}")
        corners = placed.point([first for first, _ in kept]), placed.point([stop - 1 for _, stop in kept])
        first, last = (tuple(map(end, *corners)) for end in (min, max))
        if first[0] < last[0] and (first[1] == last[1] or first[2] == last[2]):
            self._engine.model.require("point")
            row, column = ((first[axis] + last[axis]) // 2 for axis in (1, 2))
            clicks = tuple((z, row, column, 1) for z in range(first[0], last[0] + 1))
            return self._add(_Prompt(clicks, propagate=False), run)
        self._engine.model.require("box")
        return self._add(_Prompt(box=(first, last), propagate=first[0] == last[0]), run)

    def add_scribble(self, drawn: np.ndarray, start: Sequence[int], positive: bool, run: bool) -> Answer:
        """Adds a scribble, as clicks along it.

        Args:
            drawn: (x, y, z), not 0 where the client has drawn.
            start: the voxel of the image where the array begins.

        Raises:
            UserError: nothing is drawn, or far too much for a line; otherwise as `add_points`.
        """
        voxels = np.count_nonzero(drawn)
        if not 0 < voxels <= MOST_VOXELS:
            raise UserError(f"scribble of {voxels} voxels: expected a line of 1 to {MOST_VOXELS} voxels")
        return self.add_points((clicks_along(np.argwhere(drawn)) + np.array(start)).tolist(), positive, run)

    def set_initial(self, mask: np.ndarray) -> Answer:
        """Takes a mask (x, y, z) in place of everything, to be corrected; the client shows it already.

        Raises:
            UserError: no image is set, the mask is of another shape or holds other values than 0 and 1, or the model
                was not trained to correct masks.
        """
        placed, editor = self._opened()
        self._sent = None  # the client shows the mask whatever comes of it here
        self._engine.model.require("mask")
        if mask.shape != placed.shape or not np.isin(mask, (0, 1)).all():
            raise UserError(
                f"initial segmentation of {mask.dtype} {mask.shape}: expected 0 and 1 of the image's {placed.shape}"
            )
        shown = placed.mask(mask != 0)
        editor.set_mask(placed.case.codes(shown))
        self._remember(1, waiting=())
        self._initial = frozenset(np.flatnonzero(shown.any(axis=(1, 2))).tolist())
        self._sent = (mask != 0).astype(np.uint8)
        return Answer(ran=False)

    def predict(self) -> Answer:
        """Makes the prompts that wait, in one step.

        Raises:
            UserError: no image is set, the model cannot answer them, or it takes too long; they then wait on.
        """
        _, editor = self._opened()
        waiting, version = [entry for entry in self._history if isinstance(entry, _Prompt)], editor.version
        try:
            held = self._make(waiting, self._clock() + PATIENCE)
        except Exception:
            for _ in range(editor.version - version):
                editor.undo()
            raise
        edits = editor.version - version
        if not edits:
            return Answer(ran=False)
        self._remember(edits, held)
        return self._changed()

    def undo(self) -> Answer:
        """Takes back the newest prompt that waits or step."""
        _, editor = self._opened()
        if not self._history:
            return Answer(ran=False)
        newest = self._history.pop()
        if isinstance(newest, _Step):
            self._initial = newest.initial
            for _ in range(newest.edits):
                editor.undo()
        return self._changed()

    def _opened(self) -> tuple[Placed, Editor]:
        if self._placed is None or self._editor is None:
            raise UserError("no image is set; send one first")
        return self._placed, self._editor

    def _add(self, prompt: _Prompt, run: bool) -> Answer:
        """Adds a prompt to those that wait and, with `run`, makes them all; one that fails is not kept."""
        if sum(isinstance(entry, _Prompt) for entry in self._history) == MOST_WAITING:
            raise UserError(f"{MOST_WAITING} prompts wait already; run the prediction")
        self._history.append(prompt)
        if not run:
            return Answer(ran=False)
        try:
            return self.predict()
        except Exception:
            self._history.pop()
            raise

    def _make(self, waiting: Sequence[_Prompt], deadline: float) -> list[_Prompt]:
        """Makes prompts: boxes, then clicks, of which those that are propagated are made at once.

        Returns:
            The prompts that still have to wait: negative clicks on slices where there is nothing to remove.
        """
        _, editor = self._opened()

        def told(done: int, total: int) -> None:
            if self._clock() > deadline:
                raise UserError(
                    f"the mask could not be propagated within {PATIENCE:g} s; switch auto-zoom off to segment slice by "
                    "slice, or try again: the slices that are encoded by now are kept"
                )

        for prompt in sorted(waiting, key=lambda prompt: prompt.box is None):
            if prompt.box is not None:
                editor.box(
                    *prompt.box, self.autozoom and prompt.propagate and prompt.box[0][0] not in self._initial, told
                )
            elif not prompt.propagate:
                editor.clicks(prompt.points, progress=told)
        clicks = [point for prompt in waiting if prompt.box is None and prompt.propagate for point in prompt.points]
        shown = editor.region(self._engine.model.rois[0]).any(axis=(1, 2))
        useful = {*np.flatnonzero(shown).tolist(), *editor.prompts.slices, *(z for z, *_, label in clicks if label)}
        corrections = [point for point in clicks if point[0] in self._initial]
        if corrections:
            editor.clicks(corrections, progress=told)
        starts = [point for point in clicks if point[0] in useful - self._initial]
        if starts:
            self._engine.show(editor.case, starts[-1][0])
            editor.clicks(starts, self.autozoom, told)
        held = tuple(point for point in clicks if point[0] not in useful | self._initial)
        return [_Prompt(held)] if held else []

    def _remember(self, edits: int, waiting: Sequence[_Prompt]) -> None:
        """Keeps a step of so many edits, as far as the editor can take them back, and the prompts that still wait."""
        steps = [entry for entry in self._history if isinstance(entry, _Step)]
        self._history = [*steps, *waiting, _Step(edits, self._initial)]
        while sum(entry.edits for entry in self._history if isinstance(entry, _Step)) > KEPT:
            self._history.remove(next(entry for entry in self._history if isinstance(entry, _Step)))

    def _changed(self) -> Answer:
        """Where the mask differs from what the client shows."""
        mask = self.mask
        where = bounding_box(np.ones_like(mask, bool) if self._sent is None else mask != self._sent)
        self._sent = mask
        if where is None:
            return Answer(ran=True)
        return Answer(True, [[side.start, side.stop] for side in where], mask[where])
