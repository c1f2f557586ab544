"""Prepared cases whose slices end where the scan does, for models that see cropped slices."""

from dataclasses import dataclass

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.cache.planes import PlaneCase
from samjax.data.cases import Case
from samjax.data.imaging.volumes import Box


@dataclass(frozen=True)
class CroppedCase:
    """A case in one plane, whose rows and columns are those of the stored part; it has all its slices."""

    whole: CachedCase | PlaneCase

    @property
    def case(self) -> Case:
        return self.whole.case

    @property
    def title(self) -> str:
        """The case, for messages."""
        return self.whole.title

    @property
    def identity(self) -> int:
        """The case's identity, on which the random draws depend."""
        return self.whole.identity

    @property
    def present(self) -> np.ndarray:
        """Whether the case has each of `MODALITIES`, (4,) bool."""
        return self.whole.present

    @property
    def counts(self) -> np.ndarray:
        """Pixels of each canonical code in every slice, (Z, 4) int32; the background beyond the crop is counted too."""
        return self.whole.counts

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices of the volume, and rows and columns of the crop."""
        return self.whole.shape[0], *self.whole.box.shape[1:]

    @property
    def box(self) -> Box:
        """The stored part, in the crop."""
        (first, _, _), (last, _, _) = self.whole.box.start, self.whole.box.stop
        return Box((first, 0, 0), (last, *self.shape[1:]))

    def read(self, start: int, stop: int, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Cropped slices, padded to a side of `size` pixels on the right and at the bottom; see `CachedCase.read`."""
        rows, columns = self.shape[1:]
        more = (0, 0) if size is None else (size - rows, size - columns)
        if min(more) < 0:
            raise ValueError(f"size {size} does not hold slices of {(rows, columns)}")
        images, labels = (x[:, *self.whole.box.index[1:]] for x in self.whole.read(start, stop))
        padding = ((0, 0), (0, more[0]), (0, more[1]))
        return np.pad(images, (*padding, (0, 0))), np.pad(labels, padding)
