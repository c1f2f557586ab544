"""The rule for the slices of the scope `slice`."""

from dataclasses import dataclass

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.slices import decathlon_slices, enough_pixels


@dataclass(frozen=True)
class SliceRule:
    """Chooses slices with enough pixels of the ROI, or by paper A's rule for all its regions."""

    min_pixels: int = 1
    decathlon: bool = False

    def chosen(self, case: CachedCase, roi: str) -> np.ndarray:
        """The slices chosen, bool (Z,)."""
        return decathlon_slices(case.counts) if self.decathlon else enough_pixels(case.counts, roi, self.min_pixels)

    def __str__(self) -> str:
        if self.decathlon:
            return "slices where every region of paper A has 250 pixels"
        if self.min_pixels == 1:
            return "slices that show the ROI"
        return f"slices with at least {self.min_pixels} pixels of the ROI"
