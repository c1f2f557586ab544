"""A scan whose voxels are finer than the run's: seen by the model as the run's own, prompted and masked on its own."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax import Predictor
from samjax.data.cache.cases import CachedCase
from samjax.data.cases import Case, Source
from samjax.data.imaging.doubts import RANGES, ranges_of
from samjax.data.imaging.geometry import geometry_of
from samjax.data.imaging.grids import RunGrid
from samjax.data.imaging.volumes import Box, Volume
from samjax.data.labels import ROIS
from samjax.errors import UserError
from samjax.evaluation.evaluate import evaluate
from samjax.inference.batch import predict
from samjax.inference.grids import logits_to_source, region_to_run
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import model_of_run
from samjax.inference.model import SegmentationModel
from samjax.inference.prediction_records import RECORDS
from samjax.inference.predictions import NOT_RUN, VolumePrediction
from samjax.inference.prompts import SlicePrompt
from samjax.inference.source import SourceVolume
from samjax.inference.volumes import segment_cases
from samjax.options import EvalOptions, PredictOptions
from samjax.runs.folder import grid_of, read_config
from tests.data.trees import example, save_brats
from tests.made_runs import write_base, write_run

SHAPE = (5, 28, 32)
"""Slices, rows and columns on the run's grid."""
GRID = RunGrid(1.0, 1.0, 3.0)
FINER = {"pixels": (1, 3, 3), "slices": (2, 1, 1), "both": (2, 3, 3)}
"""Voxels of the scan along each axis of a voxel of the run's grid."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grids")


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    base = write_base(place / "base.safetensors")
    return write_run(
        place / "sam", base, place, seed=2, strategy="full", depth=2, prompt="mixed", spacing="1,1,3", clicks=2
    )


@pytest.fixture(scope="module")
def unet(place: Path) -> Path:
    return write_run(place / "unet", place, place, strategy="unet", spacing="1,1,3")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(1, 256, (*SHAPE, 4), np.uint8)


def finer(array: np.ndarray, times: tuple[int, int, int]) -> np.ndarray:
    """The same field of view with each voxel cut into several equal ones."""
    for axis, number in enumerate(times):
        array = np.repeat(array, number, axis)
    return array


def spacing_of(times: tuple[int, int, int]) -> tuple[float, ...]:
    return tuple(np.divide((3.0, 1.0, 1.0), times))


def same_on_the_scan(found: VolumePrediction, own: VolumePrediction, times: tuple[int, int, int]) -> None:
    """Whether a prediction of the cut voxels is that of the whole ones, brought to the scan's grid by its logits."""
    expected = logits_to_source(own.logits, found.mask.shape)
    scale = np.abs(own.logits[own.logits != NOT_RUN]).max()
    np.testing.assert_array_equal(found.logits == NOT_RUN, expected == NOT_RUN)
    np.testing.assert_allclose(found.logits, expected, atol=1e-4 * scale)
    np.testing.assert_allclose(found.iou, np.repeat(own.iou, times[0]), atol=1e-4)
    np.testing.assert_array_equal(found.mask, found.logits[0] > 0)
    assert 0.03 < found.mask.mean() < 0.97


