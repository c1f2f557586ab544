"""Paired tests: SciPy's p-values, Holm's procedure, what may be paired, and differences that are ties or zero."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import scipy.stats

from samjax.errors import UserError
from samjax.evaluation.statistics import holm, paired_tests, pairs, signed_rank
from tests.evaluation.rows import row, scored


def sign_flips(differences: np.ndarray) -> float:
    """The two-sided p of Pratt's ranks by going over all signs, written plainly."""
    ranks = scipy.stats.rankdata(np.abs(differences)) * (differences != 0)
    observed = ranks[differences > 0].sum()
    sums = [np.dot(ranks, signs) for signs in product((0, 1), repeat=len(ranks))]
    below, above = (np.mean([compare(x, observed) for x in sums]) for compare in (np.less_equal, np.greater_equal))
    return min(1.0, 2 * min(below, above))


def test_a_planted_difference_has_scipys_p_value():
    rng = np.random.default_rng(0)
    worse = rng.uniform(0.4, 0.8, 20)
    better = worse + rng.normal(0.03, 0.05, 20)
    (found,) = paired_tests(scored("b", better) + scored("a", worse), scope="volume")
    assert (found.first, found.second, found.prompt_source, found.family) == ("b", "a", "ground truth", 1)
    expected = scipy.stats.wilcoxon(better, worse)
    assert found.result.p == found.p_holm == pytest.approx(expected.pvalue, rel=1e-12)
    assert 0 < found.result.p < 0.05
    assert found.result.statistic == expected.statistic
    assert found.result.method == "exact"
    assert found.result.median_difference == pytest.approx(np.median(better - worse), abs=1e-9)
    assert found.result.rank_biserial == pytest.approx(1 - 2 * expected.statistic / (20 * 21 / 2))


def test_many_pairs_take_the_normal_approximation():
    rng = np.random.default_rng(1)
    first, second = rng.random(60), rng.random(60)
    found = signed_rank(first, second)
    assert found.method == "normal approximation"
    assert found.p == pytest.approx(scipy.stats.wilcoxon(first, second, method="asymptotic").pvalue, rel=1e-9)
    assert signed_rank(first[:50], second[:50]).method == "exact"


@pytest.mark.parametrize(
    "differences",
    [[0.1, 0.1, 0.1, -0.1, 0.2], [0, 0, 0.1, 0.2, -0.3, 0.4], [0, 0.1], [0.5], [0.3, 0.3, 0, 0, 0, 0, -0.1, 0.2, 0.4]],
)
def test_ties_and_zeros_of_few_pairs_are_exact(differences):
    found = signed_rank(differences, np.zeros(len(differences)))
    assert found.p == pytest.approx(sign_flips(np.array(differences)))
    assert found.n_zero == differences.count(0)
    assert found.method == ("exact" if len(differences) == 1 else "exact by permutation")


def test_as_many_pairs_as_are_permuted_are_gone_over_completely():
    differences = np.array([0, 1, 1, 2, 3, 3, -3, 4, 5, -6, 7, 8, -2]) / 10
    assert signed_rank(differences, 0 * differences).p == pytest.approx(sign_flips(differences))


def test_ties_and_zeros_of_more_pairs_are_nearly_exact():
    differences = np.random.default_rng(5).integers(-3, 6, 14) / 10
    assert 0 < (differences == 0).sum() < 5
    found = signed_rank(differences, 0 * differences)
    assert found.method == "normal approximation"
    assert found.p == pytest.approx(sign_flips(differences), rel=0.1)


def test_rounding_errors_break_no_tie():
    found = signed_rank([0.3, 0.8, 0.5], [0.2, 0.7, 0.6])  # 0.1 each, in binary all of them others
    assert len({0.3 - 0.2, 0.8 - 0.7, 0.6 - 0.5}) > 1
    assert (found.method, found.rank_biserial) == ("exact by permutation", pytest.approx(1 / 3))


def test_identical_runs_do_not_differ():
    dice = np.random.default_rng(2).random(9)
    (found,) = paired_tests(scored("a", dice) + scored("b", dice), scope="volume")
    assert (found.result.n, found.result.n_zero, found.result.p, found.p_holm) == (9, 9, 1.0, 1.0)
    assert (found.result.rank_biserial, found.result.median_difference) == (0.0, 0.0)


@pytest.mark.parametrize("zeros", [0, 4])
def test_swapping_the_runs_flips_the_signs_alone(zeros):
    rng = np.random.default_rng(3)
    first, second = rng.random((2, 25))
    first[:zeros] = second[:zeros]
    one, other = signed_rank(first, second), signed_rank(second, first)
    assert one.rank_biserial != 0
    assert other == replace(one, median_difference=-one.median_difference, rank_biserial=-one.rank_biserial)


