"""Choosing a run's post-processing: what decides, what is not allowed, and that few patients choose gentle rules."""

from dataclasses import replace

import numpy as np

from samjax.data.labels import EDEMA, ENHANCING, IGNORED, NON_ENHANCING
from samjax.inference.postprocess import Postprocess, cleaned
from samjax.inference.postprocess_choice import PostprocessChoice
from samjax.inference.postprocess_search import FEW, GENTLE, MOST_LABELS, STRONG, LabelledCase, Predicted, choose
from samjax.metrics.hausdorff import hd95
from samjax.metrics.overlap import dice

SHAPE = (24, 24, 48)
SPACING = (2.0, 2.0, 2.0)
"""A voxel has 8 mm3."""


def cube(place: tuple[int, int, int], side: int) -> tuple[slice, ...]:
    return tuple(slice(start, start + side) for start in place)


def labelled(patient: str = "p", second: int = 0) -> LabelledCase:
    """A tumour of 12 x 12 x 12 voxels, and a second focus with sides of `second` voxels."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[cube((2, 2, 2), 12)] = EDEMA
    labels[cube((2, 2, 20), second)] = EDEMA
    return LabelledCase(patient, labels, SPACING)


def predicted(case: LabelledCase, island: int = 0) -> tuple[LabelledCase, np.ndarray]:
    """A case's own region, without a row of voxels, and a false island with sides of `island` voxels far away."""
    mask = case.labels == EDEMA
    mask[2] = False
    mask[cube((14, 16, 38), island)] = True
    return case, mask


def chosen(predictions, labels=(), roi: str = "whole-tumor") -> PostprocessChoice:
    given = [Predicted(*prediction) for prediction in predictions]
    return choose(iter(given), iter(labels), roi, "average", 7, fits=bool(given) and given[0].fitted is not None)


def test_islands_are_removed_by_the_mildest_rule_that_does_it():
    predictions = [predicted(labelled("a"), 2), predicted(labelled("b"), 2)]  # 64 mm3 of 12,672
    found = chosen(predictions, [labelled("t")])
    assert found.chosen == "min=100"
    assert (found.patients, found.cases, found.labels, found.weights, found.step) == (2, 2, 3, "average", 7)
    raw, best = (next(x for x in found.candidates if x.rule == rule) for rule in ("none", "min=100"))
    case, mask = predictions[0]
    truth = case.labels > 0
    assert (raw.dice, raw.hd95) == (dice(mask, truth), hd95(mask, truth, SPACING))
    after = cleaned(mask, SPACING, Postprocess(min_mm3=100))
    assert (best.dice, best.hd95) == (dice(after, truth), hd95(after, truth, SPACING))
    assert best.dice > raw.dice
    assert f"HD95 {raw.hd95:.1f} -> {best.hd95:.1f} mm" in str(found)
    assert "gentle rules only" in found.reason
    # Larger islands need a stronger rule: 512 mm3, then 4 % of the tumour.
    found = chosen([predicted(labelled("a"), 4)])
    assert found.chosen == "min=1000"
    by_rule = {candidate.rule: candidate for candidate in found.candidates}
    assert by_rule["min=1000"].hd95 < 0.1 * by_rule["none"].hd95
    big = replace(labelled("a"), spacing=(4.0, 4.0, 4.0))
    assert chosen([predicted(big, 4)]).chosen == "share=0.05"


def test_nothing_is_done_where_no_rule_is_better():
    found = chosen([predicted(labelled())])
    assert (found.chosen, found.patients) == ("none", 1)
    assert found.reason.startswith("no rule was better on 1 validation patient: Dice")
    case, mask = predicted(labelled())
    assert chosen([(case, np.zeros_like(mask))]).chosen == "none"


def test_no_validation_patient_chooses_nothing():
    found = chosen([], [labelled()])
    assert (found.chosen, found.patients, found.labels, found.candidates) == ("none", 0, 0, ())
    assert "no validation patient" in found.reason


def test_a_rule_that_takes_a_real_second_focus_of_a_training_patient_is_not_allowed():
    """The second focus has 4 % of the tumour, as the false island has; no prediction of that patient is needed."""
    big = [replace(case, spacing=(4.0, 4.0, 4.0)) for case in (labelled("a"), labelled("t", second=4))]
    assert chosen([predicted(big[0], 4)], big[:1]).chosen == "share=0.05"
    found = chosen([predicted(big[0], 4)], big)
    assert found.chosen == "none"
    spoilt = {candidate.rule: (candidate.spoilt_labels, candidate.allowed) for candidate in found.candidates}
    assert (spoilt["share=0.05"], spoilt["share=0.02"]) == ((1, False), (0, True))


def test_one_in_fifty_labels_may_be_spoilt():
    big = [replace(labelled(str(n), second=4 * (n == 0)), spacing=(4.0, 4.0, 4.0)) for n in range(49)]
    assert chosen([predicted(big[1], 4)], big[:48]).chosen == "none"
    assert chosen([predicted(big[1], 4)], big).chosen == "share=0.05"


