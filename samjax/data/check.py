"""Reads every file of every case of a folder and lists the problems of each (`samjax check`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from samjax.data.case_check import check_case
from samjax.data.cases import Case, Problem
from samjax.data.cohort import scheme_lines
from samjax.data.formats.layouts import survey
from samjax.data.imaging.doubts import Ranges
from samjax.data.imaging.grids import RunGrid
from samjax.data.loading.progress import map_with_progress
from samjax.data.needs import Needs


@dataclass(frozen=True)
class CheckReport:
    """Result of a check: the cases that could be read, and all problems, sorted by case and file."""

    root: Path
    cases: list[Case]
    problems: list[Problem]

    @property
    def unusable(self) -> list[str]:
        """The ids of the cases that cannot be used, sorted."""
        return sorted({problem.case for problem in self.problems if problem.unusable})

    @property
    def total(self) -> int:
        """The number of cases, usable or not."""
        return len({case.id for case in self.cases} | set(self.unusable))

    @property
    def ignored(self) -> list[Problem]:
        """The files that look like labels but belong to no case; they make no case unusable."""
        return [problem for problem in self.problems if problem.ignored]

    @property
    def schemes(self) -> list[str]:
        """Lines with the label scheme of each domain and its source."""
        return scheme_lines(self.cases)

    def to_json(self) -> dict[str, Any]:
        """The findings, as `samjax check --json` writes them."""
        return {
            "root": str(self.root),
            "cases": self.total,
            "labelled": sum(case.label is not None for case in self.cases),
            "labels": self.schemes,
            "unusable": self.unusable,
            "problems": [
                {
                    "case": problem.case,
                    "file": str(problem.path),
                    "problem": problem.message,
                    "unusable": problem.unusable,
                }
                for problem in self.problems
            ],
        }


def check(
    root: Path,
    layout: str | None = None,
    labels: str | None = None,
    workers: int | None = None,
    progress: bool = True,
    ranges: Ranges | None = None,
    needs: Sequence[Needs] = (),
    grid: RunGrid | None = None,
) -> CheckReport:
    """Checks all cases under `root`; arguments as for `layouts.find_cases`, `cache.build_cache` and `check_case`.

    A case that lacks a modality is unusable only if it is one that `needs` name.

    Raises:
      UserError: no cases are found, or their label scheme is not known.
    """
    found = survey(root, layout=layout, labels=labels)
    refused = _refused(found.cases, needs)
    worse = {problem.case for problem in refused}
    problems = [problem for problem in found.problems if problem.unusable or problem.case not in worse] + refused
    step = partial(check_case, ranges=ranges, grid=grid)
    for more in map_with_progress(step, found.cases, "checking", workers, progress):
        problems += more
    return CheckReport(root, found.cases, sorted(problems, key=lambda problem: (problem.case, str(problem.path))))


def _refused(cases: Sequence[Case], needs: Sequence[Needs]) -> list[Problem]:
    """The problems of cases that lack modalities which models need."""
    return [
        Problem(case.id, case.reference.path.parent, reason)
        for case in cases
        for one in needs
        if (reason := one.refusal(case.modalities))
    ]
