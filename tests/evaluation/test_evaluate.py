"""Scoring small finished runs from start to end: what is written, and which models stand beside each other."""

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.splits import Split, Splits
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.evaluation.evaluate import Evaluation, evaluate
from samjax.evaluation.selection import select_cases
from samjax.inference.postprocess import Postprocess, cleaned
from samjax.inference.postprocess_choice import PostprocessChoice
from samjax.options import EvalOptions
from tests.made_runs import write_base, write_run

RUN_COLUMNS = "run,domain,patient,case,slice,roi,prompt,true_pixels,pred_pixels,dice,hd95"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def cohort(place: Path) -> Path:
    write_cohort(place / "cohort-2023", "adult", 2, options=PhantomOptions((32, 32, 6)))
    return place / "cohort-2023"


@pytest.fixture(scope="module")
def base(place: Path) -> Path:
    return write_base(place / "base.safetensors")


@pytest.fixture(scope="module")
def sam(place: Path, base: Path, cohort: Path) -> Path:
    return write_run(place / "sam", base, cohort, depth=2, prompt="mixed")


@pytest.fixture(scope="module")
def unet(place: Path, base: Path, cohort: Path) -> Path:
    return write_run(place / "unet", base, cohort, strategy="unet")


def scored(cohort: Path, output: Path, *runs: Path, **options: object) -> dict:
    """The summary of an evaluation on the whole cohort."""
    chosen = {"run": runs, "data": (f"demo={cohort}",), "workers": 0, "cache": False, "output": output} | options
    assert evaluate(EvalOptions(**chosen)) == Evaluation(output, 0)
    return json.loads((output / "summary.json").read_text())