def test_a_rule_that_takes_a_predicted_second_focus_is_not_allowed():
    """The island of one patient is as large as another's second focus: on average the rule would pay."""
    predictions = [predicted(labelled(str(n)), 4) for n in range(8)] + [predicted(labelled("m", second=4))]
    found = chosen(predictions)
    assert found.chosen == "none"
    by_rule = {candidate.rule: candidate for candidate in found.candidates}
    assert by_rule["min=1000"].dice > by_rule["none"].dice
    assert (by_rule["min=1000"].spoilt_predictions, by_rule["min=1000"].allowed) == (1, False)


def test_many_patients_may_choose_strong_rules_and_few_may_not():
    """The island has an eighth of the tumour's volume."""
    cases = [predicted(labelled(str(n)), 6) for n in range(FEW)]
    assert chosen(cases).chosen == "share=0.2"
    few = chosen(cases[1:])
    assert few.chosen == "none"
    assert len(few.candidates) == len(GENTLE)
    assert len(chosen(cases).candidates) == len(GENTLE) + len(STRONG)
    again = [(replace(case, patient="one"), mask) for case, mask in cases]
    assert len(chosen(again).candidates) == len(GENTLE), "follow-ups are one patient"


def test_a_gentle_rule_leaves_a_millilitre_that_is_a_twentieth_alone():
    assert all(rule.stays([20000, 1000]).all() for rule in GENTLE)
    assert GENTLE[0] == Postprocess()
    assert all(rule.largest is None for rule in (*GENTLE, *STRONG)), "no rule is by rank"


def test_holes_are_filled_where_that_is_better_and_never_in_a_ring():
    case, mask = predicted(labelled())
    mask[5:10, 5:10, 5:10] = False
    assert chosen([(case, mask)]).chosen == "fill"
    ring = case.labels.copy()
    ring[5:10, 5:10, 5:10] = ENHANCING
    case = replace(case, labels=ring)
    found = chosen([(case, ring == EDEMA)], roi="edema")
    assert found.chosen == "none"
    assert not any(candidate.allowed for candidate in found.candidates if "fill" in candidate.rule)


def test_a_map_of_regions_is_scored_by_the_region_and_ignored_voxels_are_left_out():
    case, mask = predicted(labelled(), 4)
    codes = mask.astype(np.uint8) * np.uint8(EDEMA)
    codes[4:8, 4:8, 4:8] = NON_ENHANCING
    assert chosen([(case, codes)]).chosen == "min=1000"
    ignored = case.labels.copy()
    ignored[:, :, 30:] = IGNORED
    found = chosen([(replace(case, labels=ignored), codes)])
    assert found.chosen == "none", "the island is not counted"


def test_only_the_first_labels_are_looked_at():
    cases = (labelled(str(n)) for n in range(MOST_LABELS + 5))
    assert chosen([predicted(labelled("v"))], cases).labels == MOST_LABELS + 1
    assert next(cases).patient == str(MOST_LABELS)


def test_training_cases_decide_between_rules_that_validation_leaves_equal():
    """The validation patient's island has 1 % of the tumour, one of a training patient 4 %."""
    big = [replace(labelled(name), spacing=(4.0, 4.0, 4.0)) for name in ("v", "t")]
    small, large = predicted(big[0], 2), predicted(big[1], 4)
    asked = []

    def seen(*predictions):
        for prediction in predictions:
            asked.append(prediction)
            yield Predicted(*prediction)

    def with_seen(validation, *predictions) -> PostprocessChoice:
        return choose(iter([Predicted(*validation)]), iter(big[1:]), "whole-tumor", "average", 7, seen(*predictions))

    assert with_seen(small).chosen == "min=1000"
    found = with_seen(small, large)
    assert (found.chosen, found.seen) == ("share=0.05", 1)
    assert "ties decided by 1 training case" in found.reason
    clean = with_seen(small, predicted(big[1]))
    assert (clean.chosen, clean.seen) == ("min=1000", 1), "they leave the rules equal too"
    asked.clear()
    assert with_seen(predicted(big[0]), large).chosen == "none", "nothing is better on the validation patient"
    assert not asked


def fitted_to(case: LabelledCase, mask: np.ndarray, better: int) -> Predicted:
    """A prediction whose fitted one has so many more rows of the tumour, or lacks them if negative."""
    after = mask.copy()
    after[cube((2, 2, 2), 12)] = True
    after[2 : 2 + max(0, 1 - better)] = False
    return Predicted(case, mask, after)


def test_the_fit_to_the_scan_is_chosen_where_it_pays():
    """A row of twelve is 0.04 of the Dice."""
    found = chosen([fitted_to(*predicted(labelled("a")), 1)])
    assert found.chosen == "fit"
    assert len(found.candidates) == 2 * len(GENTLE)
    assert chosen([fitted_to(*predicted(labelled("a"), 4), 1)]).chosen == "fit,min=1000", (
        "the island stays after the fit"
    )
    assert chosen([fitted_to(*predicted(labelled("a")), 0)]).chosen == "none", "nothing gained"
    assert chosen([fitted_to(*predicted(labelled("a")), -1)]).chosen == "none"


def test_the_fit_has_to_help_most_cases():
    cases = [fitted_to(*predicted(labelled(str(n))), better) for n, better in enumerate((1, 1, 0))]
    assert chosen(cases).chosen == "fit"
    assert chosen([*cases, fitted_to(*predicted(labelled("x")), 0)]).chosen == "none", "half of them are no majority"
