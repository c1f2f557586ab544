"""95 % Hausdorff distances: by hand and against plain loops."""

from math import hypot, sqrt

import numpy as np
import pytest

from samjax.metrics.hausdorff import hd95, hd95_pooled
from tests.metrics.masks import SPACINGS, block, pairs, pixels, plain_boundary, plain_distances

CASES = [(ndim, name) for ndim in (2, 3) for name in pairs(ndim)]


def test_distances_of_single_voxels():
    pred, true = pixels((0, 0, 0), shape=(4, 4, 4)), pixels((1, 2, 3), shape=(4, 4, 4))
    assert hd95(pred, true, (3.0, 2.0, 1.0)) == pytest.approx(sqrt(3**2 + 4**2 + 3**2))
    assert hd95_pooled(pred, true, (3.0, 2.0, 1.0)) == pytest.approx(sqrt(3**2 + 4**2 + 3**2))


def test_percentiles_by_hand():
    # From the prediction 0 and hypot(2 * 2, 4 * 0.5); from the truth 0. The 95th percentile of two values
    # lies at 0.95 between them; of all three, at 0.9 between the second and the third.
    pred, true = pixels((1, 1), (3, 5)), pixels((1, 1))
    assert hd95(pred, true, (2.0, 0.5)) == pytest.approx(0.95 * hypot(4, 2))
    assert hd95(true, pred, (2.0, 0.5)) == pytest.approx(0.95 * hypot(4, 2))
    assert hd95_pooled(pred, true, (2.0, 0.5)) == pytest.approx(0.9 * hypot(4, 2))


def test_distances_between_boundaries_not_bodies():
    # A pixel amid a 7 x 7 square: 3 to its boundary though it lies inside. From the 24 boundary pixels:
    # 4 corners at 3 sqrt(2), 8 at sqrt(13), the rest nearer; the rank 0.95 * 23 = 21.85 is among the corners.
    pred, true = pixels((4, 4)), block((9, 9), (1, 8), (1, 8))
    assert hd95(pred, true, (1.0, 1.0)) == pytest.approx(3 * sqrt(2))


def test_a_few_outliers_do_not_count():
    # 60 boundary pixels and a far one: rank 0.95 * 60 = 57 is still at distance 0.
    true = block((40, 20), (0, 16), (0, 16))
    pred = true | block((40, 20), (39, 40), (19, 20))
    assert hd95(pred, true, (1.0, 1.0)) == 0
    # With four far ones rank 0.95 * 63 = 59.85 lies between the last 0 and the nearest far, at hypot(20, 4).
    pred |= block((40, 20), (35, 39), (19, 20))
    pred[39, 19] = False
    assert hd95(pred, true, (1.0, 1.0)) == pytest.approx(0.85 * hypot(20, 4))


@pytest.mark.parametrize(("ndim", "name"), CASES)
def test_distances_against_plain_loops(ndim, name):
    pred, true = pairs(ndim)[name]
    p, t = plain_boundary(pred), plain_boundary(true)
    for spacing in SPACINGS[ndim]:
        there, back = plain_distances(p, t, spacing), plain_distances(t, p, spacing)
        assert hd95(pred, true, spacing) == pytest.approx(
            max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-12
        )
        assert hd95_pooled(pred, true, spacing) == pytest.approx(
            np.percentile(np.concatenate([there, back]), 95), rel=1e-12
        )
