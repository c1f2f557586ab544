"""Cleans predicted masks in 3-D: components that are too small are removed, and holes are filled.

Before that a rule may have the prediction fitted to its scan, see `fitting`, which needs more than the mask.

Components are of 26 neighbours: voxels that share a face, an edge or a corner belong together. A hole is background
that faces of background voxels do not connect to the edge of the volume.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samjax.data.labels import BACKGROUND, NON_ENHANCING, ROIS, roi_codes, roi_mask
from samjax.errors import UserError
from samjax.metrics.boxes import bounding_box

NONE = "none"
CORE = "tumor-core"
AUTO = "auto"
"""The text that stands for a run's own choice of a rule, where a command knows one."""


@dataclass(frozen=True)
class Postprocess:
    """A rule for the components of a mask; a component stays if all conditions hold. Without any, nothing changes."""

    min_mm3: float = 0.0
    """The smallest volume in mm3 that stays, also for the largest component."""
    share: float = 0.0
    """The smallest volume that stays, as a share of the largest component's."""
    largest: int | None = None
    """The number of components that may stay, the largest ones; None: any number."""
    fill: bool = False
    """Whether holes are filled afterwards."""
    fit: bool = False
    """Whether the probabilities are fitted to the intensities of the scan first."""

    @classmethod
    def parse(cls, text: str, option: str = "--postprocess") -> "Postprocess":
        """Undoes `str`. Raises a `UserError` that begins with `option`, and says which part of the text is wrong."""
        given: dict[str, Any] = {}
        if text.strip() == NONE:
            return cls()
        for part in (part.strip() for part in text.split(",")):
            name, equals, value = part.partition("=")
            if fault := _fault(name, equals, value, given):
                raise UserError(f'{option} "{text}": {fault}; {_FORM}')
            given[name] = _READERS[name](value)
        return cls(**{_FIELDS[name]: value for name, value in given.items()})

    def __str__(self) -> str:
        parts = [
            "fit" * self.fit,
            f"min={self.min_mm3:.10g}" * (self.min_mm3 > 0),
            f"share={self.share:.10g}" * (self.share > 0),
            f"largest={self.largest}" * (self.largest is not None),
            "fill" * self.fill,
        ]
        return ",".join(filter(None, parts)) or NONE

    def stays(self, volumes: Sequence[float] | np.ndarray) -> np.ndarray:
        """Which of n components stay, (n,) bool, by their volumes in mm3."""
        volumes = np.asarray(volumes, float)
        keep = (volumes >= self.min_mm3) & (volumes >= self.share * volumes.max(initial=0))
        if self.largest is not None:
            rank = np.argsort(np.argsort(-volumes, kind="stable"))
            keep &= rank < self.largest
        return keep


def _number(text: str, allowed: Any) -> Any:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and allowed(value) else None


_FIELDS = {"fit": "fit", "min": "min_mm3", "share": "share", "largest": "largest", "fill": "fill"}
_READERS = {
    "fit": lambda text: True,
    "min": lambda text: _number(text, lambda value: value > 0),
    "share": lambda text: _number(text, lambda value: 0 < value <= 1),
    "largest": lambda text: int(text) if text.isascii() and text.isdecimal() and int(text) > 0 else None,
    "fill": lambda text: True,
}
_SWITCHES = ("fit", "fill")
_FORM = (
    f"expected {AUTO}, {NONE}, or any of fit, min=MM3, share=0..1, largest=N and fill, such as "
    '"min=500,share=0.05,fill"'
)


def _fault(name: str, equals: str, value: str, given: Collection[str]) -> str:
    """What is wrong with one part of a rule, empty if nothing is; `given` are the conditions before it."""
    if name == NONE:
        return f"{NONE} stands alone"
    if name not in _READERS:
        return f'"{name}" is no condition' if name else "a condition is empty"
    if name in given:
        return f"{name} is given twice"
    if bool(equals) != (name not in _SWITCHES):
        return f"{name} takes no value" if equals else f"{name} needs a value"
    return "" if _READERS[name](value) is not None else f'{name} cannot be "{value}"'


RAW = Postprocess()
"""The rule that leaves masks as they are."""


@dataclass(frozen=True)
class Components:
    """The components of a mask."""

    box: tuple[slice, ...]
    """The smallest box of the volume that holds the mask."""
    numbers: np.ndarray
    """The number (1 ..) of each voxel's component in the box, 0 outside of the mask."""
    volumes: np.ndarray
    """The volume of each component in mm3, (n,) float64."""


def components_of(mask: np.ndarray, spacing: Sequence[float]) -> Components:
    """The components of a mask (Z, rows, columns) bool; spacing in mm along its axes."""
    from scipy import ndimage

    box = bounding_box(mask) or (slice(0, 0),) * mask.ndim
    numbers, count = ndimage.label(mask[box], np.ones((3, 3, 3)))
    voxels = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    return Components(box, numbers, voxels * float(np.prod(spacing)))


def holes_of(mask: np.ndarray) -> np.ndarray:
    """The holes of a mask (Z, rows, columns) bool, in the same shape."""
    from scipy import ndimage

    # With a border of background around it, all that is no hole is one component, the one in the corner.
    numbers, _ = ndimage.label(np.pad(~mask, 1, constant_values=True))
    return ((numbers > 0) & (numbers != numbers[0, 0, 0]))[1:-1, 1:-1, 1:-1]


def cleaned(
    mask: np.ndarray, spacing: Sequence[float], rule: Postprocess, rois: Sequence[str] = tuple(ROIS)
) -> np.ndarray:
    """A predicted volume after a rule.

    Where the volume holds canonical codes, the rule is applied to everything predicted, which is the whole tumour in a
    map of nested regions; inner regions keep what lies in it. A filled hole becomes part of the tumour core where the
    core surrounds it and is one of the regions, else of the outermost region. Compartments are never changed into
    others.

    Args:
        mask: (Z, rows, columns): a region as bool, or canonical codes as uint8.
        spacing: mm along slices, rows and columns.
        rois: the regions that the codes tell apart.

    Returns:
        The cleaned volume in a new array of the same shape and dtype.
    """
    return cleaned_parts(mask, components_of(mask != BACKGROUND, spacing), rule, rois)


def cleaned_parts(
    mask: np.ndarray, parts: Components, rule: Postprocess, rois: Sequence[str] = tuple(ROIS)
) -> np.ndarray:
    """The same as `cleaned`, with the components of everything predicted, which several rules can share."""
    found = np.zeros_like(mask)
    whole = np.concatenate([[False], rule.stays(parts.volumes)])[parts.numbers]
    inside = found[parts.box]
    inside[whole] = mask[parts.box][whole]
    if rule.fill:
        _fill(inside, holes_of(whole), rois)
    return found


def _fill(mask: np.ndarray, holes: np.ndarray, rois: Sequence[str]) -> None:
    """Fills holes of a region, or of the outermost region in a map of codes, in place."""
    if mask.dtype == bool:
        mask |= holes
        return
    core = holes_of(roi_mask(mask, CORE))
    outermost = max(rois, key=lambda roi: len(roi_codes(roi)))
    mask[holes] = roi_codes(outermost)[0]
    if {CORE, "non-enhancing"} & set(rois):
        mask[holes & core] = NON_ENHANCING
