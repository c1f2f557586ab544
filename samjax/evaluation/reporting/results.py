"""Writes all files of an evaluation into its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from samjax.data.cache.cases import CachedCase
from samjax.evaluation.collected import VIEWED, Collected
from samjax.evaluation.prompted import PromptedModel
from samjax.evaluation.reporting.comparison_tables import comparison_tables
from samjax.evaluation.reporting.describe import config_of, environment, reported_run, scored_run, viewer_case
from samjax.evaluation.reporting.gallery import draw_gallery
from samjax.evaluation.reporting.paper_tables import paper_tables
from samjax.evaluation.reporting.report import EvaluationReport, write_report
from samjax.evaluation.reporting.result_tables import brief_tables, result_tables
from samjax.evaluation.reporting.rows_csv import write_slices, write_volumes
from samjax.evaluation.reporting.summary_json import summary_of, write_summary
from samjax.evaluation.reporting.tables import write_tables
from samjax.evaluation.slice_rule import SliceRule
from samjax.evaluation.statistics import compare_runs
from samjax.metrics.rows import of_scope
from samjax.runs.config import RunConfig


def write_scores(output: Path, collected: Sequence[Collected]) -> None:
    """Writes slices.csv and volumes.csv with all scores so far; makes the folder if it is missing."""
    output.mkdir(parents=True, exist_ok=True)
    scores = [case for found in collected for case in found.scores]
    write_slices(output / "slices.csv", scores)
    write_volumes(output / "volumes.csv", of_scope(scores, "volume"))


def write_results(
    output: Path,
    collected: Sequence[Collected],
    cases: Sequence[CachedCase],
    rule: SliceRule,
    configs: Mapping[str, RunConfig],
) -> None:
    """Writes summary.json, tables, figures and the report, and shows the main tables on the terminal.

    Args:
        output: the folder, which already holds the scores.
        collected: the scores of each model.
        cases: the cases scored, in order.
        rule: the rule for the slices of the scope `slice`.
        configs: the configuration of each run among the models, by its name.
    """
    tests = compare_runs([case for found in collected for case in found.scores])
    summary = summary_of(collected, rule, tests)
    write_summary(output / "summary.json", summary)

    results, compared = result_tables(summary, rule), comparison_tables(tests)
    alone = [found for found in collected if not isinstance(found.model, PromptedModel) or not found.model.prompted_roi]
    papers = paper_tables([scored_run(found, config_of(found, configs), rule) for found in alone])
    write_tables(output / "tables", [*results, *compared, *papers])
    for table in [*brief_tables(summary, rule), *papers]:
        table.show()

    figures = draw_gallery(output / "figures", collected, cases)
    runs = tuple(reported_run(found, config_of(found, configs)) for found in collected)
    report = EvaluationReport(
        title="samjax: " + ", ".join(run.name for run in runs),
        runs=runs,
        tables=(*results, *papers),
        tests=tuple(compared),
        figures=tuple(figures),
        cases=tuple(viewer_case(case, collected) for case in cases[:VIEWED]),
        environment=environment(),
    )
    write_report(output / "report.html", report)
