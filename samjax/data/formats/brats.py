"""The BraTS layout of any year: one file a modality, named after the case.

`ID_t1ce.nii.gz` (to 2021) and `ID-t1c.nii.gz` (from 2023), a folder a case or all in one, at any
depth; in a folder named after the case, files may also be just `t1.nii.gz`, `seg.nii.gz`.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from samjax.data.cases import Case, Problem, Source, missing_modalities, modality_of, patient_of
from samjax.errors import UserError

_FILE = re.compile(
    r"(?:(?P<case>.+?)[-_])?"
    r"(?:(?P<modality>t1n|t1ce|t1c|t1gd|t1w|t1|t2w|t2f|t2|flair)|(?P<label>seg|segm|segmentation|tumor_segmentation))"
    r"\.nii(?:\.gz)?",
    re.IGNORECASE,
)
_EARLIER = re.compile(r"brats_?(?:20)?(?:1[5-9]|2[01])(?!\d)", re.IGNORECASE)
_LATER = re.compile(r"brats-(?P<task>[a-z]+)-\d", re.IGNORECASE)
_RADIOTHERAPY = re.compile(r"brats-men-rt-", re.IGNORECASE)
_YEAR = re.compile(r"(?<!\d)20(?P<year>2[34])(?!\d)")
_SCHEMES_BY_YEAR = {
    "gli": {"23": "brats2023", "24": "gli2024"},
    "ped": {"23": "brats2023", "24": "ped2024"},
}


@dataclass
class _Found:
    """The files of one case while the folders are walked."""

    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    label: Path | None = None


def find_brats(root: Path, domain: str, labels: str | None, read_labels: bool) -> tuple[list[Case], list[Problem]]:
    """Every case under `root`, by folder and name, and the problems of those that cannot be used.

    Raises:
      UserError: MEN-RT cases, or a label scheme that the names leave open.
    """
    cases, problems = [], []
    for folder, names in walk(root):
        found, more = _group(folder, names)
        problems += more
        for case_id, files in found.items():
            if problem := missing_modalities(case_id, files.images, folder):
                problems.append(problem)
                continue
            sources = {modality: Source(path) for modality, path in files.images.items()}
            label = files.label if read_labels else None
            scheme = labels or _scheme(case_id, root, folder)
            if scheme is None and label is not None:
                raise _open_scheme(case_id, folder)
            cases.append(Case(case_id, patient_of(case_id), domain, sources, label, scheme, "brats"))
    return cases, problems


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folders under `root`, links followed but each once, with the sorted names of their NIfTI files."""
    seen = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield (
            Path(folder),
            sorted(n for n in names if n.endswith((".nii", ".nii.gz")) and not n.startswith(".")),
        )


def _group(folder: Path, names: list[str]) -> tuple[dict[str, _Found], list[Problem]]:
    """The cases among the files of one folder, by id."""
    found: dict[str, _Found] = {}
    labels: dict[str, Path] = {}
    problems = []
    for name in names:
        match = _FILE.fullmatch(name)
        if match is None:
            continue
        if _RADIOTHERAPY.match(name):
            raise UserError(
                f"{folder / name}: BraTS MEN-RT has T1Gd alone and a target volume in place of the tumour's "
                "regions; it cannot be used here, leave it out of the folder"
            )
        case_id = match["case"] or folder.resolve().name
        modality = modality_of(match["modality"]) if match["modality"] else None
        files = labels if modality is None else found.setdefault(case_id, _Found(folder)).images
        key = modality or case_id
        if key in files:
            what = f"files for {modality or 'the label'}"
            message = f"case {case_id}: two {what}, {files[key].name} and {name}; remove one"
            problems.append(Problem(case_id, folder / name, message))
        files[key] = folder / name
    for case_id, path in labels.items():
        if case_id in found:
            found[case_id].label = path
        elif len(found) == 1 and len(labels) == 1:
            # One folder of BraTS 2020 has its label under the hospital's name for the scan.
            next(iter(found.values())).label = path
        else:
            found[case_id] = _Found(folder, label=path)
    broken = {problem.case for problem in problems}
    return {case_id: files for case_id, files in found.items() if case_id not in broken}, problems


def _scheme(case_id: str, root: Path, folder: Path) -> str | None:
    """The label scheme that the names decide: the case's own, then the nearest folder's year up to `root`."""
    if _EARLIER.match(case_id):
        return "brats2021"
    match = _LATER.match(case_id)
    if match is None:
        return None
    task = match["task"].lower()
    if task not in _SCHEMES_BY_YEAR:
        return "brats2023"
    above = [root.resolve().name, *folder.relative_to(root).parts]
    if folder == root:  # one case's own folder was asked for: its collection is named by the folder above
        above.insert(0, root.resolve().parent.name)
    for name in reversed(above):
        years = {match["year"] for match in _YEAR.finditer(name)}
        if len(years) == 1:
            return _SCHEMES_BY_YEAR[task][years.pop()]
    return None


def _open_scheme(case_id: str, folder: Path) -> UserError:
    match = _LATER.match(case_id)
    choice = "brats2021, brats2023, ped2024, gli2024 or msd"
    if match and match["task"].lower() in _SCHEMES_BY_YEAR:
        choice = " or ".join(_SCHEMES_BY_YEAR[match["task"].lower()].values())
    return UserError(
        f"{folder}: the names do not tell what the label values of {case_id} mean; "
        f"name their scheme with --labels {choice}"
    )
