"""Prepares the cases of the folders that `--data` names, domain by domain."""

import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from samjax.command_lines import command
from samjax.data.cache.cases import CachedCase, build_cache
from samjax.data.cases import Case
from samjax.data.formats.layouts import Survey, survey
from samjax.data.formats.names import folder_name
from samjax.data.imaging.grids import RunGrid, common_grid, spacing_words
from samjax.data.imaging.volumes import header_geometry
from samjax.data.labels import find_scheme
from samjax.data.needs import Needs, divide, lacking_note
from samjax.data.patient_lists import read_patients, with_patients
from samjax.errors import UserError

PHANTOM = "phantom"
"""The domain of the phantom."""
PHANTOM_CASES = 12
"""Number of cases of the phantom, which is used without --data."""


def named_folders(data: tuple[str, ...]) -> dict[str, Path]:
    """Domain names and folders of `--data` values, each DIR or NAME=DIR; DIR alone is named after the folder."""
    folders: dict[str, Path] = {}
    for text in data:
        name, folder = split_name(text, "--data")
        path = Path(os.path.abspath(folder.expanduser()))
        if not path.exists():
            raise UserError(f"--data {text}: {path} does not exist")
        if name is None:
            name = re.sub(r"[^\w.-]", "_", folder_name(path))
        if name in folders:
            raise UserError(f"--data {text}: the name {name} is used twice; write NAME=DIR with another name")
        folders[name] = path
    return folders


def split_name(text: str, option: str) -> tuple[str | None, Path]:
    """The name and folder of an option's value NAME=DIR; no name where the value is a folder, which may hold "=".

    Raises:
        UserError: the name is empty, or the value can be read both ways.
    """
    name, found, folder = text.partition("=")
    if not found or "/" in name or os.sep in name:
        return None, Path(text)
    if Path(text).exists():
        if Path(folder).expanduser().exists():
            raise UserError(f"{option} {text}: both {text} and {folder} exist; write ./{text} or NAME=./{folder}")
        return None, Path(text)
    if not name:
        raise UserError(f"{option} {text}: the name before '=' is empty")
    return name, Path(folder)


