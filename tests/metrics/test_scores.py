"""The scores of slices and volumes: those of the single metrics, and all slices in one go as one by one."""

import numpy as np
import pytest

from samjax.metrics.hausdorff import hd95
from samjax.metrics.overlap import dice
from samjax.metrics.scores import score, score_slices
from tests.metrics.masks import SPACINGS, empty, pairs


def test_score_row():
    pred, true = pairs(3)["balls"]
    assert score(pred, true, (3.0, 0.9, 0.9)) == {
        "true_pixels": true.sum(),
        "pred_pixels": pred.sum(),
        "dice": dice(pred, true),
        "hd95": hd95(pred, true, (3.0, 0.9, 0.9)),
    }


@pytest.mark.parametrize("spacing", SPACINGS[3])
@pytest.mark.parametrize("name", pairs(3))
def test_slices_score_as_one_by_one(name, spacing):
    pred, true = (mask.copy() for mask in pairs(3)[name])
    pred[0], true[0] = False, False
    pred[4] = False
    true[7] = False
    columns = score_slices(pred, true, spacing)
    rows = [score(p, t, spacing[1:]) for p, t in zip(pred, true, strict=True)]
    for name, column in columns.items():
        np.testing.assert_allclose(column, [row[name] for row in rows], rtol=1e-12)


def test_slices_of_an_empty_volume():
    columns = score_slices(empty(4, 3, 4), empty(4, 3, 4), (1.0, 1.0, 1.0))
    assert {name: column.tolist() for name, column in columns.items()} == {
        "true_pixels": [0] * 4,
        "pred_pixels": [0] * 4,
        "dice": [1.0] * 4,
        "hd95": [0.0] * 4,
    }
