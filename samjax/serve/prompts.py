"""The clicks and boxes of a case that is being segmented."""

from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[int, int, int, int]
"""A click: slice, row, column, and label 1 positive or 0 negative."""
Box = tuple[int, int, int, int, int, int]
"""The first and the last (slice, row, column), inclusive."""


@dataclass(frozen=True)
class Prompts:
    """Clicks and boxes, in the order in which they were given."""

    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()

    @property
    def slices(self) -> set[int]:
        """The slices that are prompted."""
        return {point[0] for point in self.points}.union(*(range(box[0], box[3] + 1) for box in self.boxes))

    def plus(self, points: Sequence[Point] = (), boxes: Sequence[Box] = ()) -> "Prompts":
        """These prompts and more."""
        return Prompts((*self.points, *points), (*self.boxes, *boxes))

    def on(self, slice_: int) -> "Prompts":
        """The prompts of one slice alone; of a box, what lies on it."""
        points = tuple(point for point in self.points if point[0] == slice_)
        spanning = (box for box in self.boxes if box[0] <= slice_ <= box[3])
        return Prompts(points, tuple((slice_, *box[1:3], slice_, *box[4:]) for box in spanning))

    def without(self, slice_: int) -> "Prompts":
        """All prompts but those of one slice; a box across it is cut in two."""
        boxes: list[Box] = []
        for box in self.boxes:
            parts = ((box[0], min(box[3], slice_ - 1)), (max(box[0], slice_ + 1), box[3]))
            within = box[0] <= slice_ <= box[3]
            boxes += [(a, *box[1:3], b, *box[4:]) for a, b in parts if a <= b] if within else [box]
        return Prompts(tuple(point for point in self.points if point[0] != slice_), tuple(boxes))
