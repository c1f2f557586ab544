"""`python -m samjax.data.check DIR`: reads every file of every case and lists what is wrong with which.

Exit code 0: all cases are usable; 1: some are not; 2: the folder or an option is wrong.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from samjax.cli.process import run_command
from samjax.data.case_check import check_case
from samjax.data.cases import Case, Problem
from samjax.data.formats.layouts import survey
from samjax.data.loading.progress import processed
from samjax.files import replacing


@dataclass(frozen=True)
class Options:
    """The command line.

    Attributes:
      dir: the folder of cases.
      layout: brats, msd or nnunet; by default recognised by what is there.
      labels: the scheme of the label values, where names and dataset.json do not tell it: brats2021,
        brats2023, ped2024, gli2024, msd, or spelled out as edema=2,non-enhancing=1,enhancing=4.
      json: a file to write all findings to.
      workers: processes; by default one a core.
    """

    dir: tyro.conf.Positional[Path]
    layout: str | None = None
    labels: str | None = None
    json: Path | None = None
    workers: int | None = None


@dataclass(frozen=True)
class CheckReport:
    """What a check found: the cases that could be looked at, and all problems, sorted by case and file."""

    root: Path
    cases: list[Case]
    problems: list[Problem]

    @property
    def unusable(self) -> list[str]:
        """The ids of the cases that cannot be used, sorted."""
        return sorted({problem.case for problem in self.problems if problem.unusable})

    @property
    def total(self) -> int:
        """How many cases there are, usable or not."""
        return len({case.id for case in self.cases} | set(self.unusable))

    def to_json(self) -> dict[str, Any]:
        """What `--json` writes."""
        return {
            "root": str(self.root),
            "cases": self.total,
            "labelled": sum(case.label is not None for case in self.cases),
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
) -> CheckReport:
    """Checks all cases under `root`; arguments as for `layouts.find_cases` and `cache.build_cache`.

    Raises:
      UserError: no cases are found, or it is open what their labels mean.
    """
    found = survey(root, layout=layout, labels=labels)
    problems = list(found.problems)
    for more in processed(check_case, found.cases, "checking", workers, progress):
        problems += more
    return CheckReport(root, found.cases, sorted(problems, key=lambda problem: (problem.case, str(problem.path))))


def main() -> None:
    """The command."""
    options = tyro.cli(Options, prog="python -m samjax.data.check", description=__doc__)
    report = check(options.dir, options.layout, options.labels, options.workers)
    if options.json is not None:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    _show(report)
    sys.exit(1 if report.unusable else 0)


def _show(report: CheckReport) -> None:
    """Prints the table of problems and one line that sums up."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=False)
    if report.problems:
        table = Table("case", "file", "problem", title=str(report.root), show_lines=False)
        for problem in report.problems:
            doubt = "" if problem.unusable else "(usable) "
            table.add_row(problem.case, problem.path.name, doubt + problem.message)
        console.print(table)
    labelled = sum(case.label is not None for case in report.cases)
    bad = len(report.unusable)
    verdict = f"{bad} cannot be used" if bad else "all can be used"
    console.print(f"{report.total} cases, {labelled} of them with a label: {verdict}.")


if __name__ == "__main__":
    run_command(main)
