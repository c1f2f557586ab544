"""The mean of predictions is of their probabilities."""

import numpy as np
import pytest
from scipy.special import expit

from samjax.data.labels import ROIS
from samjax.data.on_device.channels import parse_channels
from samjax.errors import UserError
from samjax.inference.averaging import averaged, logits_of
from samjax.inference.model import SegmentationModel
from samjax.inference.predictions import NOT_RUN, VolumePrediction, from_classes, not_run, volume_prediction
from samjax.inference.regions import region_codes

SHAPE = (3, 4, 5)


def model(*rois: str, image_size: int | None = 64) -> SegmentationModel:
    """A model of these regions without any weights; a U-Net has no `image_size`."""
    return SegmentationModel("one", None, (), rois, parse_channels("all"), image_size=image_size)


def prediction(seed: int, run: list[bool], *rois: str) -> VolumePrediction:
    logits = np.random.default_rng(seed).normal(0, 4, (len(rois), *SHAPE)).astype(np.float32)
    logits[:, ~np.array(run)] = NOT_RUN
    ious = np.where(run, 0.1 * (seed + 1), np.nan).astype(np.float32)
    return volume_prediction(logits > 0, np.tile(ious, (len(rois), 1)), rois, logits=logits)


def test_probabilities_are_averaged_and_not_logits():
    seen = [True, True, False], [True, False, False]
    parts = [prediction(seed, run, "whole-tumor") for seed, run in enumerate(seen)]
    found = averaged(iter(parts), model("whole-tumor"))
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
    assert averaged([one], model("whole-tumor")) is one
    with pytest.raises(UserError, match="no logits"):
        _ = one.probabilities


def test_the_classes_of_a_unet_exclude_each_other():
    rois = tuple(ROIS)
    classes = np.random.default_rng(0).normal(0, 2, (2, 4, *SHAPE)).astype(np.float32)
    found = averaged([from_classes(one, rois) for one in classes], model(*rois, image_size=None))
    shares = np.exp(classes) / np.exp(classes).sum(axis=1, keepdims=True)
    np.testing.assert_array_equal(found.mask, shares.mean(axis=0).argmax(axis=0))
    assert set(np.unique(found.mask)) == {0, 1, 2, 3}
    np.testing.assert_allclose(found.probabilities[rois.index("edema")], shares.mean(axis=0)[1], atol=1e-5)


def test_several_regions_of_a_sam_are_averaged_one_by_one():
    rois = ("whole-tumor", "tumor-core", "enhancing")
    parts = [prediction(seed, [True] * 3, *rois) for seed in range(2)]
    found = averaged(parts, model(*rois))
    mean = np.mean([expit(part.logits) for part in parts], axis=0)
    np.testing.assert_array_equal(found.mask, region_codes(dict(zip(rois, mean > 0.5, strict=True))))
    np.testing.assert_allclose(found.region_iou, np.full((3, 3), 0.15), atol=1e-6)


def test_logits_are_finite_and_come_back():
    values = np.array([0, 1e-6, 0.25, 0.5, 1], np.float32)
    np.testing.assert_allclose(expit(logits_of(values)), values, atol=1e-6)
    assert np.isfinite(logits_of(values)).all()
