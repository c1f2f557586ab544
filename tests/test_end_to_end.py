"""The commands as a user types them, on a small phantom cohort: train, resume, score, and wrong input."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from tests.rescore import rescore

ROOT = Path(__file__).parents[1]
QUICK = ("--image-size", "64", "--workers", "0")


def run(command: str, *arguments: object, where: Path) -> subprocess.CompletedProcess:
    environment = dict(os.environ, XLA_FLAGS="--xla_backend_optimization_level=0", PYTHONWARNINGS="error")
    environment.pop("SAMJAX_REAL_DATA", None)
    return subprocess.run(
        [sys.executable, str(ROOT / command), *map(str, arguments)],
        cwd=where,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def succeeded(result: subprocess.CompletedProcess) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def refused(result: subprocess.CompletedProcess, *words: str) -> None:
    """The command ended with code 2 and one line that holds the words, and no traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in errors[0], errors[0]


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort") / "small-2023"
    write_cohort(root, "adult", 5, options=PhantomOptions((48, 48, 10)))
    return root


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of all commands."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def trained(cohort: Path, place: Path) -> Path:
    options = ("--data", f"demo={cohort}", "--cache-dir", place / "cache", "--max-steps", "8", *QUICK)
    out = succeeded(run("train.py", *options, "--lr", "1e-3", "--run", "runs/first", where=place))
    assert f"python {ROOT / 'eval.py'} --run runs/first" in out
    assert "trains 1,205,330 of" in out
    assert "choosing post-processing on 1 validation case, without prompts" in out
    assert "post-processing of prompt-free masks: " in out
    return place / "runs" / "first"


def rows(folder: Path, kind: str) -> list[dict]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["kind"] == kind]


def test_a_run_leaves_what_it_promises(trained: Path):
    for name in ("config.json", "split.json", "metrics.jsonl", "checkpoints", "final.safetensors"):
        assert (trained / name).exists(), name
    assert (trained / "first_validation.png").stat().st_size > 5000
    assert list(trained.glob("events.out.tfevents.*"))
    assert (trained.parent / "latest").resolve() == trained.resolve()
    steps = rows(trained, "train")
    assert [row["step"] for row in steps] == list(range(1, 9))
    assert {"loss", "lr", "seconds", "data_wait_seconds", "epoch"} <= steps[0].keys()
    assert 0 <= rows(trained, "validation")[-1]["dice"] <= 1
    choice = json.loads((trained / "postprocess.json").read_text())
    assert (choice["weights"], choice["step"], choice["patients"], choice["labels"]) == ("average", 8, 1, 4)
    assert len(choice["candidates"]) == 20


def test_a_stopped_run_resumes_to_the_same_numbers(trained: Path, cohort: Path, place: Path):
    """A run of 8 steps whose log and checkpoints end at step 4 goes on as the uninterrupted one did."""
    options = ("--data", f"demo={cohort}", "--cache-dir", place / "cache", *QUICK, "--lr", "1e-3")
    succeeded(run("train.py", *options, "--max-steps", "4", "--run", "runs/half", where=place))
    half = place / "runs" / "half"
    config = json.loads((half / "config.json").read_text())
    config["options"]["max_steps"] = 8
    (half / "config.json").write_text(json.dumps(config))
    (half / "final.safetensors").unlink()
    succeeded(run("train.py", "--resume", "--run", half, where=place))
    assert [row["loss"] for row in rows(half, "train")] == [row["loss"] for row in rows(trained, "train")]


def test_eval_scores_a_run_and_its_base_weights(trained: Path, cohort: Path, place: Path):
    out = succeeded(
        run(
            "eval.py", "--run", trained, "--strategy", "zeroshot", "--cache-dir", place / "cache",
            "--image-size", "64", "--save-predictions", "--workers", "0", "--output", "scores", where=place,
        )
    )  # fmt: skip
    assert "zeroshot" in out
    summary = json.loads((place / "scores" / "summary.json").read_text())
    assert summary["runs"].keys() == {"first", "zeroshot"}
    first = summary["runs"]["first"]
    assert (first["prompt"], first["prompt_source"]) == ("point", "ground truth")
    scopes = first["data"]["demo"]["roi"]["whole-tumor"]
    assert scopes.keys() == {"slice", "slice_all", "volume"}
    assert scopes["volume"]["n"] == 1
    assert scopes["slice_all"]["n"] == 10
    assert scopes["volume"]["slices"] == "oracle"
    differences = rescore(
        place / "scores" / "predictions" / "first", place / "scores" / "volumes.csv", cohort, [1, 2, 3], "first"
    )
    assert max(max(pair) for pair in differences.values()) < 1e-6
    split = json.loads((trained / "split.json").read_text())
    assert {case.rsplit("-", 1)[0] for case in differences} == set(split["domains"]["demo"]["test"])


