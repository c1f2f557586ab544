"""Predictions of any method, read from a folder of NIfTI files."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.cases import Source
from samjax.data.formats.dataset_json_labels import (
    DESCRIPTION,
    Meanings,
    predicted_meanings,
    predicted_values,
    scheme_of_meanings,
)
from samjax.data.formats.names import composed, nifti_files
from samjax.data.imaging.geometry import same_grid
from samjax.data.imaging.volumes import Scan, read_scan
from samjax.data.labels import BACKGROUND, IGNORED, roi_codes, to_canonical
from samjax.errors import UserError
from samjax.inference.predictions import VolumePrediction, not_run

_BINARY = ({0, 1}, {0, 255})


@dataclass(frozen=True)
class _Reading:
    """The interpretation of the values of a folder's files.

    Either as a label scheme, that of each case where `scheme` is None, or, where there are `inside` values, as masks
    of one region; `outside` are then the other values that files may hold.
    """

    scheme: str | None = None
    inside: frozenset[int] = frozenset()
    outside: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class SavedPredictions:
    """A folder that holds <case>.nii.gz for every case, in the case's space.

    A dataset.json next to them, such as nnU-Net writes, describes their values. Without one they are the values of each
    case's own scheme or, if a single region is scored and all files hold only 0 and 1, or 0 and 255, masks of that
    region. The prompts that they were made with are not known; they are scored as prompt-free, on every slice.
    """

    name: str
    folder: Path
    rois: tuple[str, ...]
    prompt: str = "none"
    clicks: int = 1
    prompt_text: str = "none"
    prompt_source: str = "none"

    def predict(self, cases: Sequence[CachedCase]) -> Iterator[tuple[CachedCase, VolumePrediction]]:
        """Each case with its saved prediction, in order: canonical codes uint8, or a bool mask of the one region.

        Raises:
            UserError: a file is missing or there twice, lies on another grid, or has values that are not of the
                scheme.
        """
        paths = self.paths_of(cases)
        reading = self._reading(paths)
        for case, path in zip(cases, paths, strict=True):
            scan = _read(path)
            if scan.geometry.shape != case.shape or not same_grid(scan.geometry, case.geometry):
                raise UserError(f"{path}: not on the grid of {case.case.id}; save it in the space of the scans")
            yield case, not_run(_values(scan, reading, case))

    def paths_of(self, cases: Sequence[CachedCase]) -> list[Path]:
        """The file of each case.

        Raises:
            UserError: a case has no file, or several.
        """
        files = nifti_files(self.folder)
        found = []
        for case in cases:
            paths = files.get(composed(case.case.id), [])
            if not paths:
                missing = sum(composed(other.case.id) not in files for other in cases)
                more = f" ({missing} of {len(cases)} cases have none)" if missing > 1 else ""
                raise UserError(
                    f"--predictions {self.folder}: no {case.case.id}.nii.gz there; expected one file for each scored "
                    f"case{more}"
                )
            if len(paths) > 1:
                names = " and ".join(path.name for path in paths)
                raise UserError(f"--predictions {self.folder}: both {names} are there; remove one")
            found.append(paths[0])
        return found

    def _reading(self, paths: Sequence[Path]) -> _Reading:
        """The interpretation of the files' values, reported on stderr unless dataset.json or the cases decide it."""
        description = self.folder / DESCRIPTION
        if description.is_file():
            return self._described(description)
        values = _binary_values(paths)
        if values is None:
            return _Reading()
        why = f"its files hold {' and '.join(map(str, sorted(values)))} alone"
        if len(self.rois) > 1:
            print(
                f"{self.name}: {why}; they are read as label values of the scans. If they are masks of one region, "
                "name it with --roi",
                file=sys.stderr,
            )
            return _Reading()
        self._tell(why)
        return _Reading(inside=frozenset(values - {0}))

    def _described(self, description: Path) -> _Reading:
        """The interpretation of the files' values by a dataset.json."""
        meanings = predicted_meanings(description)
        if scheme := scheme_of_meanings(meanings):
            return _Reading(scheme)
        if len(self.rois) == 1:
            if meanings is None:
                values = predicted_values(description)
                if len(values) == 1:
                    self._tell(f"{description} has one label, {values[0]}")
                    return _Reading(inside=frozenset(values))
            elif (reading := _mask_of(meanings, self.rois[0])) is not None:
                return reading
        raise UserError(
            f"{description}: its labels do not tell {' and '.join(self.rois)} apart from the rest of edema, "
            "non-enhancing and enhancing tumour; remove it if the predictions have the label values of the scans"
        )

    def _tell(self, why: str) -> None:
        print(f"{self.name}: read as masks of {self.rois[0]}, since {why}", file=sys.stderr)


def _read(path: Path) -> Scan:
    return read_scan(Source(path, None), {})


def _values(scan: Scan, reading: _Reading, case: CachedCase) -> np.ndarray:
    """The canonical codes of a file, or its mask of the one region."""
    path, scheme = scan.source.path, reading.scheme or case.case.scheme
    if not reading.inside:
        codes = to_canonical(scan.array, scheme, path)
        if (codes == IGNORED).any():
            raise UserError(f"{path}: holds the value that {scheme} calls ignored; a prediction must not")
        return codes
    known = reading.inside | reading.outside
    alien = np.setdiff1d(scan.array, sorted(known))
    if alien.size:
        raise UserError(f"{path}: label value {alien[0]:g} is none of {', '.join(map(str, sorted(known)))}")
    return np.isin(scan.array, sorted(reading.inside))


def _binary_values(paths: Sequence[Path]) -> set[int] | None:
    """The only two values in all files together; None if there are others or only zeros."""
    seen: set[float] = set()
    for path in paths:
        seen |= set(np.unique(_read(path).array).tolist())
        if not any(seen <= allowed for allowed in _BINARY):
            return None
    return {int(value) for value in seen | {0}} if seen - {0} else None


def _mask_of(meanings: Meanings, roi: str) -> _Reading | None:
    """The values that make up a region exactly; None if a value is partly outside it, or the region is not complete."""
    wanted = frozenset(roi_codes(roi))
    inside = {value for value, meaning in meanings.items() if meaning <= wanted}
    others = {value: meaning for value, meaning in meanings.items() if value not in inside}
    whole = frozenset().union(*(meanings[value] for value in inside)) == wanted
    if not whole or any(meaning & wanted for meaning in others.values()):
        return None
    return _Reading(inside=frozenset(inside), outside=frozenset({BACKGROUND, *others}))
