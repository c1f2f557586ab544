"""The masks and prompts of a case, and the edits that led to them, which can be taken back."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from samjax.data.labels import COMPARTMENTS
from samjax.serve.prompts import Prompts

KEPT = 100
"""Number of edits that can be taken back."""
CODES = len(COMPARTMENTS) + 1
"""Number of canonical codes, background included."""
_FASTEST = 1


@dataclass(frozen=True)
class Edit:
    """What an action leaves: all prompts, and the new masks of the slices that it changes.

    `base` and `shown` are (n, rows, columns) uint8 canonical codes, a plane for each of `slices`; see `Segmentation`.
    """

    prompts: Prompts
    slices: tuple[int, ...]
    base: np.ndarray
    shown: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """The edit as values that JSON can hold; masks are compressed."""
        return {
            "points": self.prompts.points,
            "boxes": self.prompts.boxes,
            "slices": self.slices,
            "base": _packed(self.base),
            "shown": _packed(self.shown),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], shape: tuple[int, int, int]) -> "Edit":
        """The edit that `to_json` gave, of a volume of `shape`.

        Raises:
            KeyError, TypeError, ValueError, zlib.error: the values are not of an edit of such a volume.
        """
        points = tuple((*_place(point[:3], shape), _label(point[3:])) for point in values["points"])
        boxes = tuple((*_place(box[:3], shape), *_place(box[3:], shape)) for box in values["boxes"])
        prompts = Prompts(points, boxes)
        slices = tuple(values["slices"])
        if not all(type(z) is int and 0 <= z < shape[0] for z in slices):
            raise ValueError(f"slices {slices} of a volume of {shape[0]}")
        base, shown = (_unpacked(values[name], (len(slices), *shape[1:])) for name in ("base", "shown"))
        return cls(prompts, slices, base, shown)


class _Step(NamedTuple):
    """An edit, and the edit that takes it back, both packed."""

    after: bytes
    before: bytes
    slices: tuple[int, ...]
    prompts: tuple[Prompts, Prompts]


class Segmentation:
    """A case's masks.

    Attributes:
        base: (Z, rows, columns) uint8 canonical codes: the masks from which prompts start. Slices without prompts show
            it as it is; on slices with prompts it is what these correct.
        shown: the masks that a person sees, of the same shape.
        prompts: all prompts.
        version: grows with every change.
    """

    def __init__(self, shape: tuple[int, int, int]):
        self.base, self.shown = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        self.prompts, self.version = Prompts(), 0
        self._counts = np.zeros((shape[0], CODES), np.int64)
        self._counts[:, 0] = shape[1] * shape[2]
        self._steps: list[_Step] = []
        self._done = 0

    @property
    def can_undo(self) -> bool:
        return self._done > 0

    @property
    def can_redo(self) -> bool:
        return self._done < len(self._steps)

    @property
    def counts(self) -> np.ndarray:
        """The number of voxels of each canonical code, (4,) int64."""
        return self._counts.sum(axis=0)

    def apply(self, edit: Edit) -> tuple[int, ...]:
        """Makes an edit, after which nothing can be redone; returns the slices that it changes."""
        index = list(edit.slices)
        step = _Step(
            zlib.compress(np.stack([edit.base, edit.shown]).tobytes(), _FASTEST),
            zlib.compress(np.stack([self.base[index], self.shown[index]]).tobytes(), _FASTEST),
            edit.slices,
            (self.prompts, edit.prompts),
        )
        self._steps[self._done :] = [step]
        del self._steps[:-KEPT]
        self._done = len(self._steps)
        return self._put(edit.prompts, edit.slices, edit.base, edit.shown)

    def undo(self) -> tuple[int, ...]:
        """Takes back the newest edit; returns the slices that change. Raises IndexError if there is none."""
        if not self.can_undo:
            raise IndexError("nothing to undo")
        self._done -= 1
        step = self._steps[self._done]
        return self._put(step.prompts[0], step.slices, *self._planes(step.before, step.slices))

    def redo(self) -> tuple[int, ...]:
        """Makes the edit again that was taken back last. Raises IndexError if there is none."""
        if not self.can_redo:
            raise IndexError("nothing to redo")
        step = self._steps[self._done]
        self._done += 1
        return self._put(step.prompts[1], step.slices, *self._planes(step.after, step.slices))

    def as_edit(self) -> Edit:
        """The edit that leads from nothing to what is there."""
        slices = np.flatnonzero((self.base.any((1, 2))) | self.shown.any((1, 2)))
        return Edit(self.prompts, tuple(slices.tolist()), self.base[slices], self.shown[slices])

    def _planes(self, packed: bytes, slices: Sequence[int]) -> np.ndarray:
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(2, len(slices), *self.base.shape[1:])

    def _put(self, prompts: Prompts, slices: tuple[int, ...], base: np.ndarray, shown: np.ndarray) -> tuple[int, ...]:
        self.prompts = prompts
        for z, below, above in zip(slices, base, shown, strict=True):
            self.base[z], self.shown[z] = below, above
            self._counts[z] = np.bincount(above.ravel(), minlength=CODES)
        self.version += 1
        return slices


def _place(values: Sequence[int], shape: tuple[int, int, int]) -> tuple[int, int, int]:
    slice_, row, column = values
    if not all(type(x) is int and 0 <= x < side for x, side in zip((slice_, row, column), shape, strict=True)):
        raise ValueError(f"place {values} of a volume of {shape}")
    return slice_, row, column


def _label(values: Sequence[int]) -> int:
    (label,) = values
    if label not in (0, 1):
        raise ValueError(f"label {label} of a click")
    return int(label)


def _packed(planes: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(planes).tobytes(), _FASTEST)).decode("ascii")


def _unpacked(text: str, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(base64.b64decode(text, validate=True), size + 1)
    planes = np.frombuffer(data, np.uint8)
    if planes.size != size or (planes >= CODES).any():
        raise ValueError(f"masks that are not canonical codes of shape {shape}")
    return planes.reshape(shape)
