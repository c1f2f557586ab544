"""Prompts from a person or a file: the prompts of a volume become prompts of slices, which fill static slots."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from samjax.errors import UserError
from samjax.models.prompt_encoder import EMPTY


class SlicePrompt(NamedTuple):
    """The prompt of one slice, in pixels (x, y) = (column, row) whose whole numbers are pixel centres.

    `clicks` are (x, y, label), label 1 positive and 0 negative; `box` is (x0, y0, x1, y1), inclusive; `mask` is a mask
    (rows, columns) bool of the slice that is to be corrected. With none of them the slice is segmented prompt-free.
    """

    slice: int
    clicks: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of prompt that it holds; `none` if it holds nothing."""
        given = {"box": self.box is not None, "point": bool(self.clicks), "mask": self.mask is not None}
        return tuple(kind for kind, there in given.items() if there) or ("none",)


class Slots(NamedTuple):
    """The prompts of n slices: `points` (n, K, 2) float32 (x, y) in pixels of the slice, `labels` (n, K) int32, `boxes`
    (n, 4) float32, `has_box` (n,) bool."""

    points: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    has_box: np.ndarray


def click_slots(clicks: int) -> int:
    """Number of slots for a number of clicks: the next power of two, at least 1, so that few programs are compiled."""
    return 1 << (max(clicks, 1) - 1).bit_length()


def slots_of(prompts: Sequence[SlicePrompt]) -> Slots:
    """Lays prompts into slots, with as many slots for clicks as the prompt with the most clicks needs."""
    shape = len(prompts), click_slots(max(len(prompt.clicks) for prompt in prompts))
    points, labels = np.zeros((*shape, 2), np.float32), np.full(shape, EMPTY, np.int32)
    boxes, has_box = np.zeros((shape[0], 4), np.float32), np.zeros(shape[0], bool)
    for number, prompt in enumerate(prompts):
        for slot, (x, y, label) in enumerate(prompt.clicks):
            points[number, slot], labels[number, slot] = (x, y), label
        if prompt.box is not None:
            boxes[number], has_box[number] = prompt.box, True
    return Slots(points, labels, boxes, has_box)


Region = dict[int, SlicePrompt]
"""One object's prompts by slice."""


def regions_of(
    boxes: np.ndarray | Sequence,
    points: np.ndarray | Sequence,
    shape: tuple[int, int, int],
    initial: np.ndarray | None = None,
) -> list[Region]:
    """The slice prompts of a volume's prompts: for each box one on every slice it spans; for all clicks one per slice.

    Clicks on a slice that a box spans join the box's prompt there. Where several boxes span the slice, a click belongs
    to the box that it lies in.

    Args:
        boxes: (n, 6) whole numbers, the first and last (slice, row, column) of each, inclusive.
        points: (m, 4) whole numbers (slice, row, column, label), label 1 positive, 0 negative.
        shape: (slices, rows, columns) of the volume.
        initial: (slices, rows, columns) bool, a mask to correct: it joins every prompt of a slice that shows it.

    Returns:
        A region for each box and one for the clicks that are on no box's slice.

    Raises:
        UserError: a prompt has another length or lies outside of the volume, a box ends before it begins, a label
            is neither 0 nor 1, a slice has nothing but negative clicks, or it is unclear which box a click belongs to.
    """
    boxes, points = _whole(boxes, "box", 6), _whole(points, "point", 4)
    for box in boxes:
        if (box[:3] < 0).any() or (box[3:] >= shape).any() or (box[:3] > box[3:]).any():
            raise UserError(
                f"box {box.tolist()}: expected the first and last (slice, row, column), both in a volume of {shape}"
            )
    for point in points:
        if (point[:3] < 0).any() or (point[:3] >= shape).any() or point[3] not in (0, 1):
            raise UserError(
                f"point {point.tolist()}: expected (slice, row, column, label) in a volume of {shape}, label 0 or 1"
            )
    boxed: list[Region] = [
        {z: SlicePrompt(z, box=(x0, y0, x1, y1)) for z in range(first, last + 1)}
        for first, y0, x0, last, y1, x1 in boxes.tolist()
    ]
    clicks: Region = {}
    for z, y, x, label in points.tolist():
        region = _region_of_click(boxed, z, y, x) or clicks
        prompt = region.get(z, SlicePrompt(z))
        region[z] = prompt._replace(clicks=(*prompt.clicks, (x, y, label)))
    if initial is not None:
        boxed, clicks = [_with_mask(region, initial) for region in boxed], _with_mask(clicks, initial)
    for z, prompt in clicks.items():
        if prompt.mask is None and not any(label for *_, label in prompt.clicks):
            raise UserError(f"slice {z} (from 0, the lowest) has negative clicks only; add a positive one")
    return [*boxed, clicks] if clicks else boxed


def _region_of_click(boxed: Sequence[Region], z: int, y: int, x: int) -> Region | None:
    """The box's region that a click belongs to; None if no box spans its slice."""
    spanning = [region for region in boxed if z in region]
    if len(spanning) > 1:
        holding = [region for region in spanning if _holds(region[z].box, x, y)]
        if len(holding) != 1:
            where = "several boxes" if holding else "no box"
            raise UserError(
                f"click {(z, y, x)} (slice, row, column): {len(spanning)} boxes span its slice and {where} of these "
                "hold it, so that it is not clear which one it corrects; ask for one box at a time"
            )
        spanning = holding
    return spanning[0] if spanning else None


def _holds(box: tuple[float, float, float, float] | None, x: float, y: float) -> bool:
    return box is not None and box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _with_mask(region: Region, initial: np.ndarray) -> Region:
    """The region's prompts with the mask of their slices, where it is not empty."""
    return {z: prompt._replace(mask=initial[z]) if initial[z].any() else prompt for z, prompt in region.items()}


def require_content(regions: Sequence[Region], images: np.ndarray) -> None:
    """Refuses prompts of slices that are background alone, where any mask would be of nothing.

    A box may reach beyond the head as long as one of its slices shows it.

    Args:
        regions: the prompts.
        images: (slices, rows, columns, C) uint8, background 0.

    Raises:
        UserError: a click is on such a slice, or a box is on none but such slices.
    """
    for region in regions:
        empty = [z for z in region if not images[z].any()]
        if clicked := [z for z in empty if region[z].clicks]:
            raise UserError(f"slice {clicked[0]} (from 0, the lowest) is background alone; click where the scan shows")
        if empty and len(empty) == len(region):
            raise UserError(
                f"slices {min(empty)} to {max(empty)} (from 0, the lowest) are background alone; draw the box where "
                "the scan shows"
            )


def _whole(values: np.ndarray | Sequence, what: str, length: int) -> np.ndarray:
    """The values as an int array (n, length); n may be 0."""
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros((0, length), int)
    if array.dtype.kind not in "biuf" or array.ndim != 2 or array.shape[1] != length:
        raise UserError(f"{what} prompts of shape {array.shape}: expected {length} whole numbers for each")
    for row in array[~np.isfinite(array).all(axis=1) | (array != np.rint(array)).any(axis=1)]:
        raise UserError(f"{what} {row.tolist()}: expected {length} whole numbers")
    return array.astype(int)
