"""eval.py --ensemble and --rotations."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samjax.data.cache.cases import open_case
from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.grids import RunGrid
from samjax.data.labels import roi_mask
from samjax.data.splits import Split, Splits
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.evaluation.collected import Collected
from samjax.evaluation.evaluate import result_suffix
from samjax.evaluation.models import choose_models
from samjax.evaluation.reporting.summary_json import summary_of
from samjax.evaluation.selection import select_cases
from samjax.evaluation.slice_rule import SliceRule
from samjax.inference.averaged_cases import segment_averaged
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import model_of_run
from samjax.inference.volumes import segment_cases
from samjax.options import EvalOptions
from samjax.runs.folder import SPLIT, read_config
from tests.made_runs import write_base, write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    write_cohort(folder / "cohort-2023", "adult", 1, options=PhantomOptions((32, 32, 5)))
    write_base(folder / "base.safetensors")
    return folder


def run_of(place: Path, folder: Path, **options: object) -> Path:
    return write_run(folder, place / "base.safetensors", place / "cohort-2023", **options)


@pytest.fixture(scope="module")
def runs(place: Path) -> tuple[Path, Path]:
    return tuple(run_of(place, place / name, depth=1, prompt="mixed", seed=n) for n, name in enumerate("ab"))


def models_of(*runs: Path, **more: object) -> list:
    return choose_models(EvalOptions(run=runs, **more), runs, [read_config(run) for run in runs])


def test_an_ensemble_is_scored_as_one_model(place: Path, runs: tuple[Path, Path], capsys: pytest.CaptureFixture):
    options = EvalOptions(run=runs, ensemble=True, prompt="none")
    (model,) = models_of(*runs, ensemble=True, prompt="none")
    assert model.name == "ensemble of 2 (a, b)"
    assert "ensemble of 2 (a, b): mean probability; post-processing none" in capsys.readouterr().out
    about = summary_of([Collected(model)], SliceRule(1, False), [])["runs"][model.name]
    assert (about["members"], about["rotations"]) == (["a", "b"], 1)
    assert result_suffix(options) == "-ensemble"
    assert result_suffix(replace(options, ensemble=False, rotations=3)) == "-rotations3"

    case = open_case(find_cases(place / "cohort-2023")[0], None)
    ((_, found),) = model.predict([case], 8, 0)
    alone = [next(segment_cases(member, [case], model.prompts, logits=True))[1] for member in model.members]
    np.testing.assert_array_equal(found.mask, np.mean([one.probabilities[0] for one in alone], axis=0) > 0.5)
    assert all((found.mask != one.mask).any() for one in alone)


def test_no_member_may_have_learnt_from_what_is_scored(runs: tuple[Path, Path], tmp_path: Path):
    other = shutil.copytree(runs[1], tmp_path / "other")
    split = Splits(0, None, {"demo": Split(("BraTS-GLI-90000",), (), ())})
    (other / SPLIT).write_text(json.dumps(split.to_json()))
    options = EvalOptions(ensemble=True, workers=0, cache=False)
    assert len(select_cases(options, list(runs)).cases) == 1
    with pytest.raises(UserError, match="another split of demo"):
        select_cases(options, [runs[0], other])


def test_all_members_get_the_prompts_of_the_labels(place: Path, runs: tuple[Path, Path]):
    run = runs[0]
    models = [model_of_run(run), model_of_run(run)]
    case = open_case(find_cases(place / "cohort-2023")[0], None)
    for kind in ("point", "box"):
        prompts = GroundTruthPrompts(kind)
        ((_, expected),) = segment_cases(models[0], [case], prompts)
        ((_, found),) = segment_averaged(models, [case], prompts)
        np.testing.assert_array_equal(found.mask, expected.mask)
        for name in ("prompted", "counts", "click"):
            np.testing.assert_array_equal(getattr(found.rounds, name), getattr(expected.rounds, name), err_msg=name)
        np.testing.assert_allclose(found.rounds.iou, expected.rounds.iou, atol=1e-6)
    coarse = replace(model_of_run(run, rotations=3), grid=RunGrid(1.5, 1.5))
    ((_, turned),) = segment_averaged([coarse], [case], GroundTruthPrompts("point"))
    assert turned.mask.shape == found.mask.shape
    assert (turned.mask != found.mask).any()
    shown = roi_mask(case.whole_labels(), "whole-tumor").any((1, 2))
    assert not turned.mask[~shown].any()


def test_what_does_not_go_together_is_refused(place: Path, runs: tuple[Path, Path], tmp_path: Path):
    a, b = runs
    core = run_of(place, tmp_path / "core", depth=1, roi="tumor-core")
    still = run_of(place, tmp_path / "still", depth=1, augment=False)
    (model,) = models_of(a, b, ensemble=True, prompt="none", rotations=3)
    assert model.name == "ensemble of 2 (a, b)+rotations=3"
    with pytest.raises(UserError, match="expected several different runs"):
        models_of(a, ensemble=True)
    with pytest.raises(UserError, match="a predicts whole-tumor and core tumor-core; expected runs of the same region"):
        models_of(a, core, ensemble=True)
    with pytest.raises(UserError, match="--clicks 3: --ensemble takes one click a slice"):
        models_of(a, b, ensemble=True, clicks=3)
    with pytest.raises(UserError, match="--prompt box: not with --rotations 3"):
        models_of(a, rotations=3, prompt="box")
    with pytest.raises(UserError, match="still was trained without rotations"):
        models_of(still, rotations=3)
    with pytest.raises(UserError, match="--embeddings: looks at single runs"):
        models_of(a, b, ensemble=True, embeddings=True)
    assert replace(model, others=()).name == "a+rotations=3"
