"""Probabilities and uncertainty of predicted volumes, and their files beside the label maps of a folder.

They are of the models as they are, before masks are cleaned, and 0 in slices that were not run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samjax.data.cases import Case
from samjax.data.formats.nifti import write_like
from samjax.data.imaging.geometry import Geometry, to_source
from samjax.data.labels import ROIS, roi_codes

PROBABILITIES, UNCERTAINTY = "probabilities", "uncertainty"


@dataclass(frozen=True)
class Maps:
    """The maps that are written for each case; none by default."""

    probabilities: str = ""
    """Type of the numbers, uint8 or float32; empty: no probabilities."""
    uncertainty: bool = False

    def __bool__(self) -> bool:
        return bool(self.probabilities) or self.uncertainty

    def hold(self, asked: "Maps") -> bool:
        """Whether these are all of the maps that are asked for."""
        return asked.probabilities in ("", self.probabilities) and (self.uncertainty or not asked.uncertainty)

    def paths(self, output: Path, case: str, rois: Sequence[str]) -> list[Path]:
        """The files of a case."""
        found = [probability_file(output, case, roi) for roi in rois] if self.probabilities else []
        return [*found, uncertainty_file(output, case)] if self.uncertainty else found


def probability_file(output: Path, case: str, roi: str) -> Path:
    """The file of a region's probabilities."""
    return output / PROBABILITIES / f"{case}_{roi}.nii.gz"


def uncertainty_file(output: Path, case: str) -> Path:
    """The file of a case's uncertainty."""
    return output / UNCERTAINTY / f"{case}.nii.gz"


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """The binary entropy in bits, float32 of the same shape: 0 at 0 and 1, 1 at 0.5."""
    from scipy.special import entr

    return ((entr(probabilities) + entr(1 - probabilities)) / np.float32(np.log(2))).astype(np.float32)


def outermost(rois: Sequence[str]) -> str:
    """The region of most compartments, the first of several."""
    return max(rois, key=lambda roi: len(roi_codes(roi)))


def remove_maps(output: Path, case: str) -> None:
    """Removes the files of a case whose label map is about to change."""
    for path in Maps("any", True).paths(output, case, tuple(ROIS)):
        path.unlink(missing_ok=True)


def write_maps(
    output: Path, maps: Maps, probabilities: Mapping[str, np.ndarray], case: Case, geometry: Geometry
) -> None:
    """Writes the maps of a case in the space of its first scan, each file whole or not at all.

    uint8 holds 255 times the probability with a slope of 1 / 255 in the header, by which readers get it back.

    Args:
        probabilities: of each region, (slices, rows, columns) float32.

    Raises:
        OSError: a file cannot be written.
    """
    source = case.reference.path
    for roi, values in probabilities.items() if maps.probabilities else ():
        path, values = probability_file(output, case.id, roi), to_source(values, geometry)
        if maps.probabilities == "uint8":
            write_like(path, np.rint(values * 255), source, np.uint8, slope=1 / 255, shown=(0, 1))
        else:
            write_like(path, values, source, np.float32, shown=(0, 1))
    if maps.uncertainty:
        values = entropy(probabilities[outermost(tuple(probabilities))])
        path = uncertainty_file(output, case.id)
        write_like(path, to_source(values, geometry), source, np.float32, shown=(0, 1))
