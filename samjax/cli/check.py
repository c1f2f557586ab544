"""`samjax check`: whether every case of a folder can be used.

Exit code 0: all cases are usable; 1: some are not; 2: the folder or an option is wrong.
"""

import json
import sys

from rich.console import Console
from rich.table import Table

from samjax.data.check import CheckReport, check
from samjax.data.imaging.doubts import read_ranges
from samjax.files import replacing
from samjax.options import CheckOptions
from samjax.runs.config import needs_of
from samjax.runs.folder import find_model, grid_of, read_config


def main(options: CheckOptions) -> None:
    """Checks a folder and prints what it found."""
    ranges, grid, needs = None, None, []
    if options.run:
        run = find_model(options.run)
        config = read_config(run)
        ranges, grid, needs = read_ranges(run), grid_of(run, config), [needs_of(config.options, run.resolve().name)]
    report = check(options.dir, options.layout, options.labels, options.workers, ranges=ranges, needs=needs, grid=grid)
    if options.json is not None:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    _show(report)
    sys.exit(1 if report.unusable else 0)


def _show(report: CheckReport) -> None:
    """Prints the table of problems and one line that sums up."""
    console = Console(highlight=False, soft_wrap=False, markup=False)
    problems = [problem for problem in report.problems if not problem.ignored]
    if problems:
        table = Table("case", "file", "problem", title=str(report.root), show_lines=False)
        for problem in problems:
            doubt = "" if problem.unusable else "(usable) "
            table.add_row(problem.case, problem.path.name, doubt + problem.message)
        console.print(table)
    for problem in report.ignored:
        console.print(f"{problem.path}: {problem.message}", soft_wrap=True)
    for line in report.schemes:
        console.print(line, soft_wrap=True)
    labelled = sum(case.label is not None for case in report.cases)
    bad = len(report.unusable)
    verdict = f"{bad} cannot be used" if bad else "all can be used"
    console.print(f"{report.total} cases, {labelled} of them with a label: {verdict}.")
