"""The predictor against scoring and against the model itself; what it keeps, and what it refuses."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from samjax import Predictor
from samjax.data.cache.cases import CachedCase
from samjax.data.cases import Case, Source
from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.geometry import geometry_of
from samjax.data.imaging.volumes import Box, Volume
from samjax.errors import UserError
from samjax.inference import encoded
from samjax.inference.fitting.predictions import fitted
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import model_of_run
from samjax.inference.postprocess import Postprocess, cleaned
from samjax.inference.predictions import SlicePrediction
from samjax.inference.prompts import SlicePrompt
from samjax.inference.propagation import IOU_SHARE, MIN_PIXELS, box_around, click_inside, propagate_prompts
from samjax.inference.volumes import segment_cases
from samjax.models.prompt_encoder import make_prompts
from samjax.models.resizing import to_input, to_native
from tests.data.trees import example, save_brats
from tests.made_runs import write_base, write_run

SHAPE = (5, 28, 32)
"""An odd number of slices, which windows of two do not divide, and slices that are no squares."""
SPACING = (3.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def base(place: Path) -> Path:
    return write_base(place / "base.safetensors")


@pytest.fixture(scope="module")
def run(place: Path, base: Path) -> Path:
    """Four channels, windows of two slices, every kind of prompt, and no weight as it was."""
    return write_run(place / "all-kinds", base, place, seed=2, strategy="full", depth=2, prompt="mixed")


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return Predictor.from_run(run)


@pytest.fixture(scope="module")
def volume() -> Volume:
    """Noise with a tumour on three of its slices."""
    rng = np.random.default_rng(1)
    images = rng.integers(1, 256, (*SHAPE, 4), np.uint8)
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 5:14, 8:20], labels[2, 4:16, 7:22], labels[4, 20:27, 2:9] = 1, 2, 3
    counts = np.stack([np.bincount(plane.ravel(), minlength=4) for plane in labels]).astype(np.int32)
    return Volume(images, labels, counts, Box((0, 0, 0), SHAPE), geometry_of(SHAPE, np.diag([1, 1, 3, 1.0]), "here"))


@pytest.fixture(scope="module")
def case(volume: Volume) -> CachedCase:
    sources = {name: Source(Path(f"{name}.nii")) for name in ("t1", "t1gd", "t2", "flair")}
    found = Case("one", "one", "demo", sources, Path("seg.nii"), "brats2023", "brats")
    geometry = geometry_of(SHAPE[::-1], np.diag([-1, -1, 3, 1.0]), "here")
    return CachedCase(found, volume.counts, volume.box, geometry, memory=volume)


def scored(run: Path, case: CachedCase, prompt: str) -> np.ndarray:
    """What eval.py predicts for the case."""
    ((_, found),) = segment_cases(model_of_run(run), [case], GroundTruthPrompts(prompt))
    return found.mask


def tight_boxes(labels: np.ndarray) -> list[tuple[int, ...]]:
    found = [(z, np.argwhere(plane)) for z, plane in enumerate(labels) if plane.any()]
    return [(z, *map(int, where.min(0)), z, *map(int, where.max(0))) for z, where in found]


def test_ground_truth_boxes_give_what_scoring_gives(run: Path, predictor: Predictor, volume: Volume, case: CachedCase):
    predictor.set_volume(volume.images)
    found = predictor.segment(boxes=tight_boxes(volume.labels))
    assert 0.1 < found.mask[[1, 2, 4]].mean() < 0.9
    np.testing.assert_array_equal(found.mask, scored(run, case, "box"))
    np.testing.assert_array_equal(np.isnan(found.iou), [True, False, False, True, False])
    assert not np.array_equal(found.mask, predictor.segment(boxes=[(1, 0, 0, 2, 9, 9), (4, 0, 0, 4, 9, 9)]).mask)


def test_without_prompts_every_slice_is_as_scoring_has_it(
    run: Path, predictor: Predictor, volume: Volume, case: CachedCase
):
    predictor.set_volume(volume.images)
    found = predictor.segment()
    assert 0.1 < found.mask.mean() < 0.9
    np.testing.assert_array_equal(found.mask, scored(run, case, "none"))
    assert not np.isnan(found.iou).any()


def test_a_unet_gives_all_classes_as_scoring_has_them(place: Path, base: Path, volume: Volume, case: CachedCase):
    unet = write_run(place / "unet", base, place, strategy="unet")
    predictor = Predictor.from_run(unet)
    predictor.set_volume(volume.images)
    found = predictor.segment()
    assert len(np.unique(found.mask)) == 4
    np.testing.assert_array_equal(found.mask, scored(unet, case, "none"))
    assert np.isnan(found.iou).all()
    with pytest.raises(UserError, match="prompt box"):
        predictor.segment(boxes=[(0, 0, 0, 0, 5, 5)])
    with pytest.raises(UserError, match="set_volume"):
        predictor.set_image(volume.images[0])


def test_a_picture_is_what_the_model_gives_by_hand(run: Path, predictor: Predictor, volume: Volume):
    """Three clicks and a box on a slice that is no square, with the slots exactly as many as they need."""
    clicks, labels = np.array([[4, 6], [11, 7], [20, 20]]), np.array([1, 0, 1])
    box = np.array([3.0, 5.0, 21.0, 24.0])
    predictor.set_image(volume.images[0])
    masks, iou, low = predictor.predict(clicks, labels, box)
    assert masks.shape == (1, 28, 32)

    model = model_of_run(run).network()
    picture = np.zeros((1, 1, 32, 32, 4), np.uint8)
    picture[0, 0, :28] = volume.images[0]

    @jax.jit
    def by_hand(picture: jax.Array, clicks: jax.Array, labels: jax.Array, box: jax.Array) -> tuple[jax.Array, ...]:
        clicks, box = ((x[None, None] + 0.5) * 2 - 0.5 for x in (clicks, box))  # 32 pixels become 64
        prompts = make_prompts(clicks, labels[None, None], box)
        logits, iou = model.decode(model.encode(to_input(picture, 64))[0], prompts)
        return logits[0, 0], iou[0, 0], to_native(logits[0, 0], 64, 32)[:, :28]

    with jax.default_matmul_precision("highest"):
        logits, expected, pixels = jax.device_get(by_hand(picture, np.float32(clicks), labels, np.float32(box)))
    np.testing.assert_allclose(low, logits, atol=2e-4 * np.abs(logits).max())
    np.testing.assert_allclose(iou, expected, atol=1e-4)
    clear = np.abs(pixels) > 1e-3
    np.testing.assert_array_equal(masks[clear], (pixels > 0)[clear])

    assert predictor.predict(clicks, labels, box, multimask=True)[0].shape == (3, 28, 32)
    with pytest.raises(UserError, match="prompt mask"):
        predictor.predict(clicks, labels, box, mask=low[0])


def test_masks_are_cleaned_as_the_command_cleans_them(run: Path, volume: Volume):
    """The run has no choice of its own; the prediction before cleaning is there with `undo`."""
    predictor = Predictor.from_run(run)
    predictor.set_volume(volume.images, SPACING)
    raw = predictor.segment(logits=True)
    for rule in ("largest=1,fill", "fit,largest=1"):
        found = predictor.segment(postprocess=rule)
        parsed = Postprocess.parse(rule)
        before = fitted(raw, volume.images, SPACING, predictor.model) if parsed.fit else raw
        np.testing.assert_array_equal(found.mask, cleaned(before.mask, SPACING, parsed))
        assert (found.mask != raw.mask).any()
        assert found.logits is None
    np.testing.assert_array_equal(predictor.segment(postprocess="auto").mask, raw.mask)
    predictor.set_volume(volume.images)
    with pytest.raises(UserError, match="needs the spacing of the array in mm; give it to set_volume"):
        predictor.segment(postprocess="fill")
    with pytest.raises(UserError, match='"tidy" is no condition'):
        predictor.segment(postprocess="tidy")


def test_base_weights_take_pictures_volumes_and_masks(base: Path, volume: Volume):
    predictor = Predictor.from_weights(base, image_size=32)
    predictor.set_image(volume.images[0, ..., :3])
    _, _, low = predictor.predict(box=np.array([3, 5, 21, 24]))
    assert low.shape == (1, 8, 8)
    _, _, again = predictor.predict(box=np.array([3, 5, 21, 24]), mask=10 * low[0])
    assert np.abs(again - low).max() > 1e-3
    predictor.set_volume(volume.images)
    boxed = predictor.segment(boxes=tight_boxes(volume.labels)).mask
    predictor.set_image(volume.images[1][..., [3, 1, 2]])  # flair, t1gd, t2
    _, y0, x0, _, y1, x1 = tight_boxes(volume.labels)[0]
    np.testing.assert_array_equal(boxed[1], predictor.predict(box=np.array([x0, y0, x1, y1]))[0][0])
    with pytest.raises(UserError, match="prompt none"):
        predictor.segment()


def test_further_prompts_compile_and_encode_nothing(
    predictor: Predictor, volume: Volume, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    predictor.set_volume(volume.images)
    windows = []
    original = encoded.encode

    def noted(*args: object, **options: object) -> tuple[jax.Array, ...]:
        windows.append(len(args[3]))
        return original(*args, **options)

    monkeypatch.setattr(encoded, "encode", noted)
    predictor.segment(points=[(2, 5, 5, 1), (2, 9, 9, 0), (2, 3, 3, 1)])
    predictor.segment(boxes=[(1, 0, 0, 1, 9, 9)])
    assert windows == [1, 1]  # windows of slices 2, 3 and 0, 1: each for itself
    with jax.log_compiles():
        predictor.segment(points=[(3, 6, 8, 1), (3, 2, 2, 0), (3, 1, 1, 0), (3, 2, 1, 0)])
        predictor.segment(boxes=[(0, 3, 3, 3, 20, 20), (2, 1, 1, 2, 5, 5)])
    assert windows == [1, 1]
    assert not [entry.message for entry in caplog.records if "ompiling" in entry.message]
    with jax.log_compiles():  # that a compilation would have been seen
        jax.jit(lambda x: x + 41)(1.0)
    assert [entry.message for entry in caplog.records if "ompiling" in entry.message]


def test_a_prediction_does_not_depend_on_the_prompts_beside_it(predictor: Predictor, volume: Volume):
    predictor.set_volume(volume.images)
    rng = np.random.default_rng(2)
    corners = np.sort(rng.integers(0, 28, (11, 2, 2)), axis=1)
    prompts = [SlicePrompt(n % 5, box=(x0, y0, x1, y1)) for n, ((y0, x0), (y1, x1)) in enumerate(corners.tolist())]
    prompts.append(SlicePrompt(3, tuple((x, 5, x % 2) for x in range(5))))
    together = predictor.predict_slices(prompts)
    assert len(together) == 12
    for prompt, one in zip(prompts, together, strict=True):
        (alone,) = predictor.predict_slices([prompt])
        assert (alone.slice, one.slice) == (prompt.slice, prompt.slice)
        assert abs(alone.iou - one.iou) < 1e-4
        assert np.count_nonzero(alone.mask != one.mask) <= 2  # a logit of almost nothing may round either way


def test_two_boxes_on_a_slice_are_united_with_the_lower_iou(predictor: Predictor, volume: Volume):
    predictor.set_volume(volume.images)
    boxes = [(2, 1, 1, 2, 8, 8), (2, 15, 15, 2, 27, 30)]
    first, second = (predictor.segment(boxes=[box]) for box in boxes)
    both = predictor.segment(boxes=boxes)
    assert np.count_nonzero(both.mask != (first.mask | second.mask)) <= 2
    assert abs(both.iou[2] - min(first.iou[2], second.iou[2])) < 1e-4


def test_a_neighbouring_slice_matters(predictor: Predictor, volume: Volume):
    """The slices of a window reach the model together and in order."""
    ask = [SlicePrompt(2, box=(3, 3, 20, 20))]
    predictor.set_volume(volume.images)
    (before,) = predictor.predict_slices(ask)
    changed = volume.images.copy()
    changed[3] = 255 - changed[3]
    predictor.set_volume(changed)
    (after,) = predictor.predict_slices(ask)
    assert abs(before.iou - after.iou) > 1e-3
    changed[4] = 255 - changed[4]  # of the next window
    predictor.set_volume(changed)
    assert abs(predictor.predict_slices(ask)[0].iou - after.iou) < 1e-5


def test_a_case_on_disk_is_read_without_its_label(predictor: Predictor, tmp_path: Path):
    folder = save_brats(tmp_path / "Brats18_X_1", "Brats18_X_1", example())
    (folder / "Brats18_X_1_seg.nii.gz").write_bytes(b"not an image")
    (case,) = find_cases(folder)
    assert case.label is not None
    for given in (folder, str(folder), case):
        predictor.set_volume(given)
        assert predictor.geometry.shape == (9, 20, 16)
    assert predictor.segment(points=[(4, 7, 8, 1)]).mask.shape == (9, 20, 16)
    save_brats(tmp_path / "Brats18_X_2", "Brats18_X_2", example(1))
    with pytest.raises(UserError, match="holds 2 cases"):
        predictor.set_volume(tmp_path)


def test_prompts_that_cannot_be_used_are_refused(place: Path, base: Path, volume: Volume):
    clicks_only = write_run(place / "clicks", base, place, depth=2, prompt="point")
    predictor = Predictor.from_run(clicks_only)
    with pytest.raises(UserError, match="set_volume"):
        predictor.segment(points=[(0, 1, 1, 1)])
    with pytest.raises(UserError, match="set_volume"):
        predictor.predict_slices([])
    with pytest.raises(UserError, match="set_image"):
        predictor.predict(np.array([[1, 1]]), np.array([1]))
    with pytest.raises(UserError, match="columns, 4"):
        predictor.set_volume(volume.images[..., :3])
    with pytest.raises(UserError, match="expected uint8"):
        predictor.set_image(volume.images[0, ..., :3])
    predictor.set_volume(volume.images)
    for prompts, words in (
        ({}, "prompt none: clicks was trained with point only"),
        ({"boxes": [(0, 1, 1, 0, 5, 5)]}, "prompt box: clicks was trained with point only"),
        ({"points": [(5, 1, 1, 1)]}, r"point \[5, 1, 1, 1\]"),
        ({"points": [(0, 1, 1, 2)]}, "label 0 or 1"),
        ({"points": [(0, 1, 1, 1), (1, 1, 1, 0)]}, "slice 1 .* negative clicks only"),
        ({"points": [(0, 1, 1)]}, r"\(1, 3\)"),
        ({"points": [(0, 1.5, 1, 1)]}, "whole numbers"),
        ({"boxes": [(0, 6, 1, 0, 5, 5)]}, r"box \[0, 6, 1"),
        ({"boxes": [(0, 0, 1, 0, 5, 32)]}, r"box \[0, 0, 1"),
        ({"propagate": True}, "prompt none"),
    ):
        with pytest.raises(UserError, match=words):
            predictor.segment(**prompts)


def test_pictures_runs_point_to_their_weights(place: Path, base: Path):
    pictures = write_run(place / "pictures", base, place, strategy="pretrain", channels="rgb", clicks=3)
    with pytest.raises(UserError, match=r"from_weights"):
        Predictor.from_run(pictures)


def test_importing_it_is_cheap():
    """Nothing that takes long is imported beyond jax and flax.nnx."""
    heavy = ("nibabel", "scipy.ndimage", "orbax", "matplotlib", "rich", "safetensors", "samjax.runs", "samjax.training")
    code = "import sys, jax, flax.nnx; before = set(sys.modules); from samjax import Predictor; "
    code += f"print([name for name in {heavy} if name in set(sys.modules) - before])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def ball(slices: int = 15) -> np.ndarray:
    """A ball of radius 6 about slice 7."""
    z, y, x = np.ogrid[:slices, :30, :30]
    return (z - 7) ** 2 + (y - 14) ** 2 + (x - 12) ** 2 <= 36


def oracle(truth: np.ndarray, iou: Callable[[int], float] = lambda z: 0.9) -> Callable[[Sequence[SlicePrompt]], list]:
    """Predicts the truth inside the box, or all of it if a positive click hits it."""

    def predict_slices(prompts: Sequence[SlicePrompt]) -> list[SlicePrediction]:
        found = []
        for prompt in prompts:
            mask = np.zeros(truth.shape[1:], bool)
            if prompt.box is not None:
                x0, y0, x1, y1 = prompt.box
                mask[y0 : y1 + 1, x0 : x1 + 1] = truth[prompt.slice, y0 : y1 + 1, x0 : x1 + 1]
            elif any(label and truth[prompt.slice, y, x] for x, y, label in prompt.clicks):
                mask = truth[prompt.slice]
            found.append(SlicePrediction(prompt.slice, mask[None], np.float32([iou(prompt.slice)])))
        return found

    return predict_slices


def united(predictions: Sequence[SlicePrediction], truth: np.ndarray) -> np.ndarray:
    mask = np.zeros_like(truth)
    for one in predictions:
        mask[one.slice] |= one.mask
    return mask


@pytest.mark.parametrize("around", [box_around, click_inside])
def test_a_mask_is_propagated_up_and_down_until_it_vanishes(around: Callable):
    truth = ball()
    start = {5: SlicePrompt(5, ((12, 14, 1),))}  # below the middle: upwards the boxes have to grow
    found = list(propagate_prompts(oracle(truth), [start], 15, around))
    reached = sorted(one.slice for one in found)
    areas = truth.sum((1, 2))
    assert reached == [z for z in range(15) if areas[z] >= MIN_PIXELS]
    missed = np.count_nonzero(united(found, truth)[reached] != truth[reached])
    assert missed == 0


def test_propagation_ends_where_the_model_doubts_the_mask():
    truth = np.ones((9, 30, 30), bool)
    start = [{4: SlicePrompt(4, box=(3, 3, 9, 9))}]
    for factor, reached in ((0.9, [2, 3, 4, 5]), (1.1, list(range(9)))):
        doubt = oracle(truth, lambda z, factor=factor: 0.4 * (factor * IOU_SHARE if z in (1, 6) else 1))
        assert sorted(one.slice for one in propagate_prompts(doubt, start, 9, box_around)) == reached


def test_two_prompts_of_a_region_meet_and_keep_their_own_slices():
    truth = ball()
    ask = oracle(truth)
    small = SlicePrompt(9, box=(12, 14, 12, 14))  # the user's own, smaller than the mask that would be propagated there
    found = list(propagate_prompts(ask, [{6: SlicePrompt(6, ((12, 14, 1),)), 9: small}], 15, click_inside))
    assert np.count_nonzero(united(found, truth)[9]) == 1
    assert {one.slice for one in found if one.mask.any()} == set(range(2, 13))
    apart = list(propagate_prompts(ask, [{6: SlicePrompt(6, ((12, 14, 1),))}, {9: small}], 15, click_inside))
    assert np.count_nonzero(united(apart, truth)[9]) == np.count_nonzero(truth[9])


def test_boxes_grow_slightly_and_stay_inside():
    mask = np.zeros((50, 60), bool)
    mask[10:12, 0:40] = True
    assert box_around(mask, 3) == SlicePrompt(3, box=(0, 9, 41, 12))
    mask[49, 59] = True
    assert box_around(mask, 3).box == (0, 8, 59, 49)


def test_propagation_by_the_model_is_its_own_predictions_in_turn(predictor: Predictor, volume: Volume):
    predictor.set_volume(volume.images)
    found = predictor.segment(boxes=[(2, 4, 4, 2, 20, 24)], propagate=True)
    (start,) = predictor.predict_slices([SlicePrompt(2, box=(4, 4, 24, 20))])
    np.testing.assert_array_equal(found.mask[2], start.mask)
    reached = ~np.isnan(found.iou)
    (above,) = predictor.predict_slices([box_around(start.mask, 3)])
    assert reached[3] == (above.mask.sum() >= MIN_PIXELS and above.iou >= IOU_SHARE * start.iou)
    np.testing.assert_array_equal(found.mask[3], above.mask if reached[3] else np.zeros_like(above.mask))
    assert reached.sum() > 1
