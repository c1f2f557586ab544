"""The fit for predictions of one region, of nested ones and of a U-Net, and where commands use it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from samjax.data.labels import ROIS, roi_codes, roi_mask
from samjax.inference.averaging import logits_of
from samjax.inference.batch import predict
from samjax.inference.fitting.predictions import fitted
from samjax.inference.maps import probability_file
from samjax.inference.prediction_records import read_records, target
from samjax.inference.predictions import NOT_RUN, VolumePrediction, volume_prediction
from samjax.metrics.overlap import dice
from samjax.options import PredictOptions
from tests.inference.fitting.test_fit import SPACING, rough, scan
from tests.made_runs import write_base, write_run

NESTED = ("whole-tumor", "tumor-core")


def model(*rois: str, is_unet: bool = False) -> SimpleNamespace:
    return SimpleNamespace(rois=rois, is_unet=is_unet, nested=False)


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, ...]:
    return scan(np.random.default_rng(3))


def prediction(probabilities: np.ndarray, rois: tuple[str, ...]) -> VolumePrediction:
    ious = np.full(probabilities.shape[:2], 0.7, np.float32)
    return volume_prediction(probabilities > 0.5, ious, rois, logits=logits_of(probabilities))


def test_a_single_region(case):
    images, tumour, _ = case
    found = prediction(rough(tumour)[None], ("whole-tumor",))
    after = fitted(found, images, SPACING, model("whole-tumor"))
    assert after.mask.dtype == bool
    assert dice(after.mask, tumour) > dice(found.mask, tumour) + 0.2
    np.testing.assert_array_equal(after.logits[0] > 0, after.mask)
    np.testing.assert_array_equal(after.iou, found.iou)


def test_inner_regions_stay_inside(case):
    images, tumour, core = case
    inner = np.minimum(rough(tumour), 2 * rough(core))
    found = prediction(np.stack([rough(tumour), inner]), NESTED)
    after = fitted(found, images, SPACING, model(*NESTED))
    whole, within = after.logits > 0
    assert within.any()
    assert not (within & ~whole).any()
    np.testing.assert_array_equal(roi_mask(after.mask, "tumor-core"), within)
    assert dice(after.region("whole-tumor"), tumour) > 0.8


def test_slices_that_were_not_run_stay_so(case):
    images, tumour, _ = case
    found = prediction(rough(tumour)[None], ("whole-tumor",))
    logits = found.logits.copy()
    logits[:, 20:] = NOT_RUN
    after = fitted(replace(found, mask=logits[0] > 0, logits=logits), images, SPACING, model("whole-tumor"))
    assert (after.logits[:, 20:] == NOT_RUN).all()
    assert not after.mask[20:].any()
    assert after.mask[:20].any()


def test_a_unet_keeps_one_class_for_each_voxel(case):
    images, tumour, core = case
    inner = np.minimum(rough(core), rough(tumour))
    by_code = {1: rough(tumour) - inner, 2: 0 * inner, 3: inner}
    regions = np.stack([sum(by_code[code] for code in roi_codes(roi)) for roi in ROIS])
    codes = np.zeros(tumour.shape, np.uint8)
    found = VolumePrediction(codes, np.full(len(codes), np.nan, np.float32), logits=logits_of(regions))
    after = fitted(found, images, SPACING, model(*ROIS, is_unet=True))
    assert after.mask.dtype == np.uint8
    assert set(np.unique(after.mask)) <= {0, 1, 2, 3}
    assert dice(after.mask > 0, tumour) > dice(rough(tumour) > 0.5, tumour) + 0.1


def test_predict_fits_where_that_is_asked_for(tmp_path: Path):
    """The run knows nothing, so that its masks are noise; its probabilities stay its own."""
    from samjax.data.synthetic.phantom import PhantomOptions, write_cohort

    data = tmp_path / "cohort-2023"
    write_cohort(data, "adult", 1, options=PhantomOptions((48, 48, 6)))
    base = write_base(tmp_path / "base.safetensors")
    run = write_run(tmp_path / "run", base, data, depth=1, prompt="mixed")
    options = PredictOptions((data,), tmp_path / "raw", run=(run,), probabilities="float32", postprocess="none")
    predict(options)
    predict(replace(options, output=tmp_path / "fit", postprocess="fit"))
    ((case, recorded),) = read_records(tmp_path / "fit").items()
    assert recorded.recipe.postprocess == "fit"
    raw, fit = (np.asarray(nib.load(target(tmp_path / name, case)).dataobj) for name in ("raw", "fit"))
    own = [
        np.asarray(nib.load(probability_file(tmp_path / name, case, "whole-tumor")).dataobj) for name in ("raw", "fit")
    ]
    np.testing.assert_array_equal(*own)
    assert (raw != fit).any()
    assert raw.any()
