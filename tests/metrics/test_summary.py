"""Summaries over cases: the mean, the mean of the non-empty beside it, and the interval of the mean."""

import numpy as np
import pytest

from samjax.metrics.summary import Summary, summarise


def test_by_hand():
    # Two empty cases count 1 in the mean and not in the other.
    summary = summarise([1.0, 0.5, 1.0, 0.7], [False, True, False, True])
    assert summary.mean == pytest.approx(0.8)
    assert summary.n == 4
    assert summary.mean_nonempty == pytest.approx(0.6)
    assert summary.n_nonempty == 2
    assert summary.sd == pytest.approx(((0.2**2 + 0.3**2 + 0.2**2 + 0.1**2) / 3) ** 0.5)


def test_interval_of_two_values():
    # A sample of two is (0, 0), (0, 1), (1, 0) or (1, 1): a quarter of the means is 0, a quarter 1.
    assert summarise([0.0, 1.0], [True, True]).ci95 == (0.0, 1.0)


def test_interval_covers_the_mean_of_a_normal():
    values = np.random.default_rng(3).normal(5.0, 2.0, 400)
    low, high = summarise(values, np.ones(400, bool)).ci95
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_interval_repeats_with_its_seed():
    values, every = np.random.default_rng(4).random(30), np.ones(30, bool)
    assert summarise(values, every) == summarise(values, every)
    assert summarise(values, every).ci95 != summarise(values, every, seed=1).ci95


def test_patients_are_drawn_whole():
    # Copies of a case add nothing: with the patients named, forty slices say no more than four.
    values, patients = [0.2, 0.4, 0.6, 0.9], ["a", "b", "c", "d"]
    once = summarise(values, [True] * 4, patients)
    often = summarise(values * 10, [True] * 40, patients * 10)
    assert often.ci95 == pytest.approx(once.ci95)
    low, high = summarise(values * 10, [True] * 40).ci95
    assert high - low < 0.5 * (once.ci95[1] - once.ci95[0])


def test_patients_weigh_by_their_cases():
    # Patient a has a hundred cases of 1, nineteen others one case of 0. Of 20 draws patient a is in none with
    # probability 0.36, in at most two with 0.92 and in at most three with 0.98.
    patients = ["a"] * 100 + list("bcdefghijklmnopqrst")
    summary = summarise([1.0] * 100 + [0.0] * 19, [True] * 119, patients)
    assert summary.mean == pytest.approx(100 / 119)
    assert summary.ci95 == pytest.approx((0.0, 300 / (300 + 17)))


def test_too_few_cases():
    assert summarise([], []) == Summary(None, None, None, 0, None, 0)
    assert summarise([0.7], [True]) == Summary(0.7, None, None, 1, 0.7, 1)
    assert summarise([1.0, 1.0], [False, False]).mean_nonempty is None
    assert summarise([0.7, 0.8], [True, True], ["a", "a"]).ci95 is None


@pytest.mark.parametrize(
    ("values", "nonempty", "message"),
    [
        ([0.5, np.nan], [True, True], "finite"),
        ([0.5, 0.6], [True], "two lists of equal length"),
        ([[0.5]], [[True]], "two lists of equal length"),
    ],
)
def test_refuses_other_values(values, nonempty, message):
    with pytest.raises(ValueError, match=message):
        summarise(values, nonempty)


def test_refuses_other_patients():
    with pytest.raises(ValueError, match="2 values with 3 patients"):
        summarise([0.5, 0.6], [True, True], ["a", "b", "c"])
