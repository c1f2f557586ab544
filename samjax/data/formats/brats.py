"""The BraTS layout of any year: one file a modality, named after the case.

`ID_t1ce.nii.gz` (to 2021) and `ID-t1c.nii.gz` (from 2023), a folder a case or all in one, at any depth; where the
files are just `t1.nii.gz`, `seg.nii.gz`, their folder names the case. BIDS names and those of several other
collections are known too; see `names`.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from samjax.data.cases import MODALITIES, Case, Problem, Source, missing_modalities, patient_of
from samjax.data.formats.names import (
    LABEL_FOLDERS,
    LabelName,
    composed,
    folder_name,
    image_name,
    label_name,
    looks_like_segmentation,
    nifti_stem,
    other_format_stem,
)
from samjax.data.formats.releases import KnownScheme, known_scheme, schemes_to_choose
from samjax.errors import UserError

_RADIOTHERAPY = re.compile(r"brats-men-rt-", re.IGNORECASE)
# Folders named after a visit: the folder above them is the patient's.
_VISIT = re.compile(
    r"(?:pre|post|intra|baseline|initial|follow[-_ ]?up|fu|recurrence|visit|session|ses|week|month|day|year|"
    r"time[-_ ]?point|tp)(?:[-_ ]?(?:op|rt|surgery|treatment|therapy))?(?:[-_ ]?\d+)*"
    r"|\d{4}[-_.]?\d\d[-_.]?\d\d",
    re.IGNORECASE,
)


@dataclass
class _Scan:
    """The images of one case, by modality; several files for one modality are a mistake."""

    id: str
    patient: str
    images: dict[str, list[Path]] = field(default_factory=dict)
    named_by: list[Path] = field(default_factory=list)
    """The folders that the case has its name from."""

    @property
    def folders(self) -> list[Path]:
        """The folders that hold the images, sorted."""
        return sorted({path.parent for paths in self.images.values() for path in paths})


@dataclass
class _Files:
    """What a folder and all below it hold: images by case or, where only the folder names it, by folder; the rest."""

    named: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    by_folder: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)
    labels: list[tuple[Path, LabelName]] = field(default_factory=list)
    unknown_segmentations: list[Path] = field(default_factory=list)
    unread: list[tuple[Path, str]] = field(default_factory=list)
    """Images of other formats, and their names without suffix."""


def find_brats(root: Path, domain: str, labels: str | None, read_labels: bool) -> tuple[list[Case], list[Problem]]:
    """Every case under `root`, and the problems of those that cannot be used or files that are not.

    A file counts as a case's label only if its name is the case's own with a known ending (`names.LABEL_ENDINGS`) and
    it lies with the scans or in one of `names.LABEL_FOLDERS`; other segmentations are named and ignored.

    Raises:
      UserError: MEN-RT cases, or a label scheme that the names leave open.
    """
    files = _collect(root)
    scans = _scans(files, root)
    chosen, problems = _choose_labels(files, scans) if read_labels else ({}, [])
    cases = []
    for scan in scans:
        more = _surplus(scan) or chosen.get(scan.id, _Labels()).problems(scan) or _missing(scan, files)
        problems += more
        if more:
            continue
        sources = {modality: Source(paths[0]) for modality, paths in scan.images.items()}
        label = chosen[scan.id].path if scan.id in chosen else None
        folder = scan.folders[0]
        known = KnownScheme(labels, "from --labels") if labels else known_scheme(scan.id, root, folder)
        if known is None and label is not None:
            raise _open_scheme(scan.id, folder)
        scheme, source = (known.scheme, known.source) if known else (None, "")
        cases.append(Case(scan.id, scan.patient, domain, sources, label, scheme, "brats", source))
    return cases, problems


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folders under `root`, links followed except to a folder around them, with the sorted names of their files.

    Hidden files and folders are passed over.
    """
    yield from _walk(root, frozenset())


def _walk(folder: Path, around: frozenset[str]) -> Iterator[tuple[Path, list[str]]]:
    real = os.path.realpath(folder)
    if real in around:
        return
    try:
        with os.scandir(folder) as entries:
            kinds = {entry.name: entry.is_dir() for entry in entries if not entry.name.startswith(".")}
    except OSError:
        return
    yield folder, sorted(name for name, is_folder in kinds.items() if not is_folder)
    for name in sorted(name for name, is_folder in kinds.items() if is_folder):
        yield from _walk(folder / name, around | {real})


