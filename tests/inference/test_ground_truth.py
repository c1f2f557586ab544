"""Prompts drawn from labels: which slices are run, with which clicks, and what is counted of each round."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx
from scipy import ndimage

from samjax.data.cache.cases import CachedCase
from samjax.data.on_device.channels import parse_channels
from samjax.data.on_device.keys import sample_keys, slice_keys
from samjax.inference import encoded
from samjax.inference.devices import Devices
from samjax.inference.ground_truth import GroundTruthPrompts, first_prompts, with_next_click
from samjax.inference.model import SegmentationModel
from samjax.inference.predictions import VolumePrediction
from samjax.inference.volumes import segment_cases
from samjax.metrics.scores import score_slices
from samjax.models.prompt_encoder import BOX_FIRST
from samjax.models.resizing import inside
from samjax.training.tasks.objective import answer_clicks, draw_prompts
from tests.evaluation.cases import made_case, square
from tests.training import small

SHAPE = (5, 28, 32)
"""An odd number of slices: the last window of two reaches beyond the end."""
PROMPTED = [False, True, False, True, True]


def cases() -> list[CachedCase]:
    """Three cases, the second without any ROI, each with ROI on its last slice."""
    labels = square(SHAPE, slice(1, 5), slice(4, 15), slice(20, 31), code=2)
    labels[2] = 0
    return [made_case(labels, "a"), made_case(np.zeros(SHAPE, np.uint8), "b"), made_case(labels[:, ::-1].copy(), "c")]


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    return SegmentationModel.on_local_devices(
        *nnx.split(small.lora4ch()), name="one", rois=("whole-tumor",), channels=parse_channels("all"),
        depth=small.DEPTH, image_size=64,
    )  # fmt: skip


def segmented(
    model: SegmentationModel, prompt: str, clicks: int = 1, chosen: list[CachedCase] | None = None, seed: int = 3
) -> list[VolumePrediction]:
    found = segment_cases(model, chosen or cases(), GroundTruthPrompts(prompt, clicks, seed))
    return [prediction for _, prediction in found]


@pytest.fixture(scope="module")
def clicked(model: SegmentationModel) -> list[VolumePrediction]:
    return segmented(model, "point", clicks=2)


@pytest.fixture(scope="module")
def once(model: SegmentationModel) -> list[VolumePrediction]:
    return segmented(model, "point")


def test_only_slices_with_roi_are_run(clicked: list[VolumePrediction]):
    for found, prompted in zip(clicked, (PROMPTED, [False] * 5, PROMPTED), strict=True):
        assert found.rounds.prompted.tolist() == prompted
        assert (found.mask.shape, found.mask.dtype) == (SHAPE, bool)
        assert not found.mask[~found.rounds.prompted].any()
        np.testing.assert_array_equal(np.isnan(found.iou), ~found.rounds.prompted)
        np.testing.assert_array_equal(found.iou[prompted], found.rounds.iou[-1, prompted])
    assert any(found.mask.any() for found in clicked)


def test_windows_without_roi_are_not_encoded(model: SegmentationModel, monkeypatch: pytest.MonkeyPatch):
    labels = np.zeros((9, 28, 32), np.uint8)
    labels[3, 4:9, 4:9] = labels[8, 4:9, 4:9] = 1  # in the second of five windows, and in the last, half of which is
    windows = []  # beyond the end
    original = encoded.encode

    def noted(graphdef, states, pictures, valid, present, **options):
        windows.extend(valid.tolist())
        return original(graphdef, states, pictures, valid, present, **options)

    monkeypatch.setattr(encoded, "encode", noted)
    segmented(model, "box", chosen=[made_case(labels)])
    assert windows == [[True, True], [True, False]]


def test_dice_from_counts_is_that_of_the_scores(clicked: list[VolumePrediction]):
    for case, found in ((cases()[0], clicked[0]), (cases()[2], clicked[2])):
        scores = score_slices(found.mask, case.labels > 0, (1.0, 1.0, 1.0))
        prompted = found.rounds.prompted
        assert found.rounds.counts.shape == (2, 5, 3)
        both, pred, label = found.rounds.counts[-1, prompted].T
        np.testing.assert_allclose(2 * both / (pred + label), scores["dice"][prompted])
        np.testing.assert_array_equal(pred, scores["pred_pixels"][prompted])
        np.testing.assert_array_equal(found.rounds.counts[:, prompted, 2], [scores["true_pixels"][prompted]] * 2)


def test_the_first_round_is_what_one_click_gives(once: list[VolumePrediction], clicked: list[VolumePrediction]):
    for one, found in zip(once, clicked, strict=True):
        prompted = found.rounds.prompted
        np.testing.assert_allclose(found.rounds.iou[0, prompted], one.rounds.iou[0, prompted], rtol=1e-4)
        np.testing.assert_array_equal(found.rounds.counts[0, prompted], one.rounds.counts[0, prompted])
        np.testing.assert_array_equal(found.rounds.click, one.rounds.click)
    prompted = clicked[0].rounds.prompted
    assert (clicked[0].rounds.iou[0, prompted] != clicked[0].rounds.iou[1, prompted]).all()


def test_clicks_lie_inside_the_roi(clicked: list[VolumePrediction]):
    clicks = set()
    for case, found in ((cases()[0], clicked[0]), (cases()[2], clicked[2])):
        for z in np.flatnonzero(found.rounds.prompted):
            x, y = found.rounds.click[z]
            assert (x, y) == (round(x), round(y))
            assert case.labels[z, int(y), int(x)] == 2
            clicks.add((x, y))
    assert len(clicks) > 3


def test_the_click_is_the_one_that_the_model_got(model: SegmentationModel, clicked: list[VolumePrediction]):
    """A region of the click's pixel alone leaves the model no other click: it must predict the same."""
    rounds = clicked[0].rounds
    labels = np.zeros(SHAPE, np.uint8)
    for z in np.flatnonzero(rounds.prompted):
        x, y = rounds.click[z].astype(int)
        labels[z, y, x] = 2
    (again,) = segmented(model, "point", chosen=[made_case(labels, "a")], seed=99)
    np.testing.assert_allclose(again.rounds.iou[0, rounds.prompted], rounds.iou[0, rounds.prompted], rtol=1e-4)
    np.testing.assert_array_equal(again.rounds.counts[0, rounds.prompted, 1], rounds.counts[0, rounds.prompted, 1])


