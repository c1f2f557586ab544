"""Scoring one prediction of one case."""

import numpy as np

from samjax.data.labels import IGNORED
from samjax.evaluation.case_scores import ScoringJob, score_job
from samjax.evaluation.slice_rule import SliceRule
from samjax.metrics.rows import CaseScores, of_scope
from tests.evaluation.cases import made_case, square

SHAPE = (4, 12, 12)


def score(labels: np.ndarray, predicted: np.ndarray, prompt: str = "none") -> CaseScores:
    job = ScoringJob(made_case(labels), {"whole-tumor": predicted}, "r", prompt, SliceRule(), None)
    (scored,) = score_job(job).scores
    return scored


def test_ignored_voxels_are_in_no_score():
    labels = square(SHAPE, slice(1, 3), slice(2, 8), slice(2, 8))
    plain = labels.copy()
    labels[:, :, 6:] = IGNORED
    labels[3] = IGNORED
    predicted = plain > 0
    predicted[:, :, 6:] = True  # whatever is predicted there
    scored = score(labels, predicted)
    assert scored.volume.dice == 1
    assert scored.volume.true_pixels == scored.volume.pred_pixels == 2 * 6 * 4
    assert [row.slice for row in of_scope([scored], "slice_all")] == [0, 1, 2]
    assert [row.dice for row in of_scope([scored], "slice")] == [1, 1]
    assert score(labels, np.zeros_like(predicted)).volume.dice == 0


def test_a_volume_that_could_not_be_prompted_is_no_success():
    empty = np.zeros(SHAPE, np.uint8)
    missed = score(empty, empty > 0, prompt="box")
    found = score(empty, empty > 0)
    assert of_scope([missed], "volume") == []
    assert [row.dice for row in of_scope([found], "volume")] == [1]
    assert len(of_scope([missed], "slice_all")) == SHAPE[0]