def test_rank_biserial_by_hand():
    # Ranks 1 and 2 of ten are against the first.
    assert signed_rank([3, 4, 0, 0], [0, 0, 1, 2]).rank_biserial == pytest.approx((7 - 3) / 10)
    assert signed_rank([3, 4, 1], [0, 0, 0]).rank_biserial == 1.0


def test_holm_by_hand():
    # Times 4, 3, 2 and 1 in rising order, never falling: 0.02, 0.06, 0.06 and 0.06.
    assert holm([0.03, 0.005, 0.04, 0.02]) == pytest.approx([0.06, 0.02, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_family_is_all_pairs_of_all_domains():
    rng = np.random.default_rng(4)
    rows = [
        line
        for domain in ("adult", "sub-saharan")
        for run, shift in (("a", 0.0), ("b", 0.1), ("c", 0.3))
        for line in scored(run, rng.random(12) + shift, domain=domain)
    ]
    tests = paired_tests(rows, scope="volume")
    assert [(t.domain, t.first, t.second) for t in tests] == [
        (domain, *pair) for domain in ("adult", "sub-saharan") for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    assert [t.p_holm for t in tests] == holm([t.result.p for t in tests])
    assert {t.family for t in tests} == {6}


def test_runs_with_and_without_prompts_are_never_paired():
    rng = np.random.default_rng(5)
    rows = [
        line
        for run, prompt in (("box", "box"), ("clicks", "point, 3 clicks"), ("unet", "none"), ("free", "none"))
        for line in scored(run, rng.random(6), prompt=prompt)
    ]
    tests = paired_tests(rows, scope="volume")
    assert [(t.first, t.second, t.prompt_source, t.family) for t in tests] == [
        ("box", "clicks", "ground truth", 1),
        ("unet", "free", "none", 1),
    ]
    with pytest.raises(UserError, match="box and unet: prompts 'box' and 'none'"):
        pairs(rows[:6], rows[12:18])


def test_a_patients_scans_and_slices_come_together():
    rows = [row("a", "p", 0.6), row("a", "p", 0.9, scan=1), row("a", "q", 0.5)]
    other = [row("b", "q", 0.4), row("b", "p", 0.2), row("b", "p", 0.4, scan=1)]
    first, second = pairs(rows, other)
    assert first.tolist() == pytest.approx([0.75, 0.5])
    assert second.tolist() == pytest.approx([0.3, 0.4])
    assert pairs(rows, other, metric="hd95")[0].tolist() == pytest.approx([2.5, 5.0])


def test_patients_of_one_name_in_two_domains_are_two():
    rows = [row(run, "p", 0.5, domain=domain) for run in "ab" for domain in ("adult", "pediatric")]
    assert len(pairs(rows[:2], rows[2:])[0]) == 2


def test_by_slice_each_slice_is_a_pair():
    rows = [row(run, "p", value, z=z) for run, value in (("a", 0.5), ("b", 0.7)) for z in range(4)]
    (by_slice,) = paired_tests(rows, scope="slice", unit="slice")
    (by_patient,) = paired_tests(rows, scope="slice")
    assert (by_slice.result.n, by_patient.result.n) == (4, 1)
    assert (by_slice.result.p, by_patient.result.p) == (pytest.approx(0.125), 1.0)


def test_other_cases_are_refused():
    rows = scored("a", np.array([0.5, 0.6])) + scored("b", np.array([0.5]))
    with pytest.raises(UserError, match=r"^b: no score of patient adult/p01, which a has \(1 such\)"):
        paired_tests(rows, scope="volume")
    with pytest.raises(UserError, match="finite"):
        signed_rank([np.nan], [0.5])
    with pytest.raises(ValueError, match="do not go together"):
        paired_tests(rows, scope="slice")
    with pytest.raises(ValueError, match="do not go together"):
        paired_tests(scored("a", np.ones(2)), scope="volume", unit="slice")


def test_nothing_to_compare():
    assert paired_tests([], scope="volume") == []
    assert paired_tests(scored("a", np.ones(3)), scope="volume") == []


def test_json_is_flat_and_plain():
    (found,) = paired_tests(scored("a", np.ones(3)) + scored("b", np.arange(3) / 4), scope="volume", metric="hd95")
    written = json.loads(json.dumps(found.to_json()))
    assert (
        written.items() >= {"metric": "hd95", "unit": "patient", "first": "a", "n": 3, "p": 0.25, "family": 1}.items()
    )
    assert written["median_difference"] == pytest.approx(-7.5)
    assert all(not isinstance(value, dict | list) for value in written.values())
