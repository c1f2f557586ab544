"""Prepared cases as a run sees them: by their slices of one plane, whole or cropped."""

from collections.abc import Sequence

from samjax.data.cache.cases import CachedCase
from samjax.data.cache.cropped import CroppedCase
from samjax.data.cache.planes import PlaneCase
from samjax.data.imaging.planes import AXIAL

SlicedCase = CachedCase | PlaneCase | CroppedCase
"""A case by its slices of one plane."""


def views_of(cases: Sequence[CachedCase], planes: Sequence[str], cropped: bool) -> tuple[SlicedCase, ...]:
    """The cases in every plane, all in the first one, then all in the next; `cropped` to what the scans show."""
    views = [case if plane == AXIAL else PlaneCase(case, plane) for plane in planes for case in cases]
    return tuple(CroppedCase(view) if cropped else view for view in views)
