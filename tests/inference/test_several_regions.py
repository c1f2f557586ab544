"""A run of several regions in the engine: one label map, prompts of the whole tumour, an IoU for each region."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from flax import nnx

from samjax import Predictor
from samjax.data.labels import COMPARTMENTS, NESTED, roi_mask
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.inference.batch import predict
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import model_of_run
from samjax.inference.predictions import VolumePrediction
from samjax.inference.prompts import SlicePrompt
from samjax.inference.regions import region_codes
from samjax.inference.volumes import segment_cases
from samjax.models.adapt import random_sam
from samjax.models.flat import to_flat
from samjax.options import PredictOptions
from samjax.runs.config import RunConfig
from samjax.runs.folder import CONFIG, FINAL
from samjax.runs.trained import load_trained, save_final
from samjax.weights.base import save_weights
from tests.evaluation.cases import made_case, square
from tests.made_runs import write_run
from tests.training import small

SHAPE = (5, 28, 32)
SMALLER = replace(small.CONFIG, depth=1, global_attn_indexes=(0,), decoder_depth=1, iou_head_depth=2)
LABELS = square(SHAPE, slice(1, 4), slice(4, 20), slice(8, 28), code=1)
LABELS[2, 8:16, 12:20], LABELS[2, 10:14, 14:18] = 2, 3
"""Whole tumour on slices 1 to 3, core and enhancing tumour on slice 2 alone."""
TUMOUR = [False, True, True, True, False]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def base(place: Path) -> Path:
    """Smaller still than the small SAM: most of the time here goes into compiling the decoder."""
    flat = to_flat(nnx.state(random_sam(SMALLER, seed=3)), SMALLER.block_spans)
    save_weights(place / "base.safetensors", flat, SMALLER)
    return place / "base.safetensors"


@pytest.fixture(scope="module")
def scan(place: Path) -> Path:
    write_cohort(place / "cohort-2023", "adult", 1, options=PhantomOptions((32, 32, 7)))
    return next((place / "cohort-2023").glob("BraTS*"))


@pytest.fixture(scope="module")
def run(place: Path, base: Path, scan: Path) -> Path:
    return write_run(place / "joint", base, scan.parent, seed=2, roi="all", depth=2, prompt="mixed", clicks=2)


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    found = Predictor.from_run(run)
    found.set_volume(made_case(LABELS).memory.images)
    return found


def by_truth(run: Path, kind: str, clicks: int = 1) -> VolumePrediction:
    ((_, found),) = segment_cases(model_of_run(run), [made_case(LABELS)], GroundTruthPrompts(kind, clicks))
    return found


@pytest.fixture(scope="module")
def clicked(run: Path) -> VolumePrediction:
    return by_truth(run, "point", clicks=2)


def test_the_model_has_three_regions_the_whole_tumour_first(predictor: Predictor):
    assert predictor.rois == NESTED == ("whole-tumor", "tumor-core", "enhancing")


def test_a_volume_is_one_map_of_canonical_codes(predictor: Predictor):
    slices = predictor.predict_slices([SlicePrompt(z) for z in range(SHAPE[0])])
    masks = {roi: np.stack([found.masks[index] for found in slices]) for index, roi in enumerate(NESTED)}
    assert all(0.02 < mask.mean() < 0.98 for mask in masks.values())
    assert not np.array_equal(masks["tumor-core"], masks["enhancing"])
    found = predictor.segment()
    assert (found.mask.shape, found.mask.dtype) == (SHAPE, np.uint8)
    np.testing.assert_array_equal(found.mask, region_codes(masks))
    for roi in NESTED:
        np.testing.assert_array_equal(found.region(roi), roi_mask(found.mask, roi))
    np.testing.assert_array_equal(found.region_iou, np.stack([one.ious for one in slices], axis=1))
    np.testing.assert_array_equal(found.iou, found.region_iou[0])
    assert [one.iou for one in slices] == found.iou.tolist()


def test_nested_regions_are_clipped(run: Path, predictor: Predictor):
    nested = Predictor.from_run(run, nested=True)
    nested.set_volume(made_case(LABELS).memory.images)
    slices = predictor.predict_slices([SlicePrompt(z) for z in range(SHAPE[0])])
    masks = dict(zip(NESTED, np.stack([one.masks for one in slices], axis=1), strict=True))
    found = nested.segment().mask
    np.testing.assert_array_equal(found, region_codes(masks, nested=True))
    assert not np.array_equal(found, predictor.segment().mask)


def test_prompts_from_labels_are_of_the_whole_tumour(predictor: Predictor, run: Path):
    boxes = [(z, 4, 8, z, 19, 27) for z in (1, 2, 3)]
    found, asked = by_truth(run, "box"), predictor.segment(boxes=boxes)
    np.testing.assert_array_equal(found.mask, asked.mask)
    np.testing.assert_allclose(found.region_iou, asked.region_iou, rtol=1e-5)
    assert found.rounds.prompted.tolist() == TUMOUR
    np.testing.assert_array_equal(np.isnan(found.region_iou), np.broadcast_to(np.logical_not(TUMOUR), (3, 5)))
    assert len(np.unique(found.mask)) == 4
    truth = (LABELS > 0).sum((1, 2))
    np.testing.assert_array_equal(found.rounds.counts[0, :, 2], truth)


def with_other_inner_regions(run: Path, folder: Path) -> Path:
    """The run with the parameters of its inner regions changed, and no others."""
    shutil.copytree(run, folder)
    config, trained = load_trained(folder)
    inner = {path for path in trained.trained if "/inner_regions/" in path}
    assert inner
    changed = {path: x + (0.2 if path in inner else 0.0) for path, x in trained.trained.items()}
    save_final(folder, {"last": {path: np.float32(x) for path, x in changed.items()}}, config)
    return folder


def test_clicks_and_masks_between_them_follow_the_whole_tumour(run: Path, clicked: VolumePrediction, tmp_path: Path):
    """What inner regions predict changes nothing of the rounds; the second click comes with a mask prompt."""
    other = by_truth(with_other_inner_regions(run, tmp_path / "other"), "point", clicks=2)
    for name in ("counts", "click", "iou"):
        np.testing.assert_array_equal(getattr(clicked.rounds, name), getattr(other.rounds, name))
    assert clicked.rounds.iou[0, 2] != clicked.rounds.iou[1, 2]
    np.testing.assert_array_equal(clicked.region_iou[0], other.region_iou[0])
    assert not np.array_equal(clicked.region_iou[1:, 1:4], other.region_iou[1:, 1:4])
    assert not np.array_equal(clicked.mask, other.mask)


def test_propagation_follows_the_whole_tumour(
    run: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("samjax.inference.propagation.IOU_SHARE", float("nan"))  # no predicted IoU ends it
    other = Predictor.from_run(with_other_inner_regions(run, tmp_path / "other"))
    other.set_volume(made_case(LABELS).memory.images)
    one, two = (each.segment(boxes=[(2, 4, 8, 2, 19, 27)], propagate=True) for each in (predictor, other))
    np.testing.assert_array_equal(one.iou, two.iou)
    assert np.count_nonzero(~np.isnan(one.iou)) > 1
    assert not np.array_equal(one.mask, two.mask)


def test_a_picture_has_a_mask_for_each_region(predictor: Predictor):
    predictor.set_image(made_case(LABELS).memory.images[2])
    masks, iou, logits = predictor.predict(points=[(15, 12)], labels=[1])
    assert (masks.shape, iou.shape, logits.shape) == ((3, *SHAPE[1:]), (3,), (3, 16, 16))
    again, _, _ = predictor.predict(points=[(15, 12)], labels=[1], mask=logits[0])
    assert again.shape == masks.shape
    assert not np.array_equal(again, masks)


def predicted(folder: Path) -> np.ndarray:
    (file,) = folder.glob("*.nii.gz")
    return np.asarray(nib.load(file).dataobj)


def test_predict_writes_one_label_map(run: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    options = PredictOptions((scan,), tmp_path / "out", run=(run,))
    assert predict(options).written == 1
    assert "label values (brats2023): edema 2, non-enhancing 1, enhancing 3" in capsys.readouterr().out
    plain = predicted(tmp_path / "out")
    assert set(np.unique(plain)) == {0, 1, 2, 3}
    with pytest.raises(UserError, match="was made by another run or prompt"):
        predict(replace(options, nested=True))
    predict(replace(options, nested=True, output=tmp_path / "nested"))
    nested = predicted(tmp_path / "nested")
    assert not np.array_equal(nested, plain)
    assert not (nested > 0)[plain == 0].any()
    row = json.loads((tmp_path / "nested" / "predictions.jsonl").read_text())
    assert row["recipe"]["nested"] is True


def test_predict_refuses_what_it_cannot_merge_or_nest(run: Path, base: Path, scan: Path, tmp_path: Path):
    single = write_run(tmp_path / "single", base, scan.parent, depth=1, prompt="none")
    core = write_run(tmp_path / "core", base, scan.parent, depth=1, prompt="none", seed=2, roi="tumor-core")
    options = PredictOptions((scan,), tmp_path / "out", run=(run, single))
    with pytest.raises(UserError, match="joint: predicts several regions at once; give it alone"):
        predict(options)
    with pytest.raises(UserError, match="--nested: there are no regions"):
        predict(replace(options, run=(single,), nested=True))
    predict(replace(options, run=(single, core)))
    predict(replace(options, run=(single, core), nested=True, output=tmp_path / "nested"))
    both, nested = predicted(tmp_path / "out"), predicted(tmp_path / "nested")
    outside = (both > 0) & (nested == 0)
    assert (both[outside] == 1).all()
    assert outside.any(), "the tumour core reaches beyond the whole tumour"
    np.testing.assert_array_equal(both[~outside], nested[~outside])


def test_a_run_without_its_inner_regions_is_refused(run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    config = json.loads((run / CONFIG).read_text())
    config["options"]["roi"] = "whole-tumor"
    (tmp_path / "run" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(UserError, match="inner_regions"):
        load_trained(tmp_path / "run")
    alone = RunConfig.from_json(json.dumps(config), run)
    _, trained = load_trained(run)
    inner = {path for path in trained.trained if "/inner_regions/" in path}
    save_final(tmp_path / "run", {"last": {p: x for p, x in trained.trained.items() if p not in inner}}, alone)
    shutil.copy(run / CONFIG, tmp_path / "run" / CONFIG)
    with pytest.raises(UserError, match=rf"{FINAL}: .*inner_regions"):
        load_trained(tmp_path / "run")


def test_every_compartment_can_be_written(clicked: VolumePrediction):
    assert {*np.unique(clicked.mask)} <= {0, *COMPARTMENTS.values()}
