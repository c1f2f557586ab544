"""Finds the cases under a folder in any of the layouts.

BraTS (any year), Decathlon and nnU-Net raw folders are recognised by their files; see `brats` and `dataset_json`
for the layouts.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from samjax.command_lines import command
from samjax.data.cases import MODALITIES, Case, Problem, Source, lacking_problem
from samjax.data.formats.brats import find_brats, unread_format
from samjax.data.formats.dataset_json import description_of, find_described
from samjax.data.formats.dataset_json_labels import DESCRIPTION
from samjax.data.formats.names import image_name, label_name, nifti_stem, other_format_stem
from samjax.data.formats.scan_files import walk
from samjax.data.labels import find_scheme
from samjax.errors import UserError

__all__ = [
    "LAYOUTS",
    "MODALITIES",
    "Case",
    "Problem",
    "Source",
    "Survey",
    "find_cases",
    "survey",
]

LAYOUTS = ("brats", "msd", "nnunet")


@dataclass(frozen=True)
class Survey:
    """The cases of a folder that look usable, sorted by id, and the problems of the others.

    The problems include modalities that a case lacks, and segmentations that are no case's label; these make no case
    unusable.
    """

    cases: list[Case]
    problems: list[Problem]

    @property
    def unusable(self) -> list[Problem]:
        """The problems of cases that cannot be used."""
        return [problem for problem in self.problems if problem.unusable]


def find_cases(
    root: Path | str,
    domain: str = "",
    layout: str | None = None,
    labels: str | None = None,
    read_labels: bool = True,
) -> list[Case]:
    """The cases under `root`, sorted by id; labels may be absent.

    Args:
      root: a folder of cases, one case's folder, or one NIfTI file of a case. Of a Decathlon or
        nnU-Net dataset imagesTr is read; point at its imagesTs for the others.
      domain: the domain of the cases.
      layout: one of `LAYOUTS`; None: recognised.
      labels: the scheme of the label values (`labels.find_scheme`); None: from names and dataset.json.
      read_labels: False treats all cases as unlabelled, so that nothing about labels can be wrong.

    Raises:
      UserError: nothing is found, a case cannot be used, or its label scheme is not known.
    """
    return all_usable(survey(root, domain, layout, labels, read_labels), root)


def all_usable(found: Survey, root: Path | str) -> list[Case]:
    """The cases of a survey of `root`; a `UserError` if one cannot be used."""
    if found.unusable:
        first, *others = found.unusable
        more = f"; {len(others)} more such: {command('check', root)} lists them" if others else ""
        raise UserError(f"{first.path}: {first.message}{more}")
    return found.cases


def survey(
    root: Path | str,
    domain: str = "",
    layout: str | None = None,
    labels: str | None = None,
    read_labels: bool = True,
) -> Survey:
    """Does the same as `find_cases`, but returns cases that cannot be used as problems instead of raising errors."""
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root}: no such file or folder")
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"--layout {layout}: expected one of {', '.join(LAYOUTS)}")
    if labels is not None:
        find_scheme(labels)
    if root.is_file():
        return _case_of_file(root, domain, layout, labels, read_labels)
    description = None if layout == "brats" else description_of(root)
    if description is not None:
        cases, problems = find_described(root, description, domain, layout, labels, read_labels)
    elif layout in ("msd", "nnunet"):
        raise UserError(f"{root}: --layout {layout} needs a {DESCRIPTION} beside an images folder; there is none")
    else:
        cases, problems = find_brats(root, domain, labels, read_labels)
    if not cases and not any(problem.unusable for problem in problems):
        raise _nothing_found(root)
    repeated = _repeated(cases) or _shared_files(cases)
    cases = sorted((case for case in cases if case.id not in {p.case for p in repeated}), key=lambda case: case.id)
    lacking = [problem for case in cases if (problem := lacking_problem(case))]
    return Survey(cases, problems + repeated + lacking)


def _case_of_file(path: Path, domain: str, layout: str | None, labels: str | None, read_labels: bool) -> Survey:
    found = survey(path.parent, domain, layout, labels, read_labels)
    own = [case for case in found.cases if path in case.files]
    if own:
        return Survey(own, [])
    problems = [problem for problem in found.unusable if path.name.startswith(problem.case) or path == problem.path]
    if not problems:
        raise UserError(f"{path}: not a file of any case found in {path.parent}")
    return Survey([], problems)


def _repeated(cases: list[Case]) -> list[Problem]:
    """Every case whose id another case under the same root has too."""
    first: dict[str, Case] = {}
    problems = []
    for case in cases:
        other = first.setdefault(case.id, case)
        if other is not case:
            folders = " and ".join(str(one.reference.path.parent) for one in (other, case))
            message = f"case {case.id}: found twice, in {folders}; keep one"
            problems.append(Problem(case.id, case.reference.path.parent, message))
    return problems


def _shared_files(cases: list[Case]) -> list[Problem]:
    """Every case one of whose images is that of another case or modality under a second name: a link, mostly."""
    seen: dict[tuple[int, int, int | None], tuple[Case, Source]] = {}
    problems = []
    for case in cases:
        for source in case.images.values():
            try:
                status = os.stat(source.path)
            except OSError:
                continue  # said when the file is read
            other, first = seen.setdefault((status.st_dev, status.st_ino, source.channel), (case, source))
            if first is not source:
                message = f"case {case.id}: the same file as {first.path} of {other.id} (a link); keep one"
                problems += [Problem(name, source.path, message) for name in {case.id, other.id}]
                break
    return problems


def _nothing_found(root: Path) -> UserError:
    files = [folder / name for folder, names in walk(root) for name in names]
    stems = [stem for path in files if (stem := nifti_stem(path.name))]
    unread = [path for path in files if image_name(other_format_stem(path.name) or "")]
    expected = (
        "expected BraTS files (ID_t1ce.nii.gz or ID-t1c.nii.gz, ...) or a "
        f"Decathlon or nnU-Net folder with {DESCRIPTION} and imagesTr"
    )
    if stems and all(label_name(stem) for stem in stems):
        what, expected = f"its {len(stems)} NIfTI files are labels", "point at a folder that holds the scans too"
    elif stems:
        what = f"none of its {len(stems)} NIfTI files is named as a case's"
    elif unread:
        what, expected = f"it holds no NIfTI files; {unread_format(unread[0])}", f"{len(unread)} such files are there"
    else:
        what = "it holds no NIfTI files"
    return UserError(f"{root}: no cases found, {what}; {expected}")