def test_prompt_free_scores_stand_in_a_table_of_their_own(trained: Path, place: Path):
    options = ("--run", trained, "--prompt", "none", "--cache-dir", place / "cache", "--workers", "0")
    succeeded(run("eval.py", *options, "--output", "free", where=place))
    ((name, summary),) = json.loads((place / "free" / "summary.json").read_text())["runs"].items()
    assert name == "first" + f"+{summary['postprocess']}" * (summary["postprocess"] != "none")
    assert (summary["prompt"], summary["prompt_source"]) == ("none", "none")
    assert summary["data"]["demo"]["roi"]["whole-tumor"]["volume"]["slices"] == "all"
    text = (place / "free" / "tables.md").read_text()
    assert "no prompts, every slice run" in text
    assert "ground truth" not in text


def test_a_prompt_that_the_run_never_saw_is_refused(trained: Path, place: Path):
    result = run("eval.py", "--run", trained, "--prompt", "box", "--cache-dir", place / "cache", where=place)
    refused(result, "--prompt box", "point, none")


def damaged(cohort: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of the cohort's first case in a folder of its own."""
    source = sorted(path for path in cohort.iterdir() if path.is_dir())[0]
    case = folder / "brats2023" / source.name
    case.mkdir(parents=True)
    for path in source.iterdir():
        (case / path.name).write_bytes(path.read_bytes())
    return folder / "brats2023", case


def test_wrong_data_is_one_line_and_code_two(cohort: Path, tmp_path: Path):
    def train_on(data: Path) -> subprocess.CompletedProcess:
        return run("train.py", "--data", data, "--cache-dir", tmp_path / "cache", *QUICK, where=tmp_path)

    data, case = damaged(cohort, tmp_path / "missing")
    next(case.glob("*-t1c.nii.gz")).unlink()
    refused(train_on(data), case.name, "t1gd")

    data, case = damaged(cohort, tmp_path / "cut")
    cut = next(case.glob("*-t2w.nii.gz"))
    cut.write_bytes(cut.read_bytes()[:-2000])
    refused(train_on(data), cut.name)

    data, case = damaged(cohort, tmp_path / "shape")
    other = next(case.glob("*-t2f.nii.gz"))
    image = nib.load(other)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[:-1], image.affine), other)
    refused(train_on(data), other.name, "47 x 48 x 10")

    data, case = damaged(cohort, tmp_path / "label")
    label = next(case.glob("*-seg.nii.gz"))
    image = nib.load(label)
    values = np.asanyarray(image.dataobj).copy()
    values[values == 3] = 7
    nib.save(nib.Nifti1Image(values, image.affine), label)
    refused(train_on(data), label.name, "7")
    assert not (tmp_path / "runs").exists()


def test_a_broken_case_among_others_is_named_and_left_out(cohort: Path, tmp_path: Path):
    data = tmp_path / "mixed-2023"
    shutil.copytree(cohort, data)
    cases = sorted(path for path in data.iterdir() if path.is_dir())
    next(cases[0].glob("*-t1c.nii.gz")).unlink()
    cut = next(cases[1].glob("*-t2w.nii.gz"))
    cut.write_bytes(cut.read_bytes()[:-2000])
    result = run("train.py", "--data", data, "--cache-dir", tmp_path / "cache", "--limit", "4", "--min-pixels", "9999",
                 *QUICK, where=tmp_path)  # fmt: skip
    left_out = [line for line in result.stderr.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 2
    assert cases[0].name in left_out[0]
    assert "t1gd" in left_out[0]
    assert cut.name in left_out[1]
    refused(result, "--min-pixels 9999")  # three cases are left, and so it goes on to the next mistake


def test_wrong_options_are_one_line_and_code_two(cohort: Path, tmp_path: Path):
    base = ("--data", cohort, "--cache-dir", tmp_path / "cache")
    bad = tmp_path / "weights.pth"
    bad.write_bytes(b"not weights")
    for options, words in (
        (("--strategy", "other"), ("--strategy", "lora4ch")),
        (("--roi", "liver"), ("--roi", "whole-tumor")),
        (("--channels", "t1,t2,flair,ct"), ("--channels",)),
        (("--strategy", "decoder", "--channels", "all"), ("--channels", "takes 3")),
        (("--image-size", "100"), ("--image-size 100", "16")),
        (("--weights", bad), (bad.name,)),
        (("--weights", tmp_path / "none.pth"), ("none.pth",)),
        (("--prompt", "scribble"), ("--prompt", "box")),
    ):
        refused(run("train.py", *base, *options, where=tmp_path), *words)
    assert not (tmp_path / "runs").exists()
