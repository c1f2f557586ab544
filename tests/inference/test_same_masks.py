"""One scan, prompted alike, has one mask: from eval.py, predict.py and Predictor, alone and beside other grids."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest

from samjax import Predictor
from samjax.data.cache.cases import CachedCase
from samjax.data.cohort import list_cases, prepare
from samjax.data.imaging.geometry import points_to_source
from samjax.data.labels import COMPARTMENTS
from samjax.evaluation.evaluate import evaluate
from samjax.inference.batch import predict
from samjax.inference.devices import Devices
from samjax.inference.encoded import EncodedVolume
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import model_of_run
from samjax.inference.model import SegmentationModel
from samjax.inference.prompts import SlicePrompt, slots_of
from samjax.inference.volumes import segment_cases
from samjax.options import EvalOptions, PredictOptions
from tests.data.trees import example, save_brats
from tests.made_runs import write_base, write_run

NATIVE = 32
GRIDS = {"BraTS-GLI-00001-000": (9, 24, 20), "BraTS-GLI-00002-000": (9, 32, 28), "BraTS-GLI-00003-000": (9, 44, 36)}
"""Slices, rows and columns: smaller than the run's square, as large, and larger. Windows are of two slices."""
SHOWN = range(2, 7)
"""Slices with some of the tumour."""
BATCH = 2
"""Slices at once on each of the four devices of a test: full groups and, of the prompted slices, single ones."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("same")


@pytest.fixture(scope="module")
def cohort(place: Path) -> Path:
    for seed, (case, shape) in enumerate(GRIDS.items()):
        save_brats(place / "cohort-2023" / case, case, example(seed, shape), "brats2023", orientation="LPS")
    return place / "cohort-2023"


@pytest.fixture(scope="module")
def sam(place: Path, cohort: Path) -> Path:
    base = write_base(place / "base.safetensors")
    return write_run(
        place / "sam", base, cohort, seed=2, native=NATIVE, strategy="full", depth=2, prompt="mixed", labels="brats2023"
    )


@pytest.fixture(scope="module")
def unet(place: Path, cohort: Path) -> Path:
    return write_run(place / "unet", place, cohort, native=NATIVE, strategy="unet", labels="brats2023")


@pytest.fixture(scope="module")
def cases(cohort: Path) -> list[CachedCase]:
    return prepare(list_cases({"demo": cohort}, None, "brats2023", None), None)


def saved(folder: Path) -> dict[str, np.ndarray]:
    """The label maps in a folder by case."""
    return {path.name.removesuffix(".nii.gz"): np.asarray(nib.load(path).dataobj) for path in folder.glob("*.nii.gz")}


def evaluated(output: Path, run: Path, data: Path, **options: object) -> dict[str, np.ndarray]:
    """What `eval.py --save-predictions` writes."""
    evaluate(
        EvalOptions(
            run=(run,), data=(f"demo={data}",), split=("all",), save_predictions=True, output=output, workers=0,
            cache=False, labels="brats2023", batch_size=BATCH, **options,
        )
    )  # fmt: skip
    return saved(output / "predictions")


def predicted(output: Path, run: Path, *inputs: Path, **options: object) -> dict[str, np.ndarray]:
    """What `predict.py` writes."""
    predict(PredictOptions(inputs, output, run=(run,), labels="brats2023", batch_size=BATCH, **options))
    return saved(output)


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for case in one:
        np.testing.assert_array_equal(one[case], other[case], err_msg=case)


def is_mixed(mask: np.ndarray) -> bool:
    """Whether a mask is neither nearly empty nor nearly full."""
    return 0.03 < (mask > 0).mean() < 0.97


def test_without_prompts(place: Path, cohort: Path, sam: Path):
    together = evaluated(place / "eval-none", sam, cohort, prompt="none")
    assert all(is_mixed(mask) for mask in together.values())
    same(together, predicted(place / "predict-none", sam, cohort))
    predictor = Predictor.from_run(sam, slices=BATCH)
    for case in GRIDS:
        assert list(predicted(place / f"alone-{case}", sam, cohort / case)) == [case]
        same(saved(place / f"alone-{case}"), {case: together[case]})
        predictor.set_volume(cohort / case)
        found = predictor.segment().mask
        np.testing.assert_array_equal(found, of_source(together[case]) > 0, err_msg=case)
        np.testing.assert_array_equal(np.unique(together[case]), [0, 2])
    alone = evaluated(place / "eval-alone", sam, cohort / "BraTS-GLI-00001-000", prompt="none")
    same(alone, {"BraTS-GLI-00001-000": together["BraTS-GLI-00001-000"]})


def of_source(values: np.ndarray) -> np.ndarray:
    """The (slice, row, column) array of one stored along LPS."""
    return values.transpose(2, 1, 0)


def test_boxes_of_the_ground_truth_through_a_file(place: Path, cohort: Path, sam: Path, cases: list[CachedCase]):
    together = evaluated(place / "eval-box", sam, cohort, prompt="box")
    boxes = {}
    for case in cases:
        labels = case.read(0, case.shape[0])[1]
        found = [(z, np.argwhere(labels[z])) for z in SHOWN]
        corners = [[(z, *where.min(0)), (z, *where.max(0))] for z, where in found]
        source = points_to_source(np.array(corners), case.geometry)
        boxes[case.case.id] = np.concatenate([source.min(1), source.max(1)], axis=1).tolist()
    (place / "boxes.json").write_text(json.dumps(boxes))
    same(together, predicted(place / "predict-box", sam, cohort, boxes=place / "boxes.json"))
    for mask in together.values():
        assert np.flatnonzero(mask.any((0, 1))).tolist() == list(SHOWN)
        assert is_mixed(mask[..., list(SHOWN)])


def test_clicks_of_the_ground_truth_through_a_file(place: Path, cohort: Path, sam: Path, cases: list[CachedCase]):
    together = evaluated(place / "eval-point", sam, cohort, prompt="point", seed=7)
    model = model_of_run(sam)
    points = {}
    for case, found in segment_cases(model, cases, GroundTruthPrompts("point", seed=7), slices=BATCH):
        assert np.flatnonzero(found.rounds.prompted).tolist() == list(SHOWN)
        clicks = [(z, int(y), int(x)) for z, (x, y) in zip(SHOWN, found.rounds.click[list(SHOWN)], strict=True)]
        points[case.case.id] = [[*point.tolist(), 1] for point in points_to_source(np.array(clicks), case.geometry)]
    (place / "points.json").write_text(json.dumps(points))
    same(together, predicted(place / "predict-point", sam, cohort, points=place / "points.json"))
    assert all(is_mixed(mask[..., list(SHOWN)]) for mask in together.values())


def test_a_unet(place: Path, cohort: Path, unet: Path):
    together = evaluated(place / "eval-unet", unet, cohort)
    same(together, predicted(place / "predict-unet", unet, cohort))
    predictor = Predictor.from_run(unet, slices=BATCH)
    for case, values in together.items():
        assert len(np.unique(values)) == len(COMPARTMENTS) + 1
        assert is_mixed(values)
        same({case: values}, predicted(place / f"alone-unet-{case}", unet, cohort / case))
        predictor.set_volume(cohort / case)
        np.testing.assert_array_equal(predictor.segment().mask > 0, of_source(values) > 0)


def test_a_slice_is_padded_to_the_run_s_square_or_to_its_own(sam: Path, cases: list[CachedCase]):
    model = model_of_run(sam)
    volumes = [EncodedVolume(model, case.read(0, case.shape[0])[0]) for case in cases]
    assert [volume.square for volume in volumes] == [32, 32, 44]
    own = replace(model, native=0)
    images = volumes[0].images
    assert EncodedVolume(own, images).square == 24
    assert (EncodedVolume(own, images).segment().mask != volumes[0].segment().mask).any()
    padded = np.pad(images, ((0, 0), (0, 8), (0, 12), (0, 0)))
    np.testing.assert_array_equal(EncodedVolume(own, padded).segment().mask[:, :24, :20], volumes[0].segment().mask)


def logits(model: SegmentationModel, images: np.ndarray, slices: int) -> np.ndarray:
    """Of two prompts on every slice, by groups of `slices`."""
    prompts = [SlicePrompt(z, box=(2, 3, 15, 18)) for z in range(9)]
    prompts += [SlicePrompt(z, ((5, 6, 1), (9, 2, 0), (1, 1, 1))) for z in range(9)]
    volume = EncodedVolume(model, images, slices)
    volume.encode(range(9))
    found = []
    for group, filled in volume.groups(prompts):
        decoded = volume.decode([prompt.slice for prompt in filled], slots_of(filled))
        found.append(jax.device_get(decoded.logits)[: len(group)])
    return np.concatenate(found)


def test_the_size_of_a_group_and_the_number_of_devices_hardly_matter(sam: Path, cases: list[CachedCase]):
    four = model_of_run(sam)
    assert four.devices.count == 4
    one = replace(four, states=jax.device_get(four.states), devices=Devices())
    images = cases[0].read(0, 9)[0]
    expected = logits(one, images, 1)
    assert np.ptp(expected) > 1
    for model, slices in ((one, 4), (four, 1), (four, 8)):
        found = logits(model, images, slices)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max(), (model.devices, slices)


def test_a_batch_is_split_over_the_devices(sam: Path, cases: list[CachedCase]):
    volume = EncodedVolume(model_of_run(sam), cases[0].read(0, 9)[0], slices=2)
    prompts = [SlicePrompt(z, box=(2, 3, 15, 18)) for z in range(8)]
    decoded = volume.decode(range(8), slots_of(prompts))
    for array in decoded:
        assert len(array.sharding.device_set) == 4
        assert array.sharding.shard_shape(array.shape)[0] == 2
    assert volume.window(0).sharding.is_fully_replicated
