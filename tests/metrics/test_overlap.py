"""Overlaps by hand."""

import pytest

from samjax.metrics.overlap import dice, precision, sensitivity, volume_similarity
from tests.metrics.masks import block


def test_overlaps_by_hand():
    # Rows of 2 and of 4 pixels of which 2 are shared.
    pred, true = block((4, 8), (1, 2), (2, 4)), block((4, 8), (1, 2), (2, 6))
    assert dice(pred, true) == pytest.approx(2 * 2 / (2 + 4))
    assert volume_similarity(pred, true) == pytest.approx(1 - 2 / 6)
    assert sensitivity(pred, true) == 0.5
    assert precision(pred, true) == 1.0
    assert sensitivity(true, pred) == 1.0
    assert precision(true, pred) == 0.5


def test_overlaps_of_disjoint_masks():
    pred, true = block((4, 8), (0, 1), (0, 4)), block((4, 8), (3, 4), (0, 4))
    assert [dice(pred, true), sensitivity(pred, true), precision(pred, true)] == [
        0,
        0,
        0,
    ]
    assert volume_similarity(pred, true) == 1.0
