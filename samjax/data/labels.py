"""Label schemes and regions of interest.

After loading, every label map holds the canonical codes below, whatever year or collection it came
from; predictions go back to the values of the source's scheme. A scheme is chosen by name, never
guessed from the values found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from samjax.errors import UserError

BACKGROUND, EDEMA, NON_ENHANCING, ENHANCING = 0, 1, 2, 3
IGNORED = 4
"""The code of voxels that nobody has labelled; they are in no region, and count in no loss and no score."""
COMPARTMENTS: dict[str, int] = {"edema": EDEMA, "non-enhancing": NON_ENHANCING, "enhancing": ENHANCING}

# Each region's canonical codes, outermost compartment first.
ROIS: dict[str, tuple[int, ...]] = {
    "edema": (EDEMA,),
    "non-enhancing": (NON_ENHANCING,),
    "enhancing": (ENHANCING,),
    "tumor-core": (NON_ENHANCING, ENHANCING),
    "whole-tumor": (EDEMA, NON_ENHANCING, ENHANCING),
}
ALL = "all"
"""The name by which a run of SAM learns the regions of `NESTED` together."""
NESTED = ("whole-tumor", "tumor-core", "enhancing")
"""The regions of `ALL`, outermost first: each lies inside the one before it. Prompts are of the first."""

# What a scheme's text calls values that are allowed but belong to no region (a resection cavity), and those that are
# not to be counted at all.
_WITHOUT_REGION = {"other": BACKGROUND, "ignore": IGNORED}
_UNKNOWN = 255
LARGEST_VALUE = _UNKNOWN - 1
"""The largest value that a label may have."""
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class LabelScheme:
    """The meaning of the values of a label file.

    `codes` maps each allowed source value to its canonical code, background's 0 included. Where
    several values share a code, predictions are written with the one listed first.
    """

    name: str
    codes: Mapping[int, int]

    @property
    def ignored(self) -> tuple[int, ...]:
        """The source values that are not to be counted."""
        return tuple(value for value, code in self.codes.items() if code == IGNORED)

    def value(self, code: int) -> int:
        """The source value in which the canonical `code` is written."""
        return next(value for value, known in self.codes.items() if known == code)


SCHEMES: dict[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        LabelScheme("brats2021", {0: BACKGROUND, 1: NON_ENHANCING, 2: EDEMA, 4: ENHANCING}),
        LabelScheme("brats2023", {0: BACKGROUND, 1: NON_ENHANCING, 2: EDEMA, 3: ENHANCING}),
        LabelScheme("ped2024", {0: BACKGROUND, 1: ENHANCING, 2: NON_ENHANCING, 3: NON_ENHANCING, 4: EDEMA}),
        LabelScheme("gli2024", {0: BACKGROUND, 1: NON_ENHANCING, 2: EDEMA, 3: ENHANCING, 4: BACKGROUND}),
        LabelScheme("msd", {0: BACKGROUND, 1: EDEMA, 2: NON_ENHANCING, 3: ENHANCING}),
    )
}


def find_scheme(text: str) -> LabelScheme:
    """The scheme named `text`, or spelled out as `edema=1,non-enhancing=2/3,enhancing=4,other=5,ignore=6`.

    Raises:
      UserError: `text` is neither.
    """
    if text in SCHEMES:
        return SCHEMES[text]
    codes = {0: BACKGROUND}
    named = {**COMPARTMENTS, **_WITHOUT_REGION}
    for part in text.split(","):
        name, _, values = part.strip().partition("=")
        numbers = values.split("/")
        if name not in named or not all(number.isascii() and number.isdigit() for number in numbers):
            raise _bad_scheme(text)
        for number in map(int, numbers):
            if number in codes or number >= _UNKNOWN:
                raise _bad_scheme(text)
            codes[number] = named[name]
    if not set(COMPARTMENTS.values()) <= set(codes.values()):
        raise _bad_scheme(text)
    return LabelScheme(text, codes)


def scheme_text(codes: Mapping[int, int]) -> str:
    """The name of the scheme with these `codes`, or its spelling for `find_scheme`."""
    for name, scheme in SCHEMES.items():
        if dict(scheme.codes) == dict(codes):
            return name
    parts = []
    for name, code in {**COMPARTMENTS, **_WITHOUT_REGION}.items():
        values = [str(value) for value, known in codes.items() if known == code and value != 0]
        if values:
            parts.append(f"{name}={'/'.join(values)}")
    return ",".join(parts)


def to_canonical(array: np.ndarray, scheme: str, where: object) -> np.ndarray:
    """Turns source label values into canonical codes.

    Args:
      array: any shape, any real dtype; floats must be whole numbers within 0.001.
      scheme: a scheme's name or spelling, see `find_scheme`.
      where: the file, for the error.

    Returns:
      uint8 codes of the same shape and memory order.

    Raises:
      UserError: a value is not of the scheme.
    """
    codes = find_scheme(scheme).codes
    values = array
    if values.dtype.kind == "f":
        values = np.rint(array)
        astray = ~(np.abs(array - values) <= _TOLERANCE)
        if astray.any():
            raise _bad_value(array[astray][0], scheme, where)
    if values.dtype != np.uint8:
        outside = (values < 0) | (values >= _UNKNOWN)
        if outside.any():
            raise _bad_value(values[outside][0], scheme, where)
        values = values.astype(np.uint8)
    table = np.full(256, _UNKNOWN, np.uint8)
    table[list(codes)] = list(codes.values())
    canonical = table[values]
    unknown = canonical == _UNKNOWN
    if unknown.any():
        raise _bad_value(values[unknown][0], scheme, where)
    return canonical


def from_canonical(codes: np.ndarray, scheme: str) -> np.ndarray:
    """Turns canonical codes (any shape) into uint8 values of `scheme`, for multi-label maps."""
    found = find_scheme(scheme)
    known = range(IGNORED + 1 if found.ignored else IGNORED)
    return np.array([found.value(code) for code in known], np.uint8)[codes]


def roi_codes(roi: str) -> tuple[int, ...]:
    """The canonical codes of a region, outermost first; a `UserError` for an unknown name."""
    if roi not in ROIS:
        raise UserError(f"--roi {roi}: expected one of {', '.join(ROIS)}")
    return ROIS[roi]


def rois_of(roi: str) -> tuple[str, ...]:
    """The regions that a SAM trained with `--roi` predicts, the prompted one first.

    Raises:
      UserError: an unknown name.
    """
    if roi == ALL:
        return NESTED
    if roi not in ROIS:
        raise UserError(f"--roi {roi}: expected one of {', '.join(ROIS)}, or {ALL} for {', '.join(NESTED)} at once")
    return (roi,)


def roi_mask(codes: Any, roi: str) -> Any:
    """True where canonical `codes` (a numpy or JAX array of any shape) belong to the region `roi`."""
    mask = False
    for code in roi_codes(roi):
        mask = mask | (codes == code)
    return mask


def roi_value(scheme: str, roi: str) -> int:
    """The source value in which a single-region prediction is written: that of its outermost compartment."""
    return find_scheme(scheme).value(roi_codes(roi)[0])


def _bad_value(value: float, scheme: str, where: object) -> UserError:
    allowed = ", ".join(str(value) for value in find_scheme(scheme).codes)
    return UserError(
        f"{where}: label value {value:g} is not one of {scheme}'s ({allowed}); "
        "name the right scheme with --labels or repair the file"
    )


def _bad_scheme(text: str) -> UserError:
    return UserError(
        f"--labels {text}: expected one of {', '.join(SCHEMES)}, or distinct values below {_UNKNOWN} for "
        "each compartment, such as edema=2,non-enhancing=1,enhancing=4"
    )