@pytest.fixture(scope="module")
def together(place: Path, cohort: Path, sam: Path, unet: Path) -> tuple[Path, dict]:
    """A SAM run asked by points beside a U-Net, which takes none."""
    output = place / "together"
    return output, scored(cohort, output, sam, unet, prompt="point", clicks=2, save_predictions=True)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_everything_that_was_promised_is_there(together):
    output, _ = together
    for name in ("summary.json", "slices.csv", "volumes.csv", "tables.md", "tables.tex", "tables.csv", "report.html"):
        assert (output / name).stat().st_size > 100, name
    figures = {path.stem for path in (output / "figures").glob("*.png")}
    assert {"overlays", "extremes", "modalities", "dice_slice", "hd95_slice", "size_slice", "dice_volume",
            "hd95_volume", "size_volume", "calibration_sam", "clicks"} == figures  # fmt: skip
    html = (output / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/png") >= len(figures)
    slices, volumes = rows(output / "slices.csv"), rows(output / "volumes.csv")
    assert ",".join(slices[0]) == f"{RUN_COLUMNS},scopes"
    shows = {True: "slice+slice_all", False: "slice_all"}
    assert {row["scopes"] for row in slices} == set(shows.values())
    assert all(row["scopes"] == shows[int(row["true_pixels"]) > 0] for row in slices)
    assert ",".join(volumes[0]).startswith(RUN_COLUMNS)
    assert len(slices) == 6 * len(volumes) == 6 * 2 * (1 + 5)


def test_a_unet_stands_beside_a_prompted_run(together):
    output, summary = together
    runs = summary["runs"]
    assert {name: (run["prompt"], run["prompt_source"]) for name, run in runs.items()} == {
        "sam": ("point, 2 clicks", "ground truth"),
        "unet": ("none", "none"),
    }
    assert runs["sam"]["data"]["demo"]["roi"].keys() == {"whole-tumor"}
    assert len(runs["unet"]["data"]["demo"]["roi"]) == 5
    assert (len(runs["sam"]["clicks"]["dice"]), "clicks" in runs["unet"]) == (2, False)
    assert summary["baselines"].keys() == {"disk at the click", "FLAIR threshold"}
    against = {(entry["run"], entry["baseline"], entry["n"]) for entry in summary["against_baselines"]}
    assert against == {("sam", "disk at the click", 2), ("unet", "FLAIR threshold", 2)}
    flair = summary["baselines"]["FLAIR threshold"]["demo"]["roi"]
    assert {roi: scopes["volume"]["n"] for roi, scopes in flair.items()} == {"whole-tumor": 2}
    assert summary["tests"] == []
    text = (output / "tables.md").read_text()
    assert "no prompts, every slice run" in text
    assert "prompts from ground truth" in text
    assert text.count("(FLAIR threshold)") == 4
    for entry in summary["against_baselines"]:
        sentence = f"{entry['run']} does not beat the {entry['baseline']} (demo, whole-tumor): mean 3-D Dice"
        assert (sentence in text) != entry["beats"]


def test_saved_predictions_score_as_they_did(together, cohort: Path, place: Path):
    output, _ = together
    names = ("sam", "unet")
    folders = tuple(f"{name}={output / 'predictions' / name}" for name in names)
    found = scored(cohort, place / "again", predictions=folders, roi="all")
    assert {run["prompt_source"] for run in found["runs"].values()} == {"none"}

    def values(folder: Path) -> dict[tuple, tuple]:
        return {
            (row["run"], row["case"], row["roi"]): (row["true_pixels"], row["pred_pixels"], row["dice"], row["hd95"])
            for row in rows(folder / "volumes.csv")
        }

    before, after = values(output), values(place / "again")
    assert before.items() <= after.items()
    assert any(float(value[1]) > 0 for key, value in before.items() if key[0] == "sam")


def test_zeroshot_is_asked_for_each_region_and_channels_of_the_runs(place: Path, base: Path, cohort: Path, sam: Path):
    core = write_run(place / "core", base, cohort, strategy="decoder", channels="t1gd", roi="tumor-core", prompt="box")
    options = {"strategy": "zeroshot", "prompt": "box", "limit": 1}
    runs = scored(cohort, place / "beside", sam, core, **options)["runs"]
    regions = {name: list(run["data"]["demo"]["roi"]) for name, run in runs.items()}
    assert regions == {
        "sam": ["whole-tumor"],
        "core": ["tumor-core"],
        "zeroshot-whole-tumor-flair+t1gd+t2": ["whole-tumor"],
        "zeroshot-tumor-core-t1gd": ["tumor-core"],
    }


def without_enhancing(cohort: Path, folder: Path) -> Path:
    """The cohort with enhancing tumour called non-enhancing."""
    for case in [path for path in cohort.iterdir() if path.is_dir()]:
        shutil.copytree(case, folder / case.name)
        path = next((folder / case.name).glob("*seg*"))
        image = nib.load(path)
        values = np.asanyarray(image.dataobj).copy()
        values[values == 3] = 1
        nib.save(nib.Nifti1Image(values, image.affine), path)
    return folder


@pytest.mark.parametrize("options", [{"prompt": "box"}, {"prompt": "point", "clicks": 2}, {"protocol": "decathlon"}])
def test_a_region_that_no_case_shows_gives_tables_with_none(base: Path, cohort: Path, tmp_path: Path, options: dict):
    data = without_enhancing(cohort, tmp_path / "lgg-2023")
    given = {"strategy": "zeroshot", "weights": str(base), "image_size": 64, "roi": "enhancing", "labels": "brats2023"}
    summary = scored(data, tmp_path / "out", data=(f"lgg={data}",), **given | options)
    scopes = summary["runs"]["zeroshot"]["data"]["lgg"]["roi"]["enhancing"]
    assert (scopes["slice"]["n"], scopes["slice"]["dice"]) == (0, None)
    assert (scopes["volume"]["n"], scopes["volume"]["dice"]) == (0, None)  # nothing was prompted, so nothing was run
    assert "clicks" not in summary["runs"]["zeroshot"]
    assert {row["scopes"] for row in rows(tmp_path / "out" / "slices.csv")} == {"slice_all"}
    assert (tmp_path / "out" / "report.html").is_file()


def test_cleaned_masks_have_a_name_of_their_own(cohort: Path, sam: Path, place: Path, capsys: pytest.CaptureFixture):
    """A run without a choice beside the same run with one."""
    rule = Postprocess(largest=1, fill=True)
    chosen = shutil.copytree(sam, place / "chosen")
    PostprocessChoice(str(rule), "on 1 validation patient", "whole-tumor", "last", 9, 1, 1, 5).save(chosen)
    summary = scored(cohort, place / "clean", sam, chosen, prompt="none", save_predictions=True, limit=1)
    said = capsys.readouterr().out
    assert "sam: post-processing none (the run has none of its own)" in said
    assert "chosen: post-processing largest=1,fill (on 1 validation patient)" in said
    names = {"sam": "none", "chosen+largest=1,fill": "largest=1,fill"}
    assert {name: run["postprocess"] for name, run in summary["runs"].items()} == names
    assert "| chosen+largest=1,fill | demo |" in (place / "clean" / "tables.md").read_text()
    pixels = {row["run"]: int(row["pred_pixels"]) for row in rows(place / "clean" / "volumes.csv")}
    raw, clean = (np.asarray(nib.load(next((place / "clean" / "predictions" / name).iterdir())).dataobj) > 0
                  for name in names)  # fmt: skip
    np.testing.assert_array_equal(clean, cleaned(raw, (1, 1, 1), rule))
    assert (clean != raw).any()
    assert list(pixels.values()) == [raw.sum(), clean.sum()]
    assert summary["baselines"]["FLAIR threshold"]["demo"]["roi"]["whole-tumor"]["volume"]["n"] == 1
    with pytest.raises(UserError, match=r"--postprocess .all.: .all. is no condition; expected"):
        scored(cohort, place / "never", sam, postprocess="all")


def test_missing_predictions_are_found_before_anything_is_scored(cohort: Path, sam: Path, together, tmp_path: Path):
    folder = shutil.copytree(together[0] / "predictions" / "sam", tmp_path / "mine")
    first, second = sorted(folder.glob("*.nii.gz"))
    second.unlink()
    with pytest.raises(UserError, match=rf"--predictions .*mine: no {second.name} there"):
        scored(cohort, tmp_path / "never", sam, predictions=(str(folder),))
    first.unlink()
    with pytest.raises(UserError, match=r"no .* there; .* \(2 of 2 cases have none\)"):
        scored(cohort, tmp_path / "never", sam, predictions=(str(folder),))
    assert not (tmp_path / "never").exists()


def test_the_rows_of_a_model_are_written_when_it_ends(cohort: Path, together, tmp_path: Path):
    """The second model's predictions break off: what the first one scored is kept."""
    good = together[0] / "predictions" / "sam"
    bad = shutil.copytree(good, tmp_path / "bad")
    cut = max(bad.glob("*.nii.gz"))
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(UserError, match=cut.name):
        scored(cohort, tmp_path / "out", predictions=(f"good={good}", f"bad={bad}"))
    for name, count in (("slices.csv", 12), ("volumes.csv", 2)):
        found = rows(tmp_path / "out" / name)
        assert {row["run"] for row in found} == {"good"}
        assert len(found) == count


def test_cases_left_out_are_counted(cohort: Path, base: Path, tmp_path: Path):
    data = shutil.copytree(cohort, tmp_path / "broken-2023")
    next(next(path for path in data.iterdir() if path.is_dir()).glob("*t1c*")).unlink()
    options = {"strategy": "zeroshot", "weights": str(base), "image_size": 64, "workers": 0, "cache": False}
    found = evaluate(EvalOptions(labels="brats2023", data=(f"x={data}",), output=tmp_path / "out", **options))
    assert found == Evaluation(tmp_path / "out", 1)


def test_two_runs_of_one_name_are_refused(place: Path, base: Path, cohort: Path, sam: Path):
    other = write_run(place / "elsewhere" / "sam", base, cohort, depth=2, prompt="mixed")
    with pytest.raises(UserError, match="the name sam is used twice"):
        scored(cohort, place / "never", sam, other)
    assert not (place / "never").exists()


def test_what_cannot_be_analysed_is_said_before_anything_is_scored(place: Path, cohort: Path, sam: Path, unet: Path):
    with pytest.raises(UserError, match="--lora-distance: compares two runs with LoRA updates, found sam"):
        scored(cohort, place / "never", sam, lora_distance=True)
    with pytest.raises(UserError, match="--embeddings: needs a SAM run"):
        scored(cohort, place / "never", unet, embeddings=True)
    assert not (place / "never").exists()


def test_further_clicks_are_for_points_alone(place: Path, sam: Path, base: Path, cohort: Path):
    def words(prompt: str) -> list[str]:
        options = {"strategy": "zeroshot", "weights": str(base), "image_size": 64, "prompt": prompt, "clicks": 3}
        found = scored(cohort, place / f"three-{prompt}", sam, **options, limit=1)
        return [run["prompt"] for run in found["runs"].values()]

    assert words("box") == ["box", "box"]
    assert words("point") == ["point, 3 clicks", "point, 3 clicks"]


def test_the_limit_is_of_each_domain(cohort: Path):
    data = (f"one={cohort}", f"two={cohort}")
    cases = select_cases(EvalOptions(data=data, limit=1, cache=False), []).cases
    assert [case.case.domain for case in cases] == ["one", "two"]
    assert [case.case.id.partition("-")[0] for case in cases] == ["one", "two"], "results are named by id"


def test_runs_of_other_splits_are_named(place: Path, base: Path, cohort: Path):
    first, second = sorted(path.name.rsplit("-", 1)[0] for path in cohort.iterdir() if path.is_dir())
    splits = {
        "unrelated": {"other": Split((first,), (), (second,))},
        "left": {"demo": Split((first,), (), (second,))},
        "right": {"demo": Split((second,), (), (first,))},
    }
    runs = []
    for name, domains in splits.items():
        runs.append(write_run(place / name, base, cohort, depth=2))
        (runs[-1] / "split.json").write_text(json.dumps(Splits(0, None, domains).to_json()))
    with pytest.raises(UserError, match=r"right: another split of demo than .*left,"):
        scored(cohort, place / "never", *runs, split=("test",))
