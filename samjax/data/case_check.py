"""Reading all files of one case and listing everything that is wrong with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from samjax.data.cases import Case, Problem, Source
from samjax.data.formats.nifti import Nifti
from samjax.data.imaging.doubts import Ranges, scan_doubts
from samjax.data.imaging.geometry import same_grid
from samjax.data.imaging.grids import RunGrid
from samjax.data.imaging.normalise import normalise
from samjax.data.imaging.volumes import (
    Box,
    Scan,
    background_value,
    canonical_label,
    foreground_box,
    read_scan,
    verify_grid,
)
from samjax.errors import UserError


def check_case(case: Case, ranges: Ranges | None = None, grid: RunGrid | None = None) -> list[Problem]:
    """Reads all of a case's files and returns everything that is wrong with them.

    Args:
      case: the case.
      ranges: ranges of the training data to compare the case with; None: usual ranges.
      grid: the grid that a run resamples the case to; None if it does not.
    """
    problems: list[Problem] = []

    def attempt(path: Path, step: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return step(*arguments)
        except UserError as error:
            message = str(error).removeprefix(str(path)).lstrip(": ")
            problems.append(Problem(case.id, path, message))
            return None

    opened: dict[Path, Nifti] = {}
    sources = [case.images[modality] for modality in case.modalities] + ([Source(case.label)] if case.label else [])
    unreadable = set()
    scans = []
    for source in sources:
        if source.path in unreadable:
            continue
        scan = attempt(source.path, read_scan, source, opened)
        if scan is None:
            unreadable.add(source.path)
        else:
            scans.append(scan)
    reference = _commonest_grid(scans)
    for scan in scans:
        attempt(scan.source.path, verify_grid, scan, reference)
        step = _check_label if scan.source.path == case.label else _check_image
        attempt(scan.source.path, step, scan, case)
    if not problems and reference is not None:
        problems += [Problem(case.id, *doubt, unusable=False) for doubt in scan_doubts(case, scans, ranges, grid)]
    return problems + _doubts(case, opened)


def _commonest_grid(scans: list[Scan]) -> Scan | None:
    """A scan on the grid that most share, so that the odd one out is named and not the others."""

    def alike(scan: Scan) -> int:
        return sum(same_grid(scan.geometry, other.geometry) for other in scans)

    return max(scans, key=alike, default=None)


def _check_image(scan: Scan, case: Case) -> None:
    background = background_value(scan)
    normalise(scan.array[foreground_box(scan, background).index], background, scan.name)


def _check_label(scan: Scan, case: Case) -> None:
    canonical_label(scan, case, Box((0, 0, 0), scan.geometry.shape))


def _doubts(case: Case, opened: dict[Path, Nifti]) -> list[Problem]:
    """Problems of files that can be read but may not hold what was meant."""
    doubts = []
    if case.label in opened and not np.any(opened[case.label].array):
        doubts.append(Problem(case.id, case.label, "the label is empty: no tumour", unusable=False))
    return doubts
