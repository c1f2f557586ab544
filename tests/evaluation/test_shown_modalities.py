"""Evaluations in which models are shown some modalities only, and of cases that lack some."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from samjax.data.cases import MODALITIES
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.evaluation.evaluate import evaluate
from samjax.evaluation.models import choose_models
from samjax.evaluation.selection import Selection, select_cases
from samjax.options import EvalOptions
from samjax.runs.folder import read_config
from tests.made_runs import write_base, write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shown")


@pytest.fixture(scope="module")
def cohort(place: Path) -> Path:
    write_cohort(place / "cohort-2023", "adult", 2, options=PhantomOptions((32, 32, 6)))
    return place / "cohort-2023"


@pytest.fixture(scope="module")
def runs(place: Path, cohort: Path) -> tuple[Path, Path]:
    """One trained with modality dropout, and one without."""
    base = write_base(place / "base.safetensors")
    options = {"depth": 1, "prompt": "none"}
    return (
        write_run(place / "able", base, cohort, modality_dropout=0.3, **options),
        write_run(place / "needy", base, cohort, **options),
    )


def options_of(cohort: Path, *runs: Path, **more: object) -> EvalOptions:
    return EvalOptions(**{"run": runs, "data": (f"demo={cohort}",), "workers": 0, "cache": False} | more)


def selected(options: EvalOptions) -> Selection:
    models = choose_models(options, options.run, [read_config(run) for run in options.run])
    return select_cases(options, list(options.run), [needs for model in models for needs in model.needs])


def test_results_say_which_modalities_were_shown(runs: tuple[Path, Path], cohort: Path):
    able, _ = runs
    found = evaluate(options_of(cohort, able, modalities="flair,t1gd", limit=1))
    assert (found.folder, found.left_out) == (able / "eval-t1gd+flair", 0)
    summary = json.loads((found.folder / "summary.json").read_text())["runs"]
    assert {name: run["modalities"] for name, run in summary.items()} == {"able-t1gd+flair": ["t1gd", "flair"]}
    with (found.folder / "volumes.csv").open(newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == {"able-t1gd+flair"}
    html = (found.folder / "report.html").read_text(encoding="utf-8")
    assert '"T1-Gd"' in html
    assert '"T2"' not in html, "the viewer shows what the model was shown"


def test_the_cases_have_the_shown_modalities_alone(runs: tuple[Path, Path], cohort: Path):
    cases = selected(options_of(cohort, runs[0], modalities="flair,t1gd")).cases
    assert [case.modalities for case in cases] == [("t1gd", "flair")] * 2
    assert not cases[0].read(0, 6)[0][..., [0, 2]].any()
    assert [case.modalities for case in selected(options_of(cohort, *runs)).cases] == [MODALITIES] * 2


def test_a_case_is_left_out_where_one_of_the_models_needs_what_it_lacks(
    runs: tuple[Path, Path], cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    lacking = shutil.copytree(cohort, tmp_path / "cohort-2023")
    first, second = sorted(path for path in lacking.iterdir() if path.is_dir())
    next(first.glob("*-t1n.nii.gz")).unlink()
    found = selected(options_of(lacking, runs[0]))
    assert (len(found.cases), found.left_out) == (2, 0)
    assert "1 of 2 cases lack modalities (1 have no t1)" in capsys.readouterr().err
    found = selected(options_of(lacking, *runs, limit=1))
    assert ([case.case.id for case in found.cases], found.left_out) == ([second.name], 1)
    assert f"case {first.name}: no t1 (has t1gd, t2, flair), which needy looks at" in capsys.readouterr().err
    next(second.glob("*-t1n.nii.gz")).unlink()
    with pytest.raises(UserError, match=r"no t1 .*which needy looks at.* \(and 1 more cases left out\)"):
        selected(options_of(lacking, runs[1]))


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        ("t1,flair", "--modalities t1,flair: no t1gd, t2 .has t1, flair., which needy looks at"),
        ("t1,flare", "--modalities t1,flare: expected some of t1, t1gd, t2, flair"),
    ],
)
def test_what_cannot_be_hidden_is_refused(
    runs: tuple[Path, Path], cohort: Path, tmp_path: Path, modalities: str, message: str
):
    with pytest.raises(UserError, match=message):
        evaluate(options_of(cohort, runs[1], modalities=modalities, output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
