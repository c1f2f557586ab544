"""Whole volumes through a model: which slices are asked, with which clicks, and what is answered of each."""

import jax
import numpy as np
import pytest

from samjax.data.on_device.channels import parse_channels
from samjax.inference.volumes import CasePrediction, Segmenter, segment
from samjax.metrics.overlap import score_slices
from tests.evaluation.cases import made_case, square
from tests.training import small

SHAPE = (5, 28, 32)
"""An odd number of slices: the last window of two reaches beyond the end."""
ASKED = [False, True, False, True, True]


def cases():
    """Three cases, the second without any ROI, each with ROI on its last slice."""
    labels = square(SHAPE, slice(1, 5), slice(4, 15), slice(20, 31), code=2)
    labels[2] = 0
    return [made_case(labels, "a"), made_case(np.zeros(SHAPE, np.uint8), "b"), made_case(labels[:, ::-1].copy(), "c")]


@pytest.fixture(scope="module")
def model():
    return small.lora4ch()


def segmented(model, prompt: str, clicks: int = 1, slices: int = 2) -> list[CasePrediction]:
    segmenter = Segmenter("one", model, ("whole-tumor",), parse_channels("all"), small.DEPTH, 64, prompt, clicks)
    return list(segment(segmenter, cases(), slices=slices, workers=0, seed=3))


@pytest.fixture(scope="module")
def clicked(model) -> list[CasePrediction]:
    return segmented(model, "point", clicks=2)


@pytest.fixture(scope="module")
def once(model) -> list[CasePrediction]:
    return segmented(model, "point")


def test_only_slices_with_roi_are_asked(clicked):
    assert [found.case.case.id for found in clicked] == ["a", "b", "c"]
    for found, asked in zip(clicked, (ASKED, [False] * 5, ASKED), strict=True):
        assert found.answers.asked.tolist() == asked
        assert (found.predicted.shape, found.predicted.dtype) == (SHAPE, bool)
        assert not found.predicted[~found.answers.asked].any()
    assert any(found.predicted.any() for found in clicked)


def test_dice_from_counts_is_that_of_the_scores(clicked):
    for found in (clicked[0], clicked[2]):
        true = found.case.labels > 0
        scores = score_slices(found.predicted, true, (1.0, 1.0, 1.0))
        asked = found.answers.asked
        assert found.answers.counts.shape == (2, 5, 3)
        both, pred, label = found.answers.counts[-1, asked].T
        np.testing.assert_allclose(2 * both / (pred + label), scores["dice"][asked])
        np.testing.assert_array_equal(pred, scores["pred_pixels"][asked])
        np.testing.assert_array_equal(found.answers.counts[:, asked, 2], [scores["true_pixels"][asked]] * 2)


def test_the_first_round_is_what_one_click_gives(once, clicked):
    for one, found in zip(once, clicked, strict=True):
        asked = found.answers.asked
        np.testing.assert_allclose(found.answers.iou[0, asked], one.answers.iou[0, asked], rtol=1e-4)
        np.testing.assert_array_equal(found.answers.counts[0, asked], one.answers.counts[0, asked])
        np.testing.assert_array_equal(found.answers.click, one.answers.click)
    asked = clicked[0].answers.asked
    assert (clicked[0].answers.iou[0, asked] != clicked[0].answers.iou[1, asked]).all()


def test_clicks_lie_inside_the_roi(clicked):
    clicks = set()
    for found in (clicked[0], clicked[2]):
        for z in np.flatnonzero(found.answers.asked):
            x, y = found.answers.click[z]
            assert (x, y) == (round(x), round(y))
            assert found.case.labels[z, int(y), int(x)] == 2
            clicks.add((x, y))
    assert len(clicks) > 3


def test_the_click_is_the_one_that_the_model_got(model, clicked):
    """A region of the click's pixel alone leaves the model no other click: it must answer the same."""
    found = clicked[0]
    labels = np.zeros(SHAPE, np.uint8)
    for z in np.flatnonzero(found.answers.asked):
        x, y = found.answers.click[z].astype(int)
        labels[z, y, x] = 2
    segmenter = Segmenter("one", model, ("whole-tumor",), parse_channels("all"), small.DEPTH, 64, "point")
    (again,) = segment(segmenter, [made_case(labels, "a")], slices=2, workers=0, seed=99)
    asked = found.answers.asked
    np.testing.assert_allclose(again.answers.iou[0, asked], found.answers.iou[0, asked], rtol=1e-4)
    np.testing.assert_array_equal(again.answers.counts[0, asked, 1], found.answers.counts[0, asked, 1])


def test_one_device_and_four_give_the_same(model, once, monkeypatch):
    assert jax.local_device_count() == 4
    device = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    monkeypatch.setattr(jax, "local_devices", lambda: device)
    for one, four in zip(segmented(model, "point", slices=8), once, strict=True):
        np.testing.assert_array_equal(one.predicted, four.predicted)
        asked = four.answers.asked
        np.testing.assert_array_equal(one.answers.asked, asked)
        np.testing.assert_array_equal(one.answers.counts[:, asked], four.answers.counts[:, asked])
        np.testing.assert_allclose(one.answers.iou[:, asked], four.answers.iou[:, asked], rtol=1e-4)
        np.testing.assert_array_equal(one.answers.click[asked], four.answers.click[asked])


def test_without_prompts_every_slice_is_asked(model):
    found = segmented(model, "none")
    assert [one.answers.asked.all() for one in found] == [True] * 3
    scores = score_slices(found[2].predicted, found[2].case.labels > 0, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(found[2].answers.counts[0, :, 1], scores["pred_pixels"])
    np.testing.assert_array_equal(found[2].answers.counts[0, :, 2], scores["true_pixels"])
