"""The cases of `--input`, treated as if none had a label, and the scheme in which their predictions are written."""

from collections.abc import Sequence
from pathlib import Path

from samjax.data.cases import Case
from samjax.data.formats.layouts import Survey, survey
from samjax.data.imaging.geometry import Geometry
from samjax.data.imaging.volumes import header_geometry
from samjax.errors import UserError
from samjax.runs.folder import read_config


def find_inputs(paths: Sequence[Path], layout: str | None, labels: str | None) -> tuple[list[Case], list[str]]:
    """The cases under folders, and those of single files, by id; and the reasons why others cannot be used.

    Files of one folder are read together, so that a case's label may be given with its scans.

    Raises:
        UserError: no case can be used, or two have the same id.
    """
    surveys = [survey(path, "", layout, labels, read_labels=False) for path in paths if not path.is_file()]
    files = [path for path in paths if path.is_file()]
    for folder in dict.fromkeys(path.parent for path in files):
        surveys.append(_of_files([path for path in files if path.parent == folder], layout, labels))
    reasons = [f"{problem.path}: {problem.message}" for one in surveys for problem in one.problems if problem.unusable]
    by_id: dict[str, Case] = {}
    for case in (case for one in surveys for case in one.cases):
        other = by_id.setdefault(case.id, case)
        if other.files != case.files:
            raise UserError(f"{case.files[0]}: a case {case.id} is in {other.files[0].parent} too; give one of them")
    if not by_id:
        if not reasons:
            raise UserError("--input: names nothing; give a case's folder, a folder of cases, or files")
        raise UserError(one_line(reasons))
    return sorted(by_id.values(), key=lambda case: case.id), reasons


def _of_files(paths: Sequence[Path], layout: str | None, labels: str | None) -> Survey:
    found = survey(paths[0].parent, "", layout, labels, read_labels=False)
    own = [case for case in found.cases if set(paths) & set(case.files)]
    return Survey(own, []) if own else survey(paths[0], "", layout, labels, read_labels=False)


def one_line(reasons: Sequence[str]) -> str:
    """The first of several reasons, and the number of others."""
    return reasons[0] + (f" (and {len(reasons) - 1} more cases left out)" if len(reasons) > 1 else "")


def schemes_of(cases: Sequence[Case], run: Path) -> dict[str, str]:
    """The label scheme of each case: from its names, else that of the first domain that the run was trained on."""
    fallback = training_scheme(run) if any(case.scheme is None for case in cases) else ""
    return {case.id: case.scheme or fallback for case in cases}


GENERATED_SCHEME = "brats2023"
"""The scheme in which a run that was trained on no scans writes its labels, where nothing else names one."""


def training_scheme(run: Path) -> str:
    """The label scheme of the first domain that a run was trained on; that of BraTS 2023 where it was trained on none.

    Raises:
        UserError: neither its options nor the names of its data, if these still exist, give the scheme.
    """
    config = read_config(run)
    if config.options.labels is not None:
        return config.options.labels
    if not config.data:
        return GENERATED_SCHEME
    folder = Path(next(iter(config.data.values())))
    if folder.exists():
        cases = survey(folder, "", config.options.layout, None, read_labels=False).cases
        if scheme := next((case.scheme for case in cases if case.scheme is not None), None):
            return scheme
    raise UserError(
        f"--labels: neither the names of the input tell what label values to write nor {folder}, which {run} was "
        "trained on; name the scheme with --labels (in Python labels=), such as brats2023"
    )


def geometries_of(cases: Sequence[Case]) -> tuple[dict[str, Geometry], list[str]]:
    """The geometry of each case from its first scan's header, and the reasons why others have none."""
    found, reasons = {}, []
    for case in cases:
        try:
            found[case.id] = header_geometry(case)
        except UserError as error:
            reasons.append(str(error))
    return found, reasons