@pytest.mark.parametrize(
    ("kind", "finer_by"),
    [
        ("none", "pixels"),
        ("none", "both"),
        ("boxes", "slices"),
        ("boxes", "both"),
        ("points", "pixels"),
        ("propagated", "both"),
    ],
)
def test_a_scan_of_finer_voxels(run: Path, images: np.ndarray, kind: str, finer_by: str):
    """Boxes and clicks of the same places: cut voxels have the same edges and, cut into three, the same centres."""
    times = FINER[finer_by]
    boxes = np.array([[1, 4, 3, 2, 20, 25]])
    clicks = np.array([[2, 9, 11, 1], [2, 20, 25, 0], [4, 15, 8, 1]])
    prompts, cut = {}, {}
    if kind in ("boxes", "propagated"):
        prompts["boxes"] = boxes
        cut["boxes"] = np.concatenate([boxes[:, :3] * times, (boxes[:, 3:] + 1) * times - 1], axis=1)
    if kind == "points":
        prompts["points"] = clicks
        cut["points"] = np.column_stack([clicks[:, :3] * times + np.array(times) // 2, clicks[:, 3]])
    asked = {"propagate": kind == "propagated"}
    predictor = Predictor.from_run(run)
    predictor.set_volume(images, (3.0, 1.0, 1.0))
    own = predictor.segment(**prompts, **asked, logits=True)
    predictor.set_volume(finer(images, times), spacing_of(times))
    found = predictor.segment(**cut, **asked, logits=True)
    assert found.mask.shape == tuple(np.multiply(SHAPE, times))
    same_on_the_scan(found, own, times)
    again = predictor.segment(**cut, **asked)
    assert again.logits is None
    np.testing.assert_array_equal(again.mask, found.mask)


def test_only_the_slices_that_were_prompted_have_a_mask(run: Path, images: np.ndarray):
    predictor = Predictor.from_run(run)
    predictor.set_volume(finer(images, (2, 1, 1)), (1.5, 1.0, 1.0))
    found = predictor.segment(boxes=[[3, 4, 3, 5, 20, 25]], logits=True)
    assert np.flatnonzero(found.mask.any((1, 2))).tolist() == [3, 4, 5]
    assert np.flatnonzero((found.logits[0] != NOT_RUN).all((1, 2))).tolist() == [3, 4, 5]
    (one,) = predictor.predict_slices([SlicePrompt(7, box=(3, 4, 25, 20))])
    assert (one.slice, one.mask.shape) == (7, SHAPE[1:])
    whole = predictor.segment(boxes=[[6, 4, 3, 7, 20, 25]], logits=True)  # both on slice 3 of the run's grid
    np.testing.assert_array_equal(one.mask, whole.mask[7])
    with pytest.raises(UserError, match=r"in a volume of \(10, 28, 32\)"):
        predictor.segment(boxes=[[3, 4, 3, 10, 20, 25]])


def test_a_unet_s_class_logits_go_back_and_the_largest_wins(unet: Path, images: np.ndarray):
    times = FINER["both"]
    model = model_of_run(unet)
    own = SourceVolume(model, images, (3.0, 1.0, 1.0))
    scan = SourceVolume(model, finer(images, times), spacing_of(times))
    assert scan.run_slices(range(scan.shape[0])) == np.repeat(np.arange(SHAPE[0]), times[0]).tolist()
    classes = logits_to_source(own.encoded.class_logits(), scan.shape)
    found, plain = scan.segment(logits=True), scan.segment()
    best, second = np.sort(classes, axis=0)[[-1, -2]]
    clear = best - second > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(plain.mask[clear], classes.argmax(axis=0)[clear])
    np.testing.assert_array_equal(plain.mask, found.mask)
    assert plain.logits is None
    share = np.exp(classes) / np.exp(classes).sum(axis=0)
    whole = list(ROIS).index("whole-tumor")
    np.testing.assert_allclose(1 / (1 + np.exp(-found.logits[whole])), 1 - share[0], atol=1e-3)
    np.testing.assert_array_equal(own.segment(logits=True).mask, own.segment().mask)


def labelled_case(images: np.ndarray, times: tuple[int, int, int]) -> CachedCase:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 5:14, 8:20], labels[2, 4:16, 7:22], labels[4, 20:27, 2:9] = 1, 2, 3
    images, labels = finer(images, times), finer(labels, times)
    shape = labels.shape
    counts = np.stack([np.bincount(plane.ravel(), minlength=4) for plane in labels]).astype(np.int32)
    z, y, x = spacing_of(times)
    geometry = geometry_of(shape[::-1], np.diag([-x, -y, z, 1]), "here")
    sources = {name: Source(Path(f"{name}.nii")) for name in ("t1", "t1gd", "t2", "flair")}
    case = Case("one", "one", "demo", sources, Path("seg.nii"), "brats2023", "brats")
    volume = Volume(images, labels, counts, Box((0, 0, 0), shape), geometry)
    return CachedCase(case, counts, volume.box, geometry, memory=volume)


@pytest.mark.parametrize(("kind", "finer_by"), [("box", "pixels"), ("point", "both")])
def test_prompts_from_the_label_are_drawn_on_the_run_s_grid(run: Path, images: np.ndarray, kind: str, finer_by: str):
    times = FINER[finer_by]
    model, prompts = model_of_run(run), GroundTruthPrompts(kind, clicks=2)
    cases = [labelled_case(images, (1, 1, 1)), labelled_case(images, times)]
    (_, own), (_, found) = segment_cases(model, cases, prompts, logits=True)
    same_on_the_scan(found, own, times)
    np.testing.assert_array_equal(found.rounds.prompted, np.repeat(own.rounds.prompted, times[0]))
    np.testing.assert_array_equal(found.rounds.counts, np.repeat(own.rounds.counts, times[0], axis=1))
    shown = own.rounds.prompted.repeat(times[0])
    if kind == "point":
        centre = (np.array(times[:0:-1]) - 1) / 2
        clicks = own.rounds.click.repeat(times[0], axis=0) * times[:0:-1] + centre
        np.testing.assert_allclose(found.rounds.click[shown], clicks[shown], atol=1e-4)


def test_on_the_run_s_grid_nothing_is_resampled(run: Path, images: np.ndarray):
    """Also within the tolerance, and for arrays of unknown spacing: bitwise as without a grid."""
    model: SegmentationModel = model_of_run(run)
    assert model.grid == GRID
    without = SourceVolume(replace(model, grid=None), images, (9.0, 0.3, 0.7)).segment()
    for spacing in ((3.0, 1.0, 1.0), (3.02, 0.991, 1.009), None):
        volume = SourceVolume(model, images, spacing)
        assert not volume.resampled
        assert volume.encoded.images is images
        np.testing.assert_array_equal(volume.segment().mask, without.mask)
        np.testing.assert_array_equal(volume.segment(logits=True).mask, without.mask)
        assert volume.segment().logits is None


def test_logits_of_slices_that_were_not_run_do_not_pull_at_their_neighbours():
    logits = np.full((1, 4, 2, 2), NOT_RUN, np.float32)
    logits[:, 1], logits[:, 2] = 3, -1
    finer_slices = logits_to_source(logits, (8, 2, 2))[0, :, 0, 0]
    assert (finer_slices == NOT_RUN).tolist() == [True, True, False, False, False, False, True, True]
    np.testing.assert_allclose(finer_slices[2:6], [3, 2, 0, -1])
    thicker = logits_to_source(logits, (2, 4, 4))
    assert thicker.shape == (1, 2, 4, 4)
    assert (thicker == NOT_RUN).all()  # half of each was run
    np.testing.assert_array_equal(logits_to_source(logits, (4, 2, 2)), logits)


def test_prompts_of_a_scan_on_the_slices_and_pixels_of_a_coarser_or_finer_grid():
    scan = (4, 10, 20)
    region = {1: SlicePrompt(1, ((4, 3, 1),)), 2: SlicePrompt(2, ((5, 3, 0),), (4, 2, 7, 5))}
    coarser = region_to_run(region, scan, (2, 5, 10))
    assert coarser == {0: SlicePrompt(0, ((1.75, 1.25, 1),)), 1: SlicePrompt(1, ((2.25, 1.25, 0),), (2, 1, 3, 2))}
    both = region_to_run(region, scan, (1, 5, 10))
    assert both[0].clicks == ((1.75, 1.25, 1), (2.25, 1.25, 0))
    finest = region_to_run(region, scan, (8, 20, 40))
    assert [number for number, prompt in finest.items() if prompt.box == (8, 4, 15, 11)] == [4, 5]
    assert [number for number, prompt in finest.items() if prompt.box is None] == [2, 3]
    point = region_to_run({0: SlicePrompt(0, box=(3, 3, 3, 3))}, scan, (4, 5, 5))  # smaller than a pixel
    assert point[0].box == (0.375, 1.25, 0.375, 1.25)


ID = "BraTS-GLI-00001-000"


@pytest.fixture(scope="module")
def cohort(place: Path) -> Path:
    """One case of anisotropic pixels and slices of 2 mm, flipped and turned."""
    where = place / "cohort-2023"
    how = {"orientation": "LPS", "spacing": (2.0, 0.5, 0.8), "turn": 15.0}
    save_brats(where / ID, ID, example(0, (9, 48, 30)), "brats2023", **how)
    return where


def test_files_are_predicted_and_scored_on_their_own_grid(
    place: Path, cohort: Path, run: Path, capsys: pytest.CaptureFixture[str]
):
    output = place / "predicted"
    options = PredictOptions((cohort,), output, run=(run,), labels="brats2023")
    assert predict(options).written == 1
    assert f"{ID} is resampled to the run's 1 x 1 x 3 mm, and the masks back" in capsys.readouterr().err
    found, scan = nib.load(output / f"{ID}.nii.gz"), nib.load(cohort / ID / f"{ID}-t1n.nii.gz")
    assert found.shape == scan.shape
    np.testing.assert_array_equal(found.affine, scan.affine)

    predictor = Predictor.from_run(run)
    predictor.set_volume(cohort / ID)
    own = predictor.segment().mask
    assert own.shape == (9, 48, 30)
    np.testing.assert_array_equal(own, np.asarray(found.dataobj).transpose(2, 1, 0) > 0)
    assert 0.03 < own.mean() < 0.97

    scored = place / "scored"
    evaluate(
        EvalOptions(
            run=(run,), data=(f"demo={cohort}",), split=("all",), prompt="none", save_predictions=True, output=scored,
            workers=0, cache=False, labels="brats2023",
        )
    )  # fmt: skip
    assert "note: sam: 1 of 1 cases are resampled to its 1 x 1 x 3 mm" in capsys.readouterr().err
    saved = nib.load(scored / "predictions" / f"{ID}.nii.gz")
    np.testing.assert_array_equal(np.asarray(saved.dataobj), np.asarray(found.dataobj))
    (row,) = (scored / "volumes.csv").read_text().splitlines()[1:]
    truth = np.asarray(nib.load(cohort / ID / f"{ID}-seg.nii.gz").dataobj) > 0
    assert {str(truth.sum()), str(own.sum())} <= set(row.split(","))


def test_a_prediction_of_before_resampling_is_not_taken_for_one_of_now(place: Path, cohort: Path, run: Path):
    output = place / "records"
    options = PredictOptions((cohort,), output, run=(run,), labels="brats2023")
    predict(options)
    assert predict(options).already == 1
    row = json.loads((output / RECORDS).read_text())
    assert row["recipe"].pop("grid") == "1 x 1 x 3 mm"
    (output / RECORDS).write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match="was made by another run or prompt"):
        predict(options)


def test_a_run_of_before_has_the_grid_of_its_training_data_if_they_have_one(run: Path, tmp_path: Path):
    config = read_config(run)
    assert grid_of(tmp_path, config) == GRID
    old = replace(config, options=replace(config.options, spacing=None))
    assert grid_of(tmp_path, old) is None
    alike = [geometry_of((9, 9, 9), np.diag([0.8, 0.8, z, 1]), "here") for z in (1, 5)]
    (tmp_path / RANGES).write_text(ranges_of(alike).to_json())
    assert grid_of(tmp_path, old) == RunGrid(0.8, 0.8)
    mixed = [*alike, geometry_of((9, 9, 9), np.eye(4), "here")]
    (tmp_path / RANGES).write_text(ranges_of(mixed).to_json())
    assert grid_of(tmp_path, old) is None