def _collect(root: Path) -> _Files:
    found = _Files()
    for folder, names in walk(root):
        for name in names:
            path, stem = folder / name, nifti_stem(name)
            if stem is None:
                if (stem := other_format_stem(name)) is not None:
                    found.unread.append((path, stem))
            elif image := image_name(stem):
                if _RADIOTHERAPY.match(stem):
                    raise UserError(
                        f"{path}: BraTS MEN-RT has T1Gd alone and a target volume in place of the tumour's "
                        "regions; it cannot be used here, leave it out of the folder"
                    )
                images = (
                    found.by_folder.setdefault(folder, {})
                    if image.case is None or image.case == folder_name(folder)
                    else found.named.setdefault(image.case, {})
                )
                images.setdefault(image.modality, []).append(path)
            elif label := label_name(stem):
                found.labels.append((path, label))
            elif looks_like_segmentation(stem):
                found.unknown_segmentations.append(path)
    return found


def _scans(files: _Files, root: Path) -> list[_Scan]:
    """The images of each case, whatever named it."""
    scans = {case: _Scan(case, patient_of(case), dict(images)) for case, images in files.named.items()}
    for folder, (name, patient) in _named_by_folder(files.by_folder, root).items():
        scan = scans.setdefault(name, _Scan(name, patient))
        scan.named_by.append(folder)
        for modality, paths in files.by_folder[folder].items():
            scan.images[modality] = scan.images.get(modality, []) + paths
    return list(scans.values())


_Folders = Mapping[Path, dict[str, list[Path]]]


def _named_by_folder(folders: _Folders, root: Path) -> dict[Path, tuple[str, str]]:
    """The name and patient of the case in each folder.

    Where folders are named after visits (P1/pre, P2/pre), or have one name and files without any other name, their
    patient is the folder above, and its name comes first. Two folders of one name whose files repeat that name are
    one case twice.
    """
    bare = {folder for folder, images in folders.items() if _without_name(images)}
    times = Counter(folder_name(folder) for folder in bare)
    of_patients = {folder.parent for folder in bare if times[folder_name(folder)] > 1}
    above = {
        folder: int((folder in bare and folder.parent in of_patients) or _is_visit(folder, root)) for folder in folders
    }
    while clashing := _clashing(above, root):
        for folder in clashing:
            above[folder] += 1
    found = {}
    for folder, count in above.items():
        name, own = _with_folders_above(folder, count, root), folder_name(folder)
        found[folder] = name, (name.removesuffix(f"_{own}") if count else patient_of(own))
    return found


def _is_visit(folder: Path, root: Path) -> bool:
    return len(folder.relative_to(root).parts) > 1 and _VISIT.fullmatch(folder_name(folder)) is not None


def _clashing(above: Mapping[Path, int], root: Path) -> list[Path]:
    """The folders that those above them do not tell apart yet, though more of these would."""
    full = {folder: _with_folders_above(folder, count, root) for folder, count in above.items()}
    times = Counter(full.values())
    return [
        folder
        for folder, count in above.items()
        if count and times[full[folder]] > 1 and count < len(folder.relative_to(root).parts) - 1
    ]


def _with_folders_above(folder: Path, above: int, root: Path) -> str:
    inner = [composed(part) for part in folder.relative_to(root).parts]
    inner = [folder_name(root), *inner] if len(inner) <= above else inner
    return "_".join(inner[-above - 1 :]) if inner else folder_name(root)


def _without_name(images: Mapping[str, list[Path]]) -> bool:
    """Whether any file holds just the modality in its name."""
    stems = (nifti_stem(path.name) for paths in images.values() for path in paths)
    return any(image.case is None for stem in stems if (image := image_name(stem or "")))


def _surplus(scan: _Scan) -> list[Problem]:
    """The problem of a case that has several files for one modality."""
    twice = {modality: paths for modality, paths in scan.images.items() if len(paths) > 1}
    if not twice:
        return []
    modality = next(modality for modality in MODALITIES if modality in twice)
    first, second, *_ = sorted(twice[modality])
    folders = scan.folders
    if len(twice) == len(MODALITIES) and len(folders) > 1:
        message = f"case {scan.id}: found twice, in {folders[0]} and {folders[1]}; keep one"
        return [Problem(scan.id, folders[1], message)]
    return [Problem(scan.id, second, _two_files(scan.id, f"files for {modality}", first, second))]


