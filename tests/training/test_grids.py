"""The voxel grid of a run: that of its scans or one that they are resampled to, kept, and scored on."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from samjax.data.cohort import list_cases, prepare
from samjax.data.imaging.doubts import read_ranges
from samjax.data.labels import roi_mask
from samjax.errors import UserError
from samjax.inference.volumes import segment_cases
from samjax.metrics.overlap import dice
from samjax.options import TrainOptions
from samjax.runs.folder import read_config, read_splits
from samjax.runs.model import build_model
from samjax.training.session import Session, new_session, resumed_session
from samjax.training.step import replicate
from samjax.training.tasks.segmentation import cases_text
from samjax.training.tasks.validation import Validator
from tests.data.trees import example, save_brats
from tests.training.test_run_options import one_line

GRIDS = {
    "BraTS-GLI-00001-000": ((9, 20, 16), (1.0, 1.0, 1.0)),
    "BraTS-GLI-00002-000": ((9, 20, 16), (1.0, 1.0, 1.0)),
    "BraTS-GLI-00003-000": ((6, 40, 32), (3.0, 0.5, 0.5)),
    "BraTS-GLI-00004-000": ((6, 30, 20), (3.0, 1.0, 1.0)),
}
"""Slices, rows and columns, and their distances in mm."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort") / "small-2023"
    for seed, (name, (shape, spacing)) in enumerate(GRIDS.items()):
        save_brats(root / name, name, example(seed, shape), "brats2023", spacing=spacing)
    return root


@pytest.fixture
def start(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    """Starts a run of the U-Net, in fold 0 trained on the cases on other grids, in fold 1 validated on one of them."""
    monkeypatch.chdir(tmp_path)
    names = list(GRIDS)
    split = tmp_path / "split.json"
    folds = ((names[2:], names[:1]), (names[:2], names[2:3]))
    split.write_text(json.dumps([{"train": train, "val": val} for train, val in folds]))
    common = {
        "strategy": "unet", "data": (f"demo={cohort}",), "cache_dir": tmp_path / "cache", "labels": "brats2023",
        "split_file": split, "fold": "0", "run": tmp_path / "run",
    }  # fmt: skip
    return lambda **given: new_session(TrainOptions(**common | given))


def test_scans_of_one_spacing_are_left_as_they_are(start, cohort, tmp_path, capsys):
    session = start(split_file=None, fold=None, overfit="BraTS-GLI-00002-000")
    assert session.options.spacing == "1"
    assert "resampled" not in capsys.readouterr().err
    (case,) = session.train
    assert case.origin is None
    own = prepare(list_cases({"demo": cohort}, None, "brats2023", 2), tmp_path / "cache")[1]
    assert own.path == case.path  # one file for all runs whose grid the case is on


def test_scans_of_other_spacings_are_resampled_to_the_median(start, cohort, capsys):
    session = start()
    error = capsys.readouterr().err
    assert (
        "note: the scans' pixels are of 0.5 x 0.5 mm to 1 x 1 mm; all are resampled to 1 x 1 mm, the median "
        "(--spacing takes another)"
    ) in error
    finer, thick = session.train
    assert (finer.shape, thick.shape) == ((6, 20, 16), (6, 30, 20))
    assert finer.geometry.spacing == pytest.approx((3, 1, 1))
    assert thick.origin is None
    assert session.config.native == 30
    assert read_config(session.folder).options.spacing == "1"
    assert cases_text(session) == ("2 training and 1 validation cases, 1 resampled to 1 x 1 mm and scored there")
    assert read_ranges(session.folder).spacing == (0.5, 1.0)  # of the files

    own = {case.case.id: case for case in prepare(list_cases({"demo": cohort}, None, "brats2023", None), None)}
    member = read_splits(session.folder).members["demo"][finer.case.id]
    assert member.fingerprint == own[finer.case.id].fingerprint == finer.fingerprint
    assert member.label == own[finer.case.id].label_digest == finer.label_digest
    shares = roi_mask(own[finer.case.id].whole_labels(), "whole-tumor").reshape(6, 20, 2, 16, 2).mean((2, 4))
    found = roi_mask(finer.whole_labels(), "whole-tumor")
    np.testing.assert_array_equal(found[shares != 0.5], (shares > 0.5)[shares != 0.5])
    assert finer.counts.sum() == 6 * 20 * 16

    resumed = resumed_session(TrainOptions(run=session.folder, resume=True))
    assert [case.path for case in resumed.train] == [case.path for case in session.train]
    with pytest.raises(UserError) as caught:
        resumed_session(TrainOptions(run=session.folder, resume=True, spacing="2"))
    one_line(caught, "changed --spacing 2 (the run has 1)", "start a new run")


def test_a_given_spacing_holds_for_slices_too(start, capsys):
    session = start(spacing="2,2.0,1.5", cache=False)
    assert session.options.spacing == "2,2,1.5"
    assert [case.shape for case in session.train] == [(12, 10, 8), (12, 15, 10)]
    assert all(case.origin is not None for case in session.train)
    assert "pixels are of" not in capsys.readouterr().err


def test_folds_share_a_grid(start, tmp_path):
    assert start(fold="1", run=tmp_path / "other").options.spacing == start().options.spacing


def test_validation_is_on_the_run_s_grid(start):
    session = start(fold="1", cache=False)
    (case,) = session.val
    assert case.origin is not None
    graphdef, state = nnx.split(build_model(session.config, session.base))
    validator, states = Validator(session, graphdef, "none"), (replicate(state),)
    ((_, found),) = segment_cases(validator._model(states), session.val, validator.prompts)
    assert found.mask.shape == case.shape
    expected = dice(found.region("whole-tumor"), roi_mask(case.whole_labels(), "whole-tumor"))
    assert validator.score(states).best == pytest.approx(expected)
