"""What a person does to the segmentation of a case: prompts, corrections, propagation, and taking them back."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import jax
import numpy as np
from scipy import ndimage

from samjax.data.labels import roi_codes, roi_mask
from samjax.errors import UserError
from samjax.inference.fitting.predictions import postprocessed
from samjax.inference.postprocess import NONE, RAW
from samjax.inference.postprocess_choice import rule_for
from samjax.inference.prompts import Region, SlicePrompt, regions_of, require_content
from samjax.inference.propagation import Course
from samjax.serve.engine import Engine
from samjax.serve.journal import REDO, SAVED, UNDO, Journal
from samjax.serve.opened import OpenedCase
from samjax.serve.prompts import Point, Prompts
from samjax.serve.segmentation import CODES, Edit, Segmentation
from samjax.serve.strokes import near_stroke

Progress = Callable[[int, int], None]
"""Is told how many slices are done, and of how many; what it raises stops the action, which then changes nothing."""
PATIENCE = 60.0
"""Seconds that an action waits for another one of the same case."""


class Stale(Exception):
    """Somebody else has edited the case since."""


class Editor:
    """The segmentation of a case. Its actions return the slices that they change, and may be called from any thread.

    Masks of slices with prompts are the model's answer to these prompts, and to the mask below if there is one; they
    equal what `Predictor.segment` answers. What is erased, proposed or propagated becomes the mask below.

    Attributes:
        case: the case.
    """

    def __init__(self, engine: Engine, case: OpenedCase, journal: Journal | None = None):
        """
        Args:
            engine: the model.
            case: the case.
            journal: where every edit is written before it counts; None: nowhere.

        Raises:
            UserError: the journal cannot be used.
        """
        self.case, self._engine, self._journal = case, engine, journal
        self._lock = threading.RLock()
        self._changing = threading.RLock()
        self._stop, self._ended = threading.Event(), False
        self._found, self._saved = (Segmentation(case.shape), False) if journal is None else journal.replay(case.shape)

    @property
    def shown(self) -> np.ndarray:
        """The masks that a person sees, (Z, rows, columns) uint8 canonical codes."""
        return self._found.shown

    @property
    def prompts(self) -> Prompts:
        """All prompts."""
        return self._found.prompts

    @property
    def version(self) -> int:
        """A number that grows with every change."""
        return self._found.version

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return self._found.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to make again."""
        return self._found.can_redo

    @property
    def state(self) -> str:
        """`new`, `edited`, or `saved` since the last edit."""
        return "saved" if self._saved else "edited" if self.version else "new"

    @property
    def doubts(self) -> tuple[str, ...]:
        """Signs that something is not as it should be, a sentence each: of the scan, and of the autosave."""
        other = self._journal.other_model if self._journal else None
        if other is None:
            return self.case.doubts
        return (
            *self.case.doubts,
            f"the autosave was begun with the model {other}: masks that are there may be that model's; a slice with "
            "prompts gets this model's mask with the next prompt",
        )

    @property
    def volumes(self) -> dict[str, float]:
        """The volume of each of the model's regions in millilitres."""
        voxel, counts = float(np.prod(self.case.spacing)) / 1000, self._found.counts
        return {roi: float(counts[list(roi_codes(roi))].sum() * voxel) for roi in self.case.model.rois}

    def region(self, roi: str) -> np.ndarray:
        """One region of what is shown, (Z, rows, columns) bool."""
        return roi_mask(self.shown, roi)

    @contextmanager
    def exclusive(self, version: int | None = None) -> Iterator[None]:
        """Keeps other actions away.

        Args:
            version: the version on which the caller's next action is based.

        Raises:
            Stale: there is a newer version.
            UserError: another action has not ended within `PATIENCE` seconds.
        """
        if not self._lock.acquire(timeout=PATIENCE):
            raise UserError("another action of this case has not ended yet; wait for it or stop it")
        try:
            if version is not None and version != self.version:
                raise Stale
            yield
        finally:
            self._lock.release()

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Keeps masks, prompts and version as they are; unlike `exclusive`, it does not wait for what is computed."""
        with self._changing:
            yield

    def click(
        self, slice_: int, row: int, column: int, positive: bool = True, propagate: bool = False,
        progress: Progress | None = None,
    ) -> tuple[int, ...]:  # fmt: skip
        """Adds a click on a voxel; with `propagate`, its slice's mask is propagated up and down as well.

        Raises:
            UserError: the model was not trained with clicks, the voxel lies outside of the volume or on a slice without
                content, or the slice has negative clicks alone and no mask to correct.
        """
        return self.clicks([(slice_, row, column, int(positive))], propagate, progress)

    def clicks(
        self, points: Sequence[Point], propagate: bool = False, progress: Progress | None = None
    ) -> tuple[int, ...]:
        """Adds several clicks (slice, row, column, label) at once; otherwise like `click`."""
        self._engine.model.require("point")
        return self._prompt(Prompts(points=tuple(points)), propagate, progress)

    def box(
        self, first: Sequence[int], last: Sequence[int], propagate: bool = False, progress: Progress | None = None
    ) -> tuple[int, ...]:
        """Adds a box from the first to the last (slice, row, column), inclusive; otherwise like `click`."""
        self._engine.model.require("box")
        return self._prompt(Prompts(boxes=((*first, *last),)), propagate, progress)

    def erase(self, slice_: int, stroke: Sequence[Sequence[float]], radius: float) -> tuple[int, ...]:
        """Removes what is shown on a slice along a stroke; what stays there is a mask without prompts.

        Args:
            stroke: places (row, column) in pixels, joined by straight lines.
            radius: of the eraser, in mm.

        Raises:
            UserError: the slice or a place is outside of the volume, or the radius is not a positive number.
        """
        with self.exclusive():
            plane = self._plane(slice_)
            touched = near_stroke(plane.shape, self.case.spacing[1:], stroke, radius)
            return self._apply(self._painted(self.prompts.without(slice_), {slice_: np.where(touched, 0, plane)}))

    def clear(self, slice_: int | None = None) -> tuple[int, ...]:
        """Removes the masks and prompts of a slice, or of the whole case."""
        with self.exclusive():
            if slice_ is None:
                return self._apply(self._painted(Prompts(), dict.fromkeys(self._shown_slices(), np.uint8(0))))
            return self._apply(
                self._painted(self.prompts.without(slice_), {slice_: np.zeros_like(self._plane(slice_))})
            )

    def set_mask(self, codes: np.ndarray) -> tuple[int, ...]:
        """Takes a mask (Z, rows, columns) of canonical codes in place of everything, to be corrected by prompts.

        Raises:
            UserError: it is of another shape, or holds other values.
        """
        with self.exclusive():
            return self._apply(self._replaced(_checked(codes, self.case.shape)))

    def automatic(self, postprocess: str = "auto", progress: Progress | None = None) -> tuple[int, ...]:
        """Segments the whole case without prompts, in place of everything that is there.

        Args:
            postprocess: how the masks are cleaned: `auto` (what the run chose), `none` or a rule.

        Raises:
            UserError: the model needs prompts, or the rule is none.
        """
        model = self._engine.model
        model.require("none")
        rule, _ = rule_for(postprocess, NONE, self._engine.run)
        with self.exclusive(), self._stoppable(progress) as told:
            self._encode_all(told)
            with self._engine.foreground():
                found = self.case.volume.segment(logits=rule.fit)
            if rule != RAW:
                found = postprocessed(found, self.case.images, self.case.spacing, model, rule)
            told(self.case.shape[0], self.case.shape[0])
            return self._apply(self._replaced(self.case.codes(found.mask)))

    def propagate(
        self, slice_: int | None = None, directions: Sequence[int] = (1, -1), progress: Progress | None = None
    ) -> tuple[int, ...]:
        """Propagates masks to neighbouring slices: from one slice, or from every slice with prompts.

        It goes on until the mask has vanished or a slice with prompts is reached. A slice without prompts goes by its
        mask, which stays as it is. On the slices that it reaches it takes the place of what it touches; other lesions
        stay.

        Args:
            directions: 1 for higher slices, -1 for lower ones.

        Raises:
            UserError: there is nothing to propagate.
        """
        with self.exclusive():
            if slice_ is None and not self.prompts.slices:
                raise UserError("there are no prompts to propagate from; click or draw a box first")
            return self._propagate(self.prompts, slice_, directions, progress)

    def undo(self) -> tuple[int, ...]:
        """Takes back the newest edit. Raises a `UserError` if there is none."""
        with self.exclusive():
            if not self.can_undo:
                raise UserError("there is nothing to undo")
            return self._step(UNDO, self._found.undo)

    def redo(self) -> tuple[int, ...]:
        """Makes the edit again that was taken back last. Raises a `UserError` if there is none."""
        with self.exclusive():
            if not self.can_redo:
                raise UserError("there is nothing to redo")
            return self._step(REDO, self._found.redo)

    def stop(self, for_good: bool = False) -> None:
        """Stops a propagation or proposal that is running; it then changes nothing. `for_good`: and those that wait."""
        self._ended |= for_good
        self._stop.set()

    def mark_saved(self) -> None:
        """Says that what is shown has been written to a file."""
        if self._journal is not None:
            self._journal.note(SAVED)
        self._saved = True

    def _prompt(self, more: Prompts, propagate: bool, progress: Progress | None) -> tuple[int, ...]:
        regions = regions_of(more.boxes, _positive(more.points), self.case.shape)
        require_content(regions, self.case.images)
        with self.exclusive():
            prompts = self.prompts.plus(more.points, more.boxes)
            if propagate:
                return self._propagate(prompts, None, (1, -1), progress, frozenset(more.slices))
            return self._apply(self._edit(prompts, {}, self._answers(prompts, more.slices)))

    def _answers(self, prompts: Prompts, slices: set[int]) -> dict[int, np.ndarray]:
        """The model's answers to the prompts on some slices, by slice; to all prompts where slices are mixed."""
        if self.case.mixes_slices:
            regions = self._regions(prompts, roi_mask(self._found.base, self._engine.model.rois[0]))
        else:
            regions = []
            for z in sorted(slices):  # the mask below of no other slice is looked at
                below = roi_mask(self._found.base[z], self._engine.model.rois[0])
                regions += self._regions(prompts.on(z), np.broadcast_to(below, self.case.shape))
        with self._engine.foreground():
            return self.case.segmented_slices(regions)

    def _regions(self, prompts: Prompts, below: np.ndarray) -> list[Region]:
        """The prompts of slices, with the mask below (Z, rows, columns) where it shows anything."""
        regions = regions_of(prompts.boxes, prompts.points, self.case.shape, below)
        for kind in {kind for region in regions for prompt in region.values() for kind in prompt.kinds}:
            self._engine.model.require(kind)
        return regions

    def _propagate(
        self,
        prompts: Prompts,
        slice_: int | None,
        directions: Sequence[int],
        progress: Progress | None,
        starts: frozenset[int] | None = None,
    ) -> tuple[int, ...]:
        below = roi_mask(self._found.base, self._engine.model.rois[0])
        regions = self._regions(prompts, below)
        if slice_ is not None:
            starts = frozenset([slice_])
            if slice_ not in prompts.slices:
                regions = self._with_start(regions, slice_)
        with self._stoppable(progress) as told:
            seen: set[int] = set()

            def watch(found) -> None:
                seen.add(found.slice)
                told(min(len(seen), self.case.shape[0]), self.case.shape[0])
                self._engine.give_way()

            with self._engine.foreground():
                course = Course(starts, tuple(directions))
                found = self.case.volume.segment_regions(regions, True, course=course, watch=watch)
        codes, reached = self.case.codes(found.mask), set(np.flatnonzero(~np.isnan(found.iou)).tolist())
        base = {z: beside(self._found.base[z], codes[z]) for z in reached - prompts.slices if z != slice_}
        answered = {z: codes[z] for z in reached & prompts.slices}
        return self._apply(self._edit(prompts, base, answered))

    def _with_start(self, regions: list[Region], slice_: int) -> list[Region]:
        """The regions, of which the first also starts from the mask of a slice without prompts."""
        self._plane(slice_)
        mask = roi_mask(self.shown[slice_], self._engine.model.rois[0])
        if not mask.any():
            raise UserError(f"slice {slice_} (from 0, the lowest) has no mask to propagate; click or draw a box first")
        if "box" not in self._engine.model.prompts:
            self._engine.model.require("point")
        first = regions[0] if regions else {}
        return [{**first, slice_: SlicePrompt(slice_, mask=mask)}, *regions[1:]]

    def _encode_all(self, told: Progress) -> None:
        """Encodes every slice, a window at a time, so that others get their turn."""
        slices, start = self.case.shape[0], self.case.shape[0] // 2
        while True:
            with self._engine.foreground():
                encoded = self.case.encode_next(start)
            if encoded is None:
                return
            jax.block_until_ready(encoded)
            told(self.case.encoded_slices, slices + 1)

    @contextmanager
    def _stoppable(self, progress: Progress | None) -> Iterator[Progress]:
        """A progress that raises once `stop` was called."""
        if not self._ended:
            self._stop.clear()

        def told(done: int, total: int) -> None:
            if progress is not None:
                progress(done, total)
            if self._stop.is_set():
                raise UserError("stopped; nothing was changed")

        yield told

    def _plane(self, slice_: int) -> np.ndarray:
        if not 0 <= slice_ < self.case.shape[0]:
            raise UserError(f"slice {slice_}: the volume has {self.case.shape[0]} slices, counted from 0")
        return self.shown[slice_]

    def _shown_slices(self) -> list[int]:
        shown = self.shown.any(axis=(1, 2)) | self._found.base.any(axis=(1, 2))
        return np.flatnonzero(shown).tolist()

    def _painted(self, prompts: Prompts, planes: dict[int, np.ndarray]) -> Edit:
        """The edit that puts masks without prompts on slices."""
        return self._edit(prompts, planes, {})

    def _replaced(self, codes: np.ndarray) -> Edit:
        """The edit after which a mask is all there is."""
        changed = (codes != self.shown).any(axis=(1, 2)) | (codes != self._found.base).any(axis=(1, 2))
        return self._painted(Prompts(), {z: codes[z] for z in np.flatnonzero(changed).tolist()})

    def _edit(self, prompts: Prompts, base: dict[int, np.ndarray], answered: dict[int, np.ndarray]) -> Edit:
        """The edit that gives slices new masks below, which are shown, and prompted slices new answers."""
        slices = tuple(sorted(base.keys() | answered.keys()))
        below, shown = self._found.base[list(slices)], self._found.shown[list(slices)]
        for place, z in enumerate(slices):
            if z in base:
                below[place] = shown[place] = base[z]
            if z in answered:
                shown[place] = answered[z]
        return Edit(prompts, slices, below, shown)

    def _apply(self, edit: Edit) -> tuple[int, ...]:
        with self._changing:
            if self._journal is not None:
                self._journal.add(edit)
            self._saved = False
            return self._found.apply(edit)

    def _step(self, event: str, make: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
        """Takes a step through the history, which is noted first."""
        with self._changing:
            if self._journal is not None:
                self._journal.note(event)
            self._saved = False
            return make()


def beside(before: np.ndarray, new: np.ndarray) -> np.ndarray:
    """A slice's new mask with those components of the mask before that it does not touch; codes (rows, columns)."""
    components, _ = ndimage.label(before, np.ones((3, 3)))
    touched = np.unique(components[new > 0])
    return np.where((before > 0) & ~np.isin(components, touched), before, new)


def _positive(points: Sequence[Point]) -> list[Point]:
    """The same places as positive clicks, since a negative one may correct a mask that is there."""
    return [(*point[:3], 1) if len(point) == 4 and point[3] in (0, 1) else point for point in points]


def _checked(codes: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    if codes.shape != shape or codes.dtype.kind not in "biu" or not np.isin(codes, np.arange(CODES)).all():
        raise UserError(f"mask of {codes.dtype} {codes.shape}: expected canonical codes 0 to {CODES - 1} of {shape}")
    return codes.astype(np.uint8)