def _two_files(case: str, what: str, first: Path, second: Path) -> str:
    names = (first.name, second.name) if first.parent == second.parent else (str(first), str(second))
    return f"case {case}: two {what}, {names[0]} and {names[1]}; remove one"


def _missing(scan: _Scan, files: _Files) -> list[Problem]:
    """The problem of a case that lacks modalities, which may be there in a format that is not read."""
    problem = missing_modalities(scan.id, scan.images, scan.folders[0])
    if problem is None:
        return []
    for path, stem in files.unread:
        image = image_name(stem)
        if image and path.parent in scan.folders and image.modality not in scan.images:
            return [Problem(scan.id, path, f"case {scan.id}: {unread_format(path)}")]
    return [problem]


def unread_format(path: Path) -> str:
    """What to do with an image of another format than NIfTI."""
    return f"{path.name} is not read; convert it to one NIfTI file (.nii.gz)"


@dataclass
class _Labels:
    """The files that may be the label of one case, those of the lowest rank first."""

    paths: list[Path] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The label, where there is no problem."""
        return self.paths[0]

    def problems(self, scan: _Scan) -> list[Problem]:
        """The problem of a case with several labels."""
        if len(self.paths) < 2:
            return []
        first, second, *_ = sorted(self.paths)
        return [Problem(scan.id, second, _two_files(scan.id, "files for the label", first, second))]


def _choose_labels(files: _Files, scans: Iterable[_Scan]) -> tuple[dict[str, _Labels], list[Problem]]:
    """The label files of each case, and the segmentations that are none, as problems that leave all usable."""
    by_id = {scan.id: scan for scan in scans}
    in_folder: dict[Path, list[_Scan]] = {}
    for scan in by_id.values():
        for folder in scan.folders:
            in_folder.setdefault(folder, []).append(scan)
    ranked: dict[str, list[tuple[int, Path]]] = {}
    ignored = [(path, "not named as a label of its case") for path in files.unknown_segmentations]
    for path, label in files.labels:
        scan = _case_of_label(path, label, by_id, in_folder)
        if scan is None:
            ignored.append((path, _why_not(path, label, by_id)))
        else:
            ranked.setdefault(scan.id, []).append((label.rank, path))
    chosen = {}
    for case, candidates in ranked.items():
        best = min(rank for rank, _ in candidates)
        chosen[case] = _Labels(sorted(path for rank, path in candidates if rank == best))
        ignored += [(path, f"{chosen[case].path.name} is taken instead") for rank, path in candidates if rank > best]
    return chosen, [ignored_label(path, why) for path, why in sorted(ignored)]


def ignored_label(path: Path, why: str) -> Problem:
    """A file that looks like a label and is no case's, as a problem that leaves all cases usable."""
    stem = nifti_stem(path.name) or path.name
    return Problem(stem, path, f"ignored as a label: {why}", unusable=False, ignored=True)


def _case_of_label(
    path: Path, label: LabelName, by_id: Mapping[str, _Scan], in_folder: Mapping[Path, list[_Scan]]
) -> _Scan | None:
    """The case whose label a file is by its name and place."""
    beside = in_folder.get(path.parent, [])
    own = folder_name(path.parent)
    if label.case is None or label.case == own:
        return next((scan for scan in beside if scan.id == own or path.parent in scan.named_by), None)
    scan = by_id.get(label.case)
    if scan is None or scan in beside:
        return scan
    apart = label.anywhere or any(folder in LABEL_FOLDERS for folder in path.parent.parts)
    return scan if apart and not beside else None


def _why_not(path: Path, label: LabelName, by_id: Mapping[str, _Scan]) -> str:
    if label.case in by_id:
        return f"it does not lie with the scans of {label.case}"
    return f"there is no case {label.case or folder_name(path.parent)} beside it"


def _open_scheme(case_id: str, folder: Path) -> UserError:
    *others, last = schemes_to_choose(case_id)
    return UserError(
        f"{folder}: the names do not tell what the label values of {case_id} mean; "
        f"name their scheme with --labels {', '.join(others)} or {last}"
    )
