"""The predictions of one volume one after the other, so that the last ones can be taken back."""

import zlib
from collections import deque
from typing import NamedTuple

import numpy as np

from samjax.inference.predictions import VolumePrediction

KEPT = 100
"""Number of predictions that are kept. A mask of 240 x 240 x 155 voxels takes some ten kilobytes here."""
_FASTEST = 1


class _Packed(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype
    mask: bytes
    iou: np.ndarray


class History:
    """The last `KEPT` predictions, compressed, the newest last; their rounds of prompts are not kept."""

    def __init__(self) -> None:
        self._kept: deque[_Packed] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, prediction: VolumePrediction) -> None:
        """Adds a prediction, and drops the oldest one if there are too many."""
        mask = prediction.mask
        packed = zlib.compress(np.ascontiguousarray(mask).data, _FASTEST)
        self._kept.append(_Packed(mask.shape, mask.dtype, packed, prediction.iou.copy()))

    def drop(self) -> None:
        """Drops the newest prediction. Raises IndexError if there is none."""
        self._kept.pop()

    @property
    def newest(self) -> VolumePrediction | None:
        """The newest prediction; None if there is none."""
        if not self._kept:
            return None
        found = self._kept[-1]
        mask = np.frombuffer(zlib.decompress(found.mask), found.dtype).reshape(found.shape).copy()
        return VolumePrediction(mask, found.iou.copy())
