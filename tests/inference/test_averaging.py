"""The mean of predictions is of their probabilities."""

import numpy as np
import pytest
from scipy.special import expit

from samjax.data.labels import ROIS
from samjax.errors import UserError
from samjax.inference.averaging import averaged, logits_of
from samjax.inference.predictions import NOT_RUN, VolumePrediction, from_classes, not_run

SHAPE = (3, 4, 5)


def prediction(seed: int, run: list[bool]) -> VolumePrediction:
    logits = np.random.default_rng(seed).normal(0, 4, (1, *SHAPE)).astype(np.float32)
    logits[:, ~np.array(run)] = NOT_RUN
    return VolumePrediction(logits[0] > 0, np.where(run, 0.1 * (seed + 1), np.nan).astype(np.float32), logits=logits)


def test_probabilities_are_averaged_and_not_logits():
    parts = [prediction(seed, run) for seed, run in enumerate([[True, True, False], [True, False, False]])]
    found = averaged(iter(parts), ("whole-tumor",))
    mean = np.mean([expit(part.logits) for part in parts], axis=0)
    assert np.abs(mean - expit(np.mean([part.logits for part in parts], axis=0)))[:, 0].max() > 0.1
    np.testing.assert_allclose(found.probabilities, mean, atol=1e-6)
    np.testing.assert_array_equal(found.mask, mean[0] > 0.5)
    np.testing.assert_allclose(found.iou, [0.15, 0.1, np.nan], atol=1e-6)
    assert (found.logits[:, 2] == NOT_RUN).all()
    assert np.isfinite(found.logits).all()
    assert not found.probabilities[:, 2].any()
    assert not found.mask[1].any(), "half of the runs alone do not pass 0.5"


def test_a_single_prediction_stays_as_it_is():
    one = not_run(np.ones(SHAPE, bool))
    assert averaged([one], ("whole-tumor",)) is one
    with pytest.raises(UserError, match="no logits"):
        _ = one.probabilities


def test_the_classes_of_a_unet_exclude_each_other():
    rois = tuple(ROIS)
    classes = np.random.default_rng(0).normal(0, 2, (2, 4, *SHAPE)).astype(np.float32)
    found = averaged([from_classes(one, rois) for one in classes], rois, classes=True)
    shares = np.exp(classes) / np.exp(classes).sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(found.mask, shares.mean(axis=0).argmax(axis=0))
    assert set(np.unique(found.mask)) == {0, 1, 2, 3}
    np.testing.assert_allclose(found.probabilities[rois.index("edema")], shares.mean(axis=0)[1], atol=1e-5)


def test_logits_are_finite_and_come_back():
    values = np.array([0, 1e-6, 0.25, 0.5, 1], np.float32)
    np.testing.assert_allclose(expit(logits_of(values)), values, atol=1e-6)
    assert np.isfinite(logits_of(values)).all()
