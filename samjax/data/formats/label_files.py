"""Finds the label file of each case, by the file's name and folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samjax.data.cases import Problem
from samjax.data.formats.names import LABEL_FOLDERS, LabelName, folder_name, nifti_stem
from samjax.data.formats.scan_files import ScanFiles
from samjax.data.formats.scan_names import FoundScan


def two_files(case: str, what: str, first: Path, second: Path) -> str:
    """The problem of a case with two files for one thing."""
    names = (first.name, second.name) if first.parent == second.parent else (str(first), str(second))
    return f"case {case}: two {what}, {names[0]} and {names[1]}; remove one"


@dataclass
class LabelFiles:
    """The files that may be the label of one case, those of the lowest rank first."""

    paths: list[Path] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The label, where there is no problem."""
        return self.paths[0]

    def problems(self, scan: FoundScan) -> list[Problem]:
        """The problem of a case with several labels."""
        if len(self.paths) < 2:
            return []
        first, second, *_ = sorted(self.paths)
        return [Problem(scan.id, second, two_files(scan.id, "files for the label", first, second))]


def choose_labels(
    files: ScanFiles, scans: Iterable[FoundScan], root: Path
) -> tuple[dict[str, LabelFiles], list[Problem]]:
    """The label files of each case, and other segmentations, as problems that leave all cases usable."""
    by_id = {scan.id: scan for scan in scans}
    in_folder: dict[Path, list[FoundScan]] = {}
    for scan in by_id.values():
        for folder in scan.folders:
            in_folder.setdefault(folder, []).append(scan)
    ranked: dict[str, list[tuple[int, Path]]] = {}
    ignored = [(path, "not named as a label of its case") for path in files.unknown_segmentations]
    for path, label in files.labels:
        scan = _case_of_label(
            path.relative_to(root), label, by_id, in_folder.get(path.parent, []), folder_name(path.parent)
        )
        if scan is None:
            ignored.append((path, _why_not(path, label, by_id)))
        else:
            ranked.setdefault(scan.id, []).append((label.rank, path))
    chosen = {}
    for case, candidates in ranked.items():
        best = min(rank for rank, _ in candidates)
        chosen[case] = LabelFiles(sorted(path for rank, path in candidates if rank == best))
        ignored += [(path, f"{chosen[case].path.name} is taken instead") for rank, path in candidates if rank > best]
    return chosen, [ignored_label(path, why) for path, why in sorted(ignored)]


def ignored_label(path: Path, why: str) -> Problem:
    """A file that looks like a label but belongs to no case, as a problem that leaves all cases usable."""
    stem = nifti_stem(path.name) or path.name
    return Problem(stem, path, f"ignored as a label: {why}", unusable=False, ignored=True)


def _case_of_label(
    path: Path, label: LabelName, by_id: Mapping[str, FoundScan], beside: Sequence[FoundScan], folder: str
) -> FoundScan | None:
    """The case whose label a file is by its name and place.

    Args:
      path: a path relative to the folder that is searched.
      beside: the cases whose scans lie in the file's folder, which is called `folder`.
    """
    if label.case is None or label.case == folder:
        named = (scan for scan in beside if scan.id == folder or scan.is_named_by(folder))
        return next(named, None)
    scan = by_id.get(label.case)
    if scan is None or scan in beside:
        return scan
    apart = label.anywhere or any(name in LABEL_FOLDERS for name in path.parent.parts)
    return scan if apart and not beside else None


def _why_not(path: Path, label: LabelName, by_id: Mapping[str, FoundScan]) -> str:
    if label.case in by_id:
        return f"it does not lie with the scans of {label.case}"
    if label.case is None:
        return (
            f"its name tells no case, and the scans beside it are not called {folder_name(path.parent)} as its folder"
        )
    return f"there is no case {label.case} beside it"
