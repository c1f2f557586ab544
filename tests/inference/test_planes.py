"""Prompt-free masks from several planes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from samjax import Predictor
from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.planes import PLANES
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.evaluation.models import choose_models
from samjax.inference.batch import predict
from samjax.inference.encoded import EncodedVolume
from samjax.inference.loading import model_of_run
from samjax.inference.planes import PlanesVolume, encoded_volume, mean_classes, mean_regions
from samjax.inference.prediction_records import RECORDS
from samjax.inference.predictions import NOT_RUN
from samjax.inference.predictor import read_images
from samjax.options import EvalOptions, PredictOptions
from samjax.runs.folder import read_config
from tests.made_runs import write_base, write_run

ALL = "axial,coronal,sagittal"
RUNS = {
    "sam": {"depth": 2, "prompt": "none,box", "planes": ALL, "spacing": "8,8,8"},
    "unet": {"strategy": "unet", "planes": ALL, "spacing": "8,8,8"},
    "axial": {"strategy": "unet", "spacing": "8,8,8"},
}


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planes")
    return write_cohort(root / "cohort-2023", "adult", 1, options=PhantomOptions((24, 24, 18)))[0]


@pytest.fixture(scope="module")
def runs(scan: Path) -> dict[str, Path]:
    place = scan.parent.parent
    base = write_base(place / "base.safetensors")
    return {name: write_run(place / name, base, scan.parent, native=24, **about) for name, about in RUNS.items()}


@pytest.fixture(scope="module")
def images(scan: Path) -> np.ndarray:
    return read_images(find_cases(scan, read_labels=False)[0])[0]


def probability(logits: np.ndarray) -> np.ndarray:
    return expit(logits.astype(np.float64))


class TestMeans:
    def test_of_regions_is_of_probabilities_and_keeps_both_tails(self):
        rng = np.random.default_rng(0)
        planes = rng.normal(0, 8, (3, 1, 4, 5, 6)).astype(np.float32)
        fused = mean_regions(iter(planes))
        assert fused.dtype == np.float32
        np.testing.assert_allclose(probability(fused), probability(planes).mean(axis=0), rtol=1e-5)
        for value in (30.0, -30.0):
            np.testing.assert_allclose(mean_regions([np.full(2, value, np.float32)] * 3), value, rtol=1e-5)
        run, not_run = np.float32([0.5]), np.float32([NOT_RUN])
        np.testing.assert_allclose(probability(mean_regions([run, not_run])), probability(run) / 2, rtol=1e-5)

    def test_of_classes_is_of_probabilities(self):
        planes = np.random.default_rng(1).normal(0, 8, (2, 4, 3, 3)).astype(np.float32)
        shares = np.exp(planes.astype(np.float64))
        shares /= shares.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(np.exp(mean_classes(planes)), shares.mean(axis=0), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("name", ["sam", "unet"])
def test_masks_are_of_the_mean_probability_of_all_planes(runs: dict[str, Path], images: np.ndarray, name: str):
    model = model_of_run(runs[name])
    assert model.planes == tuple(PLANES)
    single = []
    for plane in PLANES.values():
        shown = np.flatnonzero(plane.seen(images).any((1, 2, 3)))
        part = slice(0, None) if plane.name == "axial" else slice(shown[0], shown[-1] + 1)
        seen = np.ascontiguousarray(plane.seen(images)[part])
        found = EncodedVolume(model, seen, 8).segment(logits=True).logits
        whole = np.full((len(found), *plane.seen(images).shape[:3]), NOT_RUN, np.float32)
        whole[:, part] = found
        single.append(probability(plane.back(whole)))
    fused = PlanesVolume(model, images).segment(logits=True)
    np.testing.assert_allclose(probability(fused.logits), np.mean(single, axis=0), atol=1e-4)
    alone = encoded_volume(replace(model, planes=("axial",)), images).segment()
    assert (alone.mask != fused.mask).any()
    if name == "sam":
        np.testing.assert_array_equal(fused.mask, fused.logits[0] > 0)
        np.testing.assert_array_equal(fused.iou, alone.iou)
        coronal = PlanesVolume(replace(model, planes=("coronal",)), images).segment()
        assert np.isnan(coronal.iou).all()
    assert PlanesVolume(model, images).segment().logits is None


def test_prompts_are_axial_whatever_the_planes(runs: dict[str, Path], scan: Path):
    masks = []
    for planes in (None, "axial"):
        predictor = Predictor.from_run(runs["sam"], planes=planes)
        predictor.set_volume(scan)
        masks.append([predictor.segment(boxes=[(6, 5, 5, 9, 15, 15)]).mask, predictor.segment().mask])
    np.testing.assert_array_equal(masks[0][0], masks[1][0])
    assert (masks[0][1] != masks[1][1]).any()


def test_another_grid_gets_its_logits_from_the_fused_ones(runs: dict[str, Path], images: np.ndarray):
    """Slices twice as thick as the run's: the mask is on the scan's own grid."""
    predictor = Predictor.from_run(runs["unet"])
    predictor.set_volume(images[::2], spacing=(16, 8, 8))
    found = predictor.segment(logits=True)
    assert found.mask.shape == images[::2].shape[:3]
    assert found.logits.shape[1:] == found.mask.shape


def test_predictions_record_their_planes(
    runs: dict[str, Path], scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    options = PredictOptions((scan,), tmp_path, (runs["unet"],), workers=0)
    predict(options)
    assert json.loads((tmp_path / RECORDS).read_text())["recipe"]["planes"] == ALL
    assert "already" in str(predict(options))
    with pytest.raises(UserError, match=f"made with --planes {ALL}, not axial"):
        predict(replace(options, planes="axial"))
    with pytest.raises(UserError, match="--planes axial: the masks of prompts are axial"):
        predict(replace(options, planes="axial", boxes=tmp_path / "boxes.json"))
    with pytest.raises(UserError, match="--planes coronal: axial was not trained on coronal slices, only on axial"):
        predict(replace(options, planes="coronal", run=(runs["axial"],)))


def test_results_are_named_by_planes_that_are_not_the_runs_own(runs: dict[str, Path]):
    def name(planes: str | None) -> str:
        options = EvalOptions(run=(runs["sam"],), prompt="none", planes=planes)
        return choose_models(options, options.run, [read_config(runs["sam"])])[0].name

    assert [name(planes) for planes in (None, "sagittal,coronal,axial", "axial")] == ["sam", "sam", "sam-axial"]
    options = EvalOptions(run=(runs["sam"],), prompt="box", planes="axial")
    with pytest.raises(UserError, match="give --prompt none"):
        choose_models(options, options.run, [])
