"""What is collected of a model's predictions: rows, baselines, scores after each click."""

import os
import signal
from contextlib import closing

import numpy as np
import pytest

from samjax.data.labels import ROIS
from samjax.errors import UserError
from samjax.evaluation.baselines import DISK, ELLIPSE, FILLED_BOX
from samjax.evaluation.case_scores import MOST_PENDING, scoring_pool
from samjax.evaluation.collected import VIEWED, Collected, collect
from samjax.evaluation.saved import SavedPredictions
from samjax.evaluation.scoring import SliceRule
from samjax.inference.predictions import PromptRounds
from tests.evaluation.cases import collect_one, made_case, made_model, no_rounds, predicted, square
from tests.processes import children

SHAPE = (4, 12, 12)
LABELS = square(SHAPE, slice(1, 3), slice(2, 8), slice(3, 7), code=3)
RULE = SliceRule()


def played(rounds: int = 1) -> PromptRounds:
    """Slices 1 and 2 were prompted; the first round finds 6 of their 24 pixels and 2 others, further ones 12 more."""
    found = no_rounds(SHAPE[0], rounds)
    found.prompted[1:3] = True
    for number in range(rounds):
        found.counts[number] = 6 + 12 * min(number, 1), 8 + 12 * min(number, 1), 24
        found.iou[number] = 0.25 * (number + 1)
    found.counts[:, [0, 3], 1:] = 99  # numbers of a slice that was not prompted count for nothing
    found.click[1:3] = (5, 4)
    return found


def with_slice_dice(*rounds: list[float]) -> Collected:
    found = Collected(made_model(clicks=len(rounds)))
    dice = np.array(rounds)
    found.slice_dice = [dice[:, :1], dice[:, 1:]]  # of two cases
    found.patients = list("abcdefgh"[: dice.shape[1]])
    return found


def test_clicks_needed_by_hand():
    # At 0.85: after 1, after 3, never (counts 3), after 2 although the third is worse. At 0.90: 1, 3, 3, 3.
    found = with_slice_dice([0.95, 0.2, 0.1, 0.5], [0.3, 0.5, 0.2, 0.85], [0.9, 0.9, 0.3, 0.4]).clicks_needed()
    assert found == {"0.85": {"clicks": 9 / 4, "reached": 3 / 4}, "0.90": {"clicks": 10 / 4, "reached": 2 / 4}}


def test_dice_by_clicks_has_an_entry_for_each_round():
    means = [entry.mean for entry in with_slice_dice([0.2, 0.4], [0.5, 0.7], [0.9, 0.9]).dice_by_clicks()]
    assert means == pytest.approx([0.3, 0.6, 0.9])


def test_rounds_are_of_the_prompted_slices_and_iou_of_the_last_round():
    found = Collected(made_model(clicks=3))
    for name in ("a", "b"):
        case = made_case(LABELS, name, patient=f"patient-{name}")
        collect_one(found, case, predicted(LABELS > 0, played(3)), RULE, 20.0)
    assert [x.shape for x in found.slice_dice] == [(3, 2)] * 2
    assert [x.shape for x in found.predicted_iou] == [x.shape for x in found.actual_iou] == [(2,)] * 2
    assert found.patients == ["demo/patient-a"] * 2 + ["demo/patient-b"] * 2
    np.testing.assert_allclose(found.slice_dice[0][:, 0], [2 * 6 / 32, 2 * 18 / 44, 2 * 18 / 44])
    np.testing.assert_allclose(found.predicted_iou[0], 0.75)
    np.testing.assert_allclose(found.actual_iou[0], 18 / (20 + 24 - 18))