def test_without_prompts_every_slice_is_run(model: SegmentationModel):
    for found in segmented(model, "none"):
        assert not np.isnan(found.iou).any()
        assert found.rounds is None


NATIVE, ROWS, COLUMNS, IDENTITY, FIRST = 40, 33, 36, 1234567, 6


def blobs(seed: int) -> np.ndarray:
    """(4, 40, 40) bool: about half of each slice, in pieces, and nothing in the padding."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((4, NATIVE, NATIVE)), (0, 2, 2))
    found = noise > 0
    found[:, ROWS:], found[:, :, COLUMNS:] = False, False
    return found


@pytest.mark.parametrize("kind", ["point", "box"])
def test_prompts_are_those_that_training_draws(kind: str):
    """Two windows of two slices in training, four slices by themselves in the engine; predictions are made up."""
    truth, extent, key = blobs(0), np.int32([ROWS, COLUMNS]), jax.random.key(5)
    objective = small.objective(kind, clicks=4)
    batch = {
        "identity": np.int32([IDENTITY] * 2),
        "start": np.int32([FIRST, FIRST + 2]),
        "slices": np.ones((2, 2), bool),
    }

    @jax.jit
    def trained(truth: jax.Array, predictions: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        keys, pairs = sample_keys(key, batch), partial(jax.numpy.reshape, shape=(2, 2, NATIVE, NATIVE))
        prompts, _ = draw_prompts(keys, pairs(truth), np.stack([extent] * 2), objective)
        pixels = inside(np.stack([extent] * 2), NATIVE)[:, None]
        for slot, found in enumerate(predictions, 1):
            prompts = answer_clicks(prompts, slot, keys.slices, pairs(found), pairs(truth), pixels, 64)
        return prompts.coords[:, 0], prompts.labels[:, 0]

    predictions = [] if kind == "box" else [blobs(seed) for seed in (1, 2, 3)]
    draw, one = (key, np.int32(IDENTITY), np.arange(FIRST, FIRST + 4, dtype=np.int32), truth), Devices()
    slots = first_prompts(*draw, kind=kind, slots=4, devices=one)
    for slot, found in enumerate(predictions, 1):
        slots = with_next_click(slots, np.int32(slot), *draw, found[:, None], extent, devices=one)
    coords, labels = trained(truth, predictions)
    if kind == "box":
        (first,) = np.flatnonzero(labels[0] == BOX_FIRST)
        pixels = (coords[:, first : first + 2].reshape(4, 4) + 0.5) * (NATIVE / 64) - 0.5
        np.testing.assert_allclose(slots.boxes, pixels, atol=1e-4)
        assert np.asarray(slots.has_box).all()
        for box, mask in zip(np.asarray(slots.boxes), truth, strict=True):
            (y0, x0), (y1, x1) = (edge(np.argwhere(mask), axis=0) for edge in (np.min, np.max))
            assert box.tolist() == [x0, y0, x1, y1]
    else:
        np.testing.assert_array_equal(slots.labels, labels[:, :4])
        np.testing.assert_allclose(slots.points, (coords[:, :4] + 0.5) * (NATIVE / 64) - 0.5, atol=1e-4)
        assert set(np.unique(labels[:, :4])) == {0, 1}
        assert len(np.unique(np.asarray(slots.points).reshape(-1, 2), axis=0)) > 12


def test_a_slice_has_one_key_in_any_window():
    key, numbers = jax.random.key(2), np.arange(10, dtype=np.int32)
    alone = jax.random.key_data(slice_keys(key, np.int32(IDENTITY), numbers))
    for start, depth in ((3, 4), (0, 10), (9, 1)):
        batch = {"identity": np.int32([IDENTITY]), "start": np.int32([start]), "slices": np.ones((1, depth), bool)}
        keys = jax.random.key_data(sample_keys(key, batch).slices)[0]
        np.testing.assert_array_equal(keys, alone[start : start + depth])
    assert len(np.unique(alone, axis=0)) == 10
