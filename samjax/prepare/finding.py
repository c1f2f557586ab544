"""Finds the scans of each case by their names; unlike elsewhere, a case may lack modalities and have several grids."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from samjax.data.cases import MODALITIES, Source
from samjax.data.formats.dataset_json import description_of
from samjax.data.formats.layouts import survey
from samjax.data.formats.scan_files import collect_files
from samjax.data.formats.scan_names import FoundScan, scans_of
from samjax.errors import UserError


@dataclass(frozen=True)
class CaseScans:
    """The scans of one case, by modality; at least one."""

    id: str
    images: Mapping[str, Source]

    @property
    def missing(self) -> list[str]:
        """The modalities that the case lacks."""
        return [modality for modality in MODALITIES if modality not in self.images]


@dataclass(frozen=True)
class Found:
    """The cases of a folder, sorted by id, the reasons why others cannot be used, and the number of labels."""

    cases: list[CaseScans]
    reasons: list[str]
    labels: int


def find_scans(root: Path) -> Found:
    """The cases under a folder, in any layout that samjax reads.

    Raises:
      UserError: nothing is found.
    """
    if not root.is_dir():
        raise UserError(f"--input {root}: no such folder; expected a case's folder or a folder of cases")
    if description_of(root) is not None:
        found = survey(root, read_labels=False)
        cases = [CaseScans(case.id, case.images) for case in found.cases]
        reasons = [f"{problem.path}: {problem.message}" for problem in found.unusable]
        labels = 0
    else:
        files = collect_files(root)
        scans = scans_of(files, root)
        reasons = [reason for scan in scans if (reason := _surplus(scan))]
        cases = [
            CaseScans(scan.id, {name: Source(scan.images[name][0]) for name in MODALITIES if name in scan.images})
            for scan in scans
            if _surplus(scan) is None
        ]
        labels = len(files.labels)
    if not cases and not reasons:
        survey(root, read_labels=False)  # says what is there instead
    return Found(sorted(cases, key=lambda case: case.id), reasons, labels)


def _surplus(scan: FoundScan) -> str | None:
    """The reason why a case with two files of one modality cannot be used."""
    for modality in MODALITIES:
        paths = sorted(scan.images.get(modality, []))
        if len(paths) > 1:
            return f"{paths[1]}: case {scan.id} has {paths[0].name} for {modality} too; keep one of them"
    return None
