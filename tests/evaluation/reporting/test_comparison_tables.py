"""The tables of paired tests: one for each family, and what their captions say."""

import numpy as np

from samjax.evaluation.reporting.comparison_tables import comparison_tables
from samjax.evaluation.statistics import paired_tests
from tests.evaluation.rows import row, scored


def test_the_caption_says_that_slices_are_not_independent():
    rows = [row(run, "p", value, z=z) for run, value in (("a", 0.5), ("b", 0.7)) for z in range(4)]
    (table,) = comparison_tables(paired_tests(rows, scope="slice", unit="slice"))
    assert "slices of one patient are not independent" in table.caption


def test_no_tests_no_tables():
    assert comparison_tables([]) == []


def test_tables_hold_one_family_each():
    rng = np.random.default_rng(6)
    rows = [
        line
        for run, prompt in (("a", "box"), ("b", "point"), ("c", "none"), ("d", "none"))
        for line in scored(run, rng.random(4), prompt=prompt)
    ]
    tests = paired_tests(rows, scope="volume") + paired_tests(rows, scope="volume", metric="hd95")
    tables = comparison_tables(tests)
    assert [len(table.rows) for table in tables] == [1, 1, 1, 1]
    assert "prompts from ground truth; a pair is a patient" in tables[0].caption
    assert "of 4 differing pairs, no p is below 0.12" in tables[0].caption
    assert "HD95 (mm, lower is better), scope volume; no prompts" in tables[3].caption
    assert all(len(line) == len(table.header) for table in tables for line in table.rows)


def test_small_p_values_are_shown_as_small():
    first = np.linspace(0.6, 0.9, 20)
    (table,) = comparison_tables(paired_tests(scored("a", first) + scored("b", first**2), scope="volume"))
    assert table.rows[0][-2:] == ("< 0.001", "< 0.001")
    assert "no p is below" not in table.caption
