"""Calibration of predicted IoU by hand."""

import numpy as np
import pytest

from samjax.metrics.calibration import calibrate


def test_calibration_by_hand():
    # Three masks in the bin from 0.9 on, one of them beyond 1; one in the bin from 0.2 on.
    found = calibrate([0.9, 0.95, 1.15, 0.25], [0.7, 0.8, 0.9, 0.45])
    assert found.counts.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 3]
    assert found.predicted[[2, 9]].tolist() == pytest.approx([0.25, 1.0])
    assert found.actual[[2, 9]].tolist() == pytest.approx([0.45, 0.8])
    assert found.quartiles[:, 9].tolist() == pytest.approx([0.75, 0.85])
    assert found.error == pytest.approx((0.2 * 1 + 0.2 * 3) / 4)
    exact = np.random.default_rng(2).random(50)
    assert calibrate(exact, exact).error == 0
    assert calibrate([-0.3, 0.0], [0.0, 0.0]).counts[0] == 2


@pytest.mark.parametrize("pair", [([], []), ([0.5], [0.5, 0.6]), ([np.nan], [0.5])])
def test_what_cannot_be_calibrated_is_refused(pair):
    with pytest.raises(ValueError, match="calibration of IoUs"):
        calibrate(*pair)
