"""Cohorts in which the validation or test patients, or all, show none of the region."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from flax import nnx

from samjax.data.patients import patient_of
from samjax.data.splits import Split, split_patients
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.models.adapt import random_sam
from samjax.models.flat import to_flat
from samjax.options import TrainOptions
from samjax.training import loop
from samjax.training.loop import train
from samjax.weights.base import save_weights
from tests.training.test_resuming import CONFIG
from tests.training.test_run_options import one_line


def without_region(folder: Path) -> None:
    """Empties the label of a case."""
    (path,) = folder.glob("*-seg.nii.gz")
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[Path, Split]:
    root = tmp_path / "small-2023"
    write_cohort(root, "adult", 5, options=PhantomOptions((40, 40, 8)))
    return root, split_patients([patient_of(path.name) for path in root.glob("BraTS*")], seed=0)


@pytest.fixture
def run(tmp_path: Path, cohort: tuple[Path, Split], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Trains two steps after the label of some patients was emptied."""
    root, _ = cohort
    flat = to_flat(nnx.state(random_sam(CONFIG, seed=3)), CONFIG.block_spans)
    save_weights(tmp_path / "small.safetensors", flat, CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "draw_curves", lambda *_: None)

    def run(*patients: str, **changes: object) -> Path:
        for folder in root.glob("BraTS*"):
            if patient_of(folder.name) in patients:
                without_region(folder)
        options = {
            "strategy": "decoder", "data": (f"demo={root}",), "weights": "small.safetensors", "run": tmp_path / "run",
            "image_size": 64, "max_steps": 2, "workers": 0, "cache_dir": tmp_path / "cache",
        }  # fmt: skip
        return train(TrainOptions(**options | changes))

    return run


def kinds(run: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("prompt", ["box", "none"])
def test_without_the_region_in_validation_it_trains_and_says_so_before_the_first_step(
    prompt: str, run: Callable[..., Path], cohort: tuple[Path, Split], capsys: pytest.CaptureFixture
):
    folder = run(*cohort[1].val, prompt=prompt)
    said = capsys.readouterr().out
    warning = "none of the 1 validation cases shows whole-tumor: training goes on without a validation score"
    assert warning in said
    assert said.index(warning) < said.index("compiled the step")
    assert "eval will have nothing" not in said
    assert kinds(folder) == ["train", "train"]
    assert (folder / "final.safetensors").exists()


def test_without_the_region_in_the_test_set_it_says_so(
    run: Callable[..., Path], cohort: tuple[Path, Split], capsys: pytest.CaptureFixture
):
    folder = run(*cohort[1].test)
    assert (
        "none of the 1 test cases shows whole-tumor: eval will have nothing to score there" in capsys.readouterr().out
    )
    assert "validation" in kinds(folder)


def test_without_the_region_in_training_nothing_is_created(
    run: Callable[..., Path], cohort: tuple[Path, Split], tmp_path: Path
):
    with pytest.raises(UserError) as caught:
        run(*cohort[1].train)
    one_line(caught, "no training case", "--roi whole-tumor")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "runs").exists()
