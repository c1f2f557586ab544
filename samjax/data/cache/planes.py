"""Prepared cases seen in other planes than their own: views of the cached volume, nothing of which is stored again."""

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from samjax.data.cache.cases import CachedCase, read_slices
from samjax.data.cases import Case
from samjax.data.imaging.planes import PLANES, Plane
from samjax.data.imaging.volumes import Box, count_codes


@dataclass(frozen=True)
class PlaneCase:
    """A prepared case whose slices are those of a coronal or sagittal plane, read on demand."""

    cached: CachedCase
    name: str
    """The plane."""

    @property
    def plane(self) -> Plane:
        return PLANES[self.name]

    @property
    def case(self) -> Case:
        return self.cached.case

    @property
    def title(self) -> str:
        """The case and the plane, for messages."""
        return f"{self.case.id} ({self.name})"

    @property
    def identity(self) -> int:
        """A number below 2**31 on which the random draws depend: each plane of a case has its own."""
        return zlib.crc32(f"{self.case.domain}/{self.case.id}/{self.name}".encode()) >> 1

    @property
    def present(self) -> np.ndarray:
        """Whether the case has each of `MODALITIES`, (4,) bool."""
        return self.cached.present

    @property
    def shape(self) -> tuple[int, int, int]:
        """The whole volume's (slices, rows, columns) in this plane."""
        return self.plane.shape(self.cached.shape)

    @property
    def box(self) -> Box:
        """The part of the volume that is stored."""
        return Box(*self.plane.box(self.cached.box.start, self.cached.box.stop, self.cached.shape))

    @cached_property
    def counts(self) -> np.ndarray:
        """Pixels of each canonical code in every slice of this plane, (Z, 4) int32; read once from the label."""
        return count_codes(self.plane.seen(self.cached.labels), self.box, self.shape)

    def read(self, start: int, stop: int, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Whole slices of this plane, as of `CachedCase.read`."""
        images, labels = self.plane.seen(self.cached.images), self.plane.seen(self.cached.labels)
        present = self.present if self.cached.hidden else None
        return read_slices(images, labels, self.box, self.shape, present, start, stop, size)