@pytest.mark.parametrize(("prompt", "names"), [("point", {DISK}), ("box", {FILLED_BOX, ELLIPSE})])
def test_baselines_for_each_case_by_the_kind_of_prompt(prompt, names):
    found = Collected(made_model(prompt=prompt))
    for name in ("a", "b"):
        collect_one(found, made_case(LABELS, name), predicted(LABELS > 0, played()), RULE, 13.0)
    assert found.baselines.keys() == names
    for scores in found.baselines.values():
        assert [case.volume.case for case in scores] == ["a", "b"]
        assert [row.slice for row in scores[0].slices] == [0, 1, 2, 3]
    if prompt == "box":
        assert found.baselines[FILLED_BOX][0].volume.dice == 1
        assert 0.8 < found.baselines[ELLIPSE][0].volume.dice < 1
    else:
        # A disk of 13 pixels around a click inside of a region of 24, one beyond its border.
        assert found.baselines[DISK][0].slices[1].dice == pytest.approx(2 * 12 / (13 + 24))
    assert found.scores[0].volume.run == "one"


def test_prompt_free_predictions_have_neither_baselines_nor_rounds():
    found = Collected(made_model(prompt="none"))
    collect_one(found, made_case(LABELS), predicted(LABELS > 0), RULE, 0.0)
    saved = Collected(SavedPredictions("saved", None, ("whole-tumor",)))
    collect_one(saved, made_case(LABELS), predicted(LABELS), RULE, 0.0)
    for one in (found, saved):
        assert (one.baselines, one.slice_dice, one.predicted_iou, one.patients) == ({}, [], [], [])
        assert one.scores[0].volume.dice == 1


def test_all_regions_are_scored_and_pictures_show_the_whole_tumour():
    labels = LABELS.copy()
    labels[0, :3, :3] = 1  # edema is largest where the tumour is not
    found = Collected(SavedPredictions("saved", None, tuple(ROIS)))
    collect_one(found, made_case(labels), predicted(LABELS), RULE, 0.0)
    dice = {case.volume.roi: case.volume.dice for case in found.scores}
    assert dice == {"edema": 0, "non-enhancing": 1, "enhancing": 1, "tumor-core": 1, "whole-tumor": 96 / 105}
    assert (found.shown[0].slice, found.shown[0].truth.sum()) == (1, 24)
    assert found.viewed["case"].keys() == set(ROIS)


def test_only_the_first_cases_are_kept_for_the_viewer():
    found = Collected(made_model(prompt="none"))
    for number in range(VIEWED + 2):
        collect_one(found, made_case(LABELS, str(number)), predicted(LABELS > 0), RULE, 0.0)
    assert list(found.viewed) == [str(number) for number in range(VIEWED)]
    assert len(found.shown) == VIEWED + 2


def test_collecting_takes_the_disk_from_the_cases_that_are_scored():
    large = made_case(square(SHAPE, slice(1, 3), slice(0, 6), slice(0, 6)))
    predictions = iter([(large, predicted(large.labels > 0, played()))])
    with closing(scoring_pool(0)) as pool:
        ((_, found),) = collect(made_model(), predictions, [large], RULE, pool)
    assert found.baselines[DISK][0].slices[1].pred_pixels == pytest.approx(36, abs=3)


def test_a_scoring_process_gives_the_same_in_the_same_order():
    cases = [made_case(LABELS, str(number)) for number in range(MOST_PENDING + 2)]

    def collected(pool) -> Collected:
        predictions = ((case, predicted(np.roll(LABELS > 0, shift, 1), played())) for shift, case in enumerate(cases))
        *_, (_, found) = collect(made_model(prompt="box"), predictions, cases, RULE, pool)
        return found

    with closing(scoring_pool(0)) as here, closing(scoring_pool(1)) as there:
        ours, theirs = collected(here), collected(there)
    assert [case.volume.case for case in theirs.scores] == [case.case.id for case in cases]
    assert theirs.scores == ours.scores
    assert theirs.baselines == ours.baselines


def test_a_killed_scoring_process_is_one_line():
    case = made_case(LABELS, "last")
    job = Collected(made_model()).job(case, predicted(LABELS > 0, played()), RULE, 0.0)
    others = children(os.getpid())
    with closing(scoring_pool(1)) as pool:
        pool.request(job)
        pool.receive()
        (worker,) = children(os.getpid()) - others
        os.kill(worker, signal.SIGKILL)
        pool.request(job)
        with pytest.raises(
            UserError, match=r"scoring worker 0 .*case last, was killed by SIGKILL.*--workers 0"
        ) as told:
            pool.receive()
    assert "\n" not in str(told.value)
