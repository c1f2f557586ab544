"""Finding the cases under a folder, whatever layout it has.

BraTS (any year), Decathlon and nnU-Net raw folders are recognised by what is there; see
`brats_layout` and `dataset_json_layout` for what each looks like.
"""

from dataclasses import dataclass
from pathlib import Path

from samjax.commands import command
from samjax.data.cases import MODALITIES, Case, Problem, Source
from samjax.data.formats.brats import find_brats, walk
from samjax.data.formats.dataset_json import DESCRIPTION, description_of, find_described
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
    """What a folder holds: the cases that look usable, sorted by id, and what is wrong with the others."""

    cases: list[Case]
    problems: list[Problem]


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
      domain: the name that the cases carry as theirs.
      layout: one of `LAYOUTS`, or None to recognise it.
      labels: the scheme of the label values (`labels.find_scheme`), or None to go by names and dataset.json.
      read_labels: False treats all cases as unlabelled, so that nothing about labels can be wrong.

    Raises:
      UserError: nothing is found, a case lacks a modality, or its label scheme is open.
    """
    found = survey(root, domain, layout, labels, read_labels)
    if found.problems:
        first, *others = found.problems
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
    """As `find_cases`, but cases that cannot be used are returned as problems instead of raised."""
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
    if not cases and not problems:
        raise _nothing_found(root)
    repeated = _repeated(cases)
    cases = sorted((case for case in cases if case.id not in {p.case for p in repeated}), key=lambda case: case.id)
    return Survey(cases, problems + repeated)


def _case_of_file(path: Path, domain: str, layout: str | None, labels: str | None, read_labels: bool) -> Survey:
    found = survey(path.parent, domain, layout, labels, read_labels)
    own = [case for case in found.cases if path in case.files]
    if own:
        return Survey(own, [])
    problems = [problem for problem in found.problems if path.name.startswith(problem.case)]
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
            folders = " and ".join(str(one.images["t1"].path.parent) for one in (other, case))
            message = f"case {case.id}: found twice, in {folders}; keep one"
            problems.append(Problem(case.id, case.images["t1"].path.parent, message))
    return problems


def _nothing_found(root: Path) -> UserError:
    total = sum(len(names) for _, names in walk(root))
    what = f"none of its {total} NIfTI files is named as a case's" if total else "it holds no NIfTI files"
    return UserError(
        f"{root}: no cases found, {what}; expected BraTS files (ID_t1ce.nii.gz or ID-t1c.nii.gz, ...) or a "
        f"Decathlon or nnU-Net folder with {DESCRIPTION} and imagesTr"
    )
