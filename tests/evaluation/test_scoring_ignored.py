"""Voxels that a label ignores count in no score."""

import numpy as np

from samjax.data.labels import IGNORED
from samjax.evaluation.scoring import SliceRule, of_scope, score_case
from tests.evaluation.cases import made_case, square

SHAPE = (4, 12, 12)


def test_ignored_voxels_are_in_no_score():
    labels = square(SHAPE, slice(1, 3), slice(2, 8), slice(2, 8))
    plain = labels.copy()
    labels[:, :, 6:] = IGNORED
    labels[3] = IGNORED
    predicted = plain > 0
    predicted[:, :, 6:] = True  # whatever is predicted there
    about = {"run": "r", "roi": "whole-tumor", "prompt": "none", "rule": SliceRule()}
    scored = score_case(made_case(labels), predicted, **about)
    assert scored.volume.dice == 1
    assert scored.volume.true_pixels == scored.volume.pred_pixels == 2 * 6 * 4
    assert [row.slice for row in of_scope([scored], "slice_all")] == [0, 1, 2]
    assert [row.dice for row in of_scope([scored], "slice")] == [1, 1]
    wrong = np.zeros_like(predicted)
    assert score_case(made_case(labels), wrong, **about).volume.dice == 0
