"""Models against the baselines beside them: paired by patient, on shared cases alone, and who counts as better."""

from dataclasses import replace

import numpy as np
import pytest

from samjax.evaluation.rivals import AgainstBaseline, against_baselines
from samjax.evaluation.statistics import signed_rank
from samjax.metrics.rows import CaseScores
from tests.evaluation.rows import scored


def volumes(run: str, dice: list[float], **about) -> list[CaseScores]:
    return [CaseScores((), (), row) for row in scored(run, np.array(dice), prompt="none", **about)]


def only(ours: list[CaseScores], theirs: list[CaseScores]) -> AgainstBaseline:
    (found,) = against_baselines(ours, {"rule": theirs})
    return found


def test_a_model_that_is_better_everywhere_beats_it():
    ours, theirs = [0.7, 0.8, 0.9], [0.6, 0.75, 0.5]
    found = only(volumes("m", ours), volumes("rule", theirs))
    assert found.beats
    assert (found.run, found.baseline, found.n, found.better) == ("m", "rule", 3, 3)
    assert (found.dice, found.baseline_dice) == (pytest.approx(0.8), pytest.approx(np.mean(theirs)))
    assert found.p == signed_rank(ours, theirs).p
    assert str(found) == (
        "m beats the rule (adult, whole-tumor): mean 3-D Dice 0.800 against 0.617, better on 3 of the same 3 patients "
        "(p = 0.25)"
    )
    assert found.to_json()["beats"] is True


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([0.5, 0.5, 0.5], [0.6, 0.6, 0.4]),  # a lower mean
        ([0.6, 0.6, 0.6], [0.6, 0.6, 0.6]),  # the same
        ([0.8, 0.8, 0.8], [0.0, 0.9, 0.9]),  # ahead by a single patient on whom the rule fails
        ([0.8, 0.8], [0.5, 0.9]),  # on half of the patients
    ],
)
def test_ahead_by_a_few_cases_is_not_enough(ours, theirs):
    found = only(volumes("m", ours), volumes("rule", theirs))
    assert not found.beats
    assert "m does not beat the rule" in str(found)


def test_only_cases_of_both_count():
    theirs = volumes("rule", [0.6, 0.9, 0.1])[:2]
    found = only(volumes("m", [0.7, 0.8, 0.9]), theirs)
    assert (found.n, found.better) == (2, 1)
    assert (found.dice, found.baseline_dice) == (pytest.approx(0.75), pytest.approx(0.75))
    assert against_baselines(volumes("m", [0.7]), {"rule": []}) == []


def test_scans_of_one_patient_are_one_pair():
    again = [replace(case, volume=replace(case.volume, case="p00-1")) for case in volumes("m", [0.1])]
    theirs = [replace(case, volume=replace(case.volume, case="p00-1")) for case in volumes("rule", [0.2])]
    found = only(volumes("m", [0.9]) + again, volumes("rule", [0.3]) + theirs)
    assert (found.n, found.better) == (1, 1)
    assert found.dice == pytest.approx(0.5)


def test_domains_and_regions_are_compared_apart():
    ours = volumes("m", [0.9]) + volumes("m", [0.9], domain="men") + volumes("m", [0.9], roi="edema")
    theirs = volumes("rule", [0.5]) + volumes("rule", [0.95], domain="men")
    found = against_baselines(ours, {"rule": theirs})
    assert {(each.domain, each.roi): each.beats for each in found} == {
        ("adult", "whole-tumor"): True,
        ("men", "whole-tumor"): False,
    }
