"""Scans without some of their modalities: what runs trained with and without modality dropout do with them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax import Predictor
from samjax.data.cache.cases import CachedCase, open_case
from samjax.data.formats.layouts import find_cases
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.inference.batch import predict
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import model_of_run
from samjax.inference.prediction_records import RECORDS
from samjax.inference.volumes import segment_cases
from samjax.options import PredictOptions
from tests.made_runs import write_base, write_run

RUNS = {
    "sam": {"depth": 2, "prompt": "mixed", "modality_dropout": 0.3},
    "unet": {"strategy": "unet", "modality_dropout": 0.3},
    "needy": {"depth": 2, "prompt": "mixed"},
    "three": {"strategy": "decoder", "prompt": "none"},  # flair,t1gd,t2
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("missing")


@pytest.fixture(scope="module")
def scan(place: Path) -> Path:
    """The folder of a case with all modalities."""
    return write_cohort(place / "cohort-2023", "adult", 1, options=PhantomOptions((32, 32, 6)))[0]


@pytest.fixture(scope="module")
def runs(place: Path, scan: Path) -> dict[str, Path]:
    base = write_base(place / "base.safetensors")
    return {name: write_run(place / name, base, scan.parent, **options) for name, options in RUNS.items()}


def without(scan: Path, folder: Path, *endings: str) -> Path:
    """A copy of the case, in a folder of its own, without the files of some modalities."""
    copy = shutil.copytree(scan, folder / scan.name)
    for ending in endings:
        next(copy.glob(f"*-{ending}.nii.gz")).unlink()
    return copy


def opened(scan: Path) -> CachedCase:
    return open_case(find_cases(scan, labels="brats2023")[0], None)


def masks_of(run: Path, case: CachedCase) -> np.ndarray:
    """What eval.py predicts for the case, prompt-free."""
    ((_, found),) = segment_cases(model_of_run(run), [case], GroundTruthPrompts("none"))
    return found.mask


@pytest.mark.parametrize("name", ["sam", "unet"])
def test_a_missing_modality_and_a_hidden_one_are_the_same_to_the_model(
    runs: dict[str, Path], scan: Path, tmp_path: Path, name: str
):
    whole, lacking = opened(scan), opened(without(scan, tmp_path, "t2f", "t1n"))
    hidden = replace(whole, hidden=frozenset({"flair", "t1"}))
    found = masks_of(runs[name], lacking)
    np.testing.assert_array_equal(masks_of(runs[name], hidden), found)
    assert 0 < np.count_nonzero(found) < found.size
    assert (masks_of(runs[name], whole) != found).any()
    predictor = Predictor.from_run(runs[name])
    predictor.set_volume(lacking.case)
    assert predictor.missing == ("t1", "flair")
    np.testing.assert_array_equal(predictor.segment().mask, found)
    images = whole.read(0, whole.shape[0])[0]
    images[..., [0, 3]] = 0
    predictor.set_volume(images)  # an array says by zeros what is missing
    np.testing.assert_array_equal(predictor.segment().mask, found)


def test_a_modality_that_is_empty_on_some_slices_is_not_missing(runs: dict[str, Path], scan: Path):
    predictor = Predictor.from_run(runs["sam"])
    images = opened(scan).read(0, 6)[0]
    images[:4, ..., 3] = 0
    predictor.set_volume(images)
    assert predictor.missing == ()
    first = predictor.segment().mask
    images[4:, ..., 3] = 0
    predictor.set_volume(images)
    assert predictor.missing == ("flair",)
    assert (predictor.segment().mask[:4] != first[:4]).any()


def test_a_run_without_dropout_refuses_what_it_looks_at_and_nothing_else(
    runs: dict[str, Path], scan: Path, tmp_path: Path
):
    lacking = without(scan, tmp_path, "t1n")
    predictor = Predictor.from_run(runs["needy"])
    with pytest.raises(UserError, match=r"no t1 \(has t1gd, t2, flair\), which needy looks at; .*--modality-dropout"):
        predictor.set_volume(lacking)
    images = opened(scan).read(0, 6)[0]
    images[..., 0] = 0
    with pytest.raises(UserError, match="no t1 "):
        predictor.set_volume(images)
    three = Predictor.from_run(runs["three"])
    three.set_volume(lacking)
    assert three.missing == ()
    np.testing.assert_array_equal(three.segment().mask, masks_of(runs["three"], opened(scan)))


def test_predict_notes_what_was_missing_or_leaves_the_case_out(
    runs: dict[str, Path], scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    folder = tmp_path / "scans-2023"
    shutil.copytree(scan, folder / scan.name)
    lacking = without(scan, folder / "more", "t1n", "t2f")
    other = scan.name.replace("-000", "-001")
    for path in [*lacking.iterdir()]:
        path.rename(lacking / path.name.replace(scan.name, other))
    lacking.rename(folder / other)

    outcome = predict(PredictOptions((folder,), tmp_path / "sam", run=(runs["sam"],)))
    assert (outcome.written, outcome.left_out) == (2, 0)
    assert f"note: {other}: no t1, flair; predicted without" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "sam" / RECORDS).read_text().splitlines()]
    assert {row["case"]: row["missing"] for row in rows} == {scan.name: [], other: ["t1", "flair"]}
    written, first = nib.load(tmp_path / "sam" / f"{other}.nii.gz"), nib.load(next((folder / other).glob("*-t1c.*")))
    np.testing.assert_array_equal(written.affine, first.affine)

    outcome = predict(PredictOptions((folder,), tmp_path / "needy", run=(runs["needy"],)))
    assert (outcome.written, outcome.left_out) == (1, 1)
    assert "left out: " in (said := capsys.readouterr().err)
    assert f"case {other}: no t1, flair (has t1gd, t2), which needy looks at" in said
    with pytest.raises(UserError, match=f"case {other}: no t1, flair"):
        predict(PredictOptions((folder / other,), tmp_path / "alone", run=(runs["needy"],)))
    assert not (tmp_path / "alone").exists()
