"""predict.py with runs of one region as an ensemble, and with maps beside the label maps."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.inference.batch import predict
from samjax.inference.ensembles import common_rule, in_merge_order
from samjax.inference.maps import probability_file, uncertainty_file
from samjax.inference.postprocess_choice import PostprocessChoice
from samjax.inference.prediction_records import read_records, target
from samjax.options import PredictOptions
from tests.made_runs import write_base, write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensembles")
    write_cohort(folder / "cohort-2023", "adult", 1, options=PhantomOptions((32, 32, 5)))
    return folder


@pytest.fixture(scope="module")
def runs(place: Path) -> tuple[Path, ...]:
    """Two of the whole tumour and one of the enhancing one."""
    base, data = write_base(place / "base.safetensors"), place / "cohort-2023"
    about = {"depth": 1, "prompt": "mixed"}
    return (
        write_run(place / "a", base, data, **about),
        write_run(place / "b", base, data, seed=1, **about),
        write_run(place / "c", base, data, seed=2, roi="enhancing", **about),
    )


def values(path: Path) -> np.ndarray:
    return nib.load(path).get_fdata()


def test_runs_of_one_region_are_averaged_and_other_regions_merged(
    place: Path, runs: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture
):
    options = PredictOptions((place / "cohort-2023",), tmp_path / "all", run=(runs[2], *runs[:2]))
    options = replace(options, probabilities="float32", uncertainty=True)
    predict(options)
    assert "ensemble of 2 (whole-tumor; mean probability): a, b\n" in capsys.readouterr().out
    ((case, recorded),) = read_records(tmp_path / "all").items()
    assert recorded.regions == ("whole-tumor", "enhancing")
    for run in runs:
        predict(replace(options, run=(run,), output=tmp_path / run.name))
    alone = [
        values(probability_file(tmp_path / run.name, case, roi))
        for run, roi in zip(runs, ("whole-tumor", "whole-tumor", "enhancing"), strict=True)
    ]
    whole, enhancing = (values(probability_file(tmp_path / "all", case, roi)) for roi in ("whole-tumor", "enhancing"))
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    np.testing.assert_allclose(whole, (alone[0] + alone[1]) / 2, atol=1e-6)
    np.testing.assert_array_equal(enhancing, alone[2])
    expected = np.where(enhancing > 0.5, 3, np.where(whole > 0.5, 2, 0))
    np.testing.assert_array_equal(values(target(tmp_path / "all", case)), expected)
    bits = -whole * np.log2(whole) - (1 - whole) * np.log2(1 - whole)
    np.testing.assert_allclose(values(uncertainty_file(tmp_path / "all", case)), bits, atol=1e-4)

    assert predict(options).already == 1
    assert predict(replace(options, run=(runs[1], runs[2], runs[0]))).already == 1, "their order does not matter"
    probability_file(tmp_path / "all", case, "enhancing").unlink()
    assert predict(replace(options, probabilities=None)).already == 1
    assert predict(options).written == 1, "a map that is not there is made again"
    assert predict(replace(options, probabilities="uint8", uncertainty=False)).written == 1
    assert not uncertainty_file(tmp_path / "all", case).exists(), "no map stays of the prediction before"
    with pytest.raises(UserError, match=r"was made with --rotations 1, not 3"):
        predict(replace(options, rotations=3))


def test_what_cannot_be_averaged_is_refused(place: Path, runs: tuple[Path, ...], tmp_path: Path):
    unet = write_run(tmp_path / "unet", place / "base.safetensors", place / "cohort-2023", strategy="unet")
    assert in_merge_order([runs[2], runs[0], runs[1]]) == list(runs)
    with pytest.raises(UserError, match="a: given twice"):
        in_merge_order([runs[0], runs[0]])
    with pytest.raises(UserError, match="unet: predicts several regions at once; give it alone"):
        in_merge_order([runs[0], unet])
    options = PredictOptions((place / "cohort-2023",), tmp_path / "out", run=(runs[0],), rotations=3)
    with pytest.raises(UserError, match="--boxes: not with --rotations 3"):
        predict(replace(options, boxes=tmp_path / "boxes.json"))
    with pytest.raises(UserError, match="--rotations 2: expected an odd number"):
        predict(replace(options, rotations=2))


def test_an_ensemble_is_cleaned_by_the_rule_that_all_its_runs_chose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    rules = {"a": "largest=1", "b": "largest=1", "c": "min=500"}
    monkeypatch.setattr(
        "samjax.inference.postprocess_choice.load_choice",
        lambda run: PostprocessChoice(rules[run.name], "because", "whole-tumor", "last", 9, 1, 1, 5),
    )
    a, b, c = (tmp_path / name for name in rules)
    assert [*map(str, common_rule("auto", "none", [a, b]))] == ["largest=1", "the choice of all 2 runs"]
    assert [*map(str, common_rule("auto", "none", [a]))] == ["largest=1", "because"]
    rule, why = common_rule("auto", "none", [a, c])
    assert (str(rule), why) == ("none", "the runs of the ensemble chose different rules: a largest=1, c min=500")
    assert [*map(str, common_rule("fill", "none", [a, c]))] == ["fill", "as asked for"]
