"""The tables of paired tests between runs."""

from collections.abc import Iterable

from samjax.evaluation.reporting.tables import Table, number
from samjax.evaluation.statistics import PairedTest

_METRICS = {"dice": "Dice", "hd95": "HD95 (mm, lower is better)"}
_UNITS = {
    "patient": "a pair is a patient",
    "slice": "a pair is a slice, as in paper A (slices of one patient are not independent, so p comes out too small)",
}


def comparison_tables(tests: Iterable[PairedTest]) -> list[Table]:
    """One table for each family of tests."""
    families: dict[tuple, list[PairedTest]] = {}
    for test in tests:
        families.setdefault((test.metric, test.scope, test.unit, test.prompt_source), []).append(test)
    return [_table(members) for members in families.values()]


def _table(tests: list[PairedTest]) -> Table:
    about = tests[0]
    prompts = "no prompts" if about.prompt_source == "none" else "prompts from ground truth"
    caption = (
        f"Wilcoxon signed-rank tests of {_METRICS[about.metric]}, scope {about.scope}; {prompts}; "
        f"{_UNITS[about.unit]}; differences are first - second; Holm's p over a family of {len(tests)}"
    )
    fewest = min(test.result.n - test.result.n_zero for test in tests)
    if fewest < 6:
        caption += f"; of {fewest} differing pairs, no p is below {2 * 0.5**fewest if fewest else 1:.2g}"
    header = (
        "first", "second", "domain", "ROI", "median difference", "rank-biserial r", "n", "equal", "p", "p (Holm)",
    )  # fmt: skip
    digits = 1 if about.metric == "hd95" else 3
    rows = tuple(
        (
            test.first, test.second, test.domain, test.roi,
            f"{test.result.median_difference:+.{digits}f}", f"{test.result.rank_biserial:+.2f}",
            str(test.result.n), str(test.result.n_zero), _p_text(test.result.p), _p_text(test.p_holm),
        )
        for test in tests
    )  # fmt: skip
    return Table(caption, header, rows)


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else number(p)