def phantom_cohort(cache_dir: Path, cases: int = PHANTOM_CASES) -> dict[str, Path]:
    """The default data: a generated cohort of adult glioma, written once under `cache_dir`."""
    from samjax.data.synthetic.phantom import write_cohort

    root = cache_dir.expanduser().absolute() / "phantom-brats2023-adult"

    def show(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\rgenerating the phantom cohort: {done} of {total} cases", end=end, file=sys.stderr, flush=True)

    write_cohort(root, "adult", cases, workers=os.cpu_count() or 1, progress=show)
    return {PHANTOM: root}


def list_cases(
    folders: dict[str, Path],
    layout: str | None,
    labels: str | None,
    limit: int | None,
    patients: Path | None = None,
    left_out: list[str] | None = None,
    needs: Sequence[Needs] = (),
) -> list[Case]:
    """The cases of all domains, the first `limit` of each.

    Cases that cannot be used are reported on stderr and skipped.

    Args:
        patients: a CSV file with the patient of each case; see `patient_lists`.
        left_out: takes the reasons why cases are left out, one for each.
        needs: the modalities that models look at; a case that one of these cannot take is left out.

    Raises:
        UserError: a domain has no usable case, or `patients` cannot be used.
    """
    cases = []
    for domain, folder in folders.items():
        found = survey(folder, domain, layout, labels)
        taken, refused = divide(found.cases, needs)
        reasons = [*(f"{problem.path}: {problem.message}" for problem in found.unusable), *refused]
        leave_out(reasons, not taken, left_out)
        _tell_of_ignored(found)
        cases += taken[:limit]
    if note := lacking_note(cases, needs):
        print(f"note: {note}", file=sys.stderr)
    if patients is not None:
        cases, note = with_patients(cases, read_patients(patients), patients)
        if note:
            print(f"note: {note}", file=sys.stderr)
    return cases


def _tell_of_ignored(found: Survey) -> None:
    """Reports on stderr, in one line, the files that look like labels but belong to no case."""
    ignored = [problem for problem in found.problems if problem.ignored]
    if ignored:
        more = f", and {len(ignored) - 1} more files like it" if len(ignored) > 1 else ""
        print(f"note: {ignored[0].path}: {ignored[0].message}{more}", file=sys.stderr)


def scheme_lines(cases: Sequence[Case]) -> list[str]:
    """One line for each domain and label scheme: the scheme, its source, and the number of cases with it."""
    labelled = [case for case in cases if case.label is not None]
    times = Counter((case.domain, case.scheme, case.scheme_source) for case in labelled)
    lines = []
    for (domain, scheme, source), count in times.items():
        where = f"{domain}: " if domain else ""
        ignored = find_scheme(scheme).ignored if scheme else ()
        left_out = f"; value {', '.join(map(str, ignored))} is ignored" if ignored else ""
        lines.append(f"{where}labels: {scheme}, {source or 'as given'} ({count} case{'s' * (count > 1)}{left_out})")
    return lines


def grid_for(cases: Sequence[Case]) -> tuple[RunGrid | None, str | None]:
    """The grid of a run for these cases, from the headers of those that have a label, and a note if it is not theirs.

    It depends on all cases and not on the training patients alone, so that the folds of a cross-validation share it.
    It is None if no header can be read.
    """
    spacings = spacings_of(cases)
    if not spacings:
        return None, None
    grid, alike = common_grid(spacings)
    if alike:
        return grid, None
    finest, coarsest = (spacing_words(choose(spacings, key=lambda one: one[1] * one[2])[1:]) for choose in (min, max))
    return grid, (
        f"the scans' pixels are of {finest} to {coarsest}; all are resampled to {grid.words}, the median "
        "(--spacing takes another)"
    )


def spacings_of(cases: Sequence[Case]) -> list[tuple[float, float, float]]:
    """The spacing (slices, rows, columns) in mm of each case that has a label, from its header if that can be read."""
    spacings = []
    for case in cases:
        with suppress(UserError):  # reported when the case is read
            if case.label is not None:
                spacings.append(header_geometry(case).spacing)
    return spacings


def prepare(
    cases: list[Case],
    cache_dir: Path | None,
    workers: int | None = None,
    left_out: list[str] | None = None,
    grid: RunGrid | None = None,
) -> list[CachedCase]:
    """Prepares cases through the slice cache, or in memory if `cache_dir` is None.

    Cases that cannot be used are reported on stderr and skipped. With a `grid`, those on another one are resampled.

    Raises:
        UserError: none can be used.
    """
    directory = cache_dir.expanduser().absolute() / "slices" if cache_dir is not None else None
    good, failures = build_cache(cases, directory, workers=workers, progress=sys.stderr.isatty(), grid=grid)
    leave_out([failure.reason for failure in failures], not good, left_out)
    return good


def leave_out(reasons: list[str], everything: bool, left_out: list[str] | None) -> None:
    """Reports on stderr why cases are skipped, and adds the reasons to `left_out`.

    Raises:
        UserError: the reasons concern `everything`, so that no case is left.
    """
    if everything and reasons:
        more = f" (and {len(reasons) - 1} more cases like it)" if len(reasons) > 1 else ""
        raise UserError(reasons[0] + more)
    for reason in reasons:
        print(f"left out: {reason}", file=sys.stderr)
    if left_out is not None:
        left_out += reasons


def require_labels(cases: list[CachedCase], left_out: list[str] | None = None) -> list[CachedCase]:
    """The labelled cases; the others, and each domain's label scheme, are reported on stderr.

    A case whose label ignores every voxel counts as unlabelled: there is nothing to train on or to score.

    Raises:
        UserError: none has a label.
    """
    if not any(case.labelled for case in cases):
        raise UserError(f"{cases[0].case.files[0].parent}: no case has a label file; {command('predict')} needs none")
    reasons = [f"{case.case.id} has no label" for case in cases if not case.labelled]
    ignored = [case for case in cases if case.labelled and not case.counts.any()]
    reasons += [f"{case.case.label}: all of its voxels are of values that are ignored" for case in ignored]
    labelled = [case for case in cases if case.labelled and case.counts.any()]
    leave_out(reasons, not labelled, left_out)
    for line in scheme_lines([case.case for case in labelled]):
        print(line, file=sys.stderr)
    return labelled
