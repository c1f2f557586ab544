"""Predictions of any method, read from a folder of NIfTI files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from samjax.data.cache.cases import CachedCase
from samjax.data.cases import Source
from samjax.data.formats.dataset_json import DESCRIPTION, scheme_of
from samjax.data.imaging.geometry import same_grid
from samjax.data.imaging.volumes import read_scan
from samjax.data.labels import to_canonical
from samjax.errors import UserError
from samjax.inference.predictions import VolumePrediction, not_run


@dataclass(frozen=True)
class SavedPredictions:
    """A folder that holds <case>.nii.gz for every case, in the case's space.

    Its label values are those that a dataset.json beside them says, as nnU-Net leaves one there; without one, those
    of each case's own scheme. What it was prompted with is not known; it is scored as prompt-free, on every slice.
    """

    name: str
    folder: Path
    rois: tuple[str, ...]
    prompt: str = "none"
    clicks: int = 1
    asked: str = "none"
    prompt_source: str = "none"

    def predict(self, cases: Sequence[CachedCase]) -> Iterator[tuple[CachedCase, VolumePrediction]]:
        """Each case with its saved prediction, in order, as canonical codes.

        Raises:
            UserError: a file is missing, lies on another grid, or has values that are not of the scheme.
        """
        described = self._scheme()
        for case, path in zip(cases, self.paths_of(cases), strict=True):
            scan = read_scan(Source(path, None), {})
            if scan.geometry.shape != case.shape or not same_grid(scan.geometry, case.geometry):
                raise UserError(f"{path}: not on the grid of {case.case.id}; save it in the space of the scans")
            yield case, not_run(to_canonical(scan.array, described or case.case.scheme, path))

    def _scheme(self) -> str | None:
        """The scheme that the folder's dataset.json spells; None without one."""
        description = self.folder / DESCRIPTION
        if not description.is_file():
            return None
        if scheme := scheme_of(description):
            return scheme
        raise UserError(
            f"{description}: its labels do not name edema, non-enhancing and enhancing tumour; "
            "remove it if the predictions have the label values of the scans"
        )

    def paths_of(self, cases: Sequence[CachedCase]) -> list[Path]:
        """The file of each case.

        Raises:
            UserError: a case has none.
        """
        found = [self._path(case.case.id) for case in cases]
        missing = [case.case.id for case, path in zip(cases, found, strict=True) if path is None]
        if missing:
            more = f" ({len(missing)} of {len(cases)} cases have none)" if len(missing) > 1 else ""
            raise UserError(
                f"--predictions {self.folder}: no {missing[0]}.nii.gz there; expected one file for each scored "
                f"case{more}"
            )
        return found

    def _path(self, case: str) -> Path | None:
        paths = (self.folder / f"{case}{suffix}" for suffix in (".nii.gz", ".nii"))
        return next((path for path in paths if path.is_file()), None)
