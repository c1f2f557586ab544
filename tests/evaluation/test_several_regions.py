"""Scoring a run of several regions: each region's rows, what its prompts were of, and what stands beside it."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from flax import nnx

from samjax.data.labels import NESTED, ROIS, roi_mask, to_canonical
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.evaluation.evaluate import evaluate
from samjax.evaluation.models import choose_models
from samjax.metrics.rows import prompt_of_region
from samjax.models.adapt import random_sam
from samjax.models.flat import to_flat
from samjax.options import EvalOptions
from samjax.runs.folder import read_config
from samjax.weights.base import save_weights
from tests.made_runs import write_run
from tests.training import small

SHORT = replace(small.CONFIG, depth=1, global_attn_indexes=(0,), decoder_depth=1, iou_head_depth=2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("several")
    write_cohort(root / "cohort-2023", "adult", 1, options=PhantomOptions((32, 32, 6)))
    flat = to_flat(nnx.state(random_sam(SHORT, seed=3)), SHORT.block_spans)
    save_weights(root / "base.safetensors", flat, SHORT)
    return root


@pytest.fixture(scope="module")
def joint(place: Path) -> Path:
    return write_run(place / "joint", place / "base.safetensors", place / "cohort-2023", roi="all", depth=1)


def options_of(place: Path, *runs: Path, **changes: object) -> EvalOptions:
    given = {"run": runs, "data": (f"demo={place / 'cohort-2023'}",), "workers": 0, "cache": False, "prompt": "point"}
    return EvalOptions(**given | changes)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_region_is_scored_and_says_what_was_prompted(place: Path, joint: Path):
    output = place / "scored"
    evaluate(options_of(place, joint, output=output, save_predictions=True))
    summary = json.loads((output / "summary.json").read_text())
    assert list(summary["runs"]["joint"]["data"]["demo"]["roi"]) == list(NESTED)
    assert summary["runs"]["joint"]["prompted_roi"] == "whole-tumor"
    volumes = {row["roi"]: row for row in rows(output / "volumes.csv")}
    assert {roi: row["prompt"] for roi, row in volumes.items()} == {
        "whole-tumor": "point",
        "tumor-core": "point of whole-tumor",
        "enhancing": "point of whole-tumor",
    }
    assert list(summary["baselines"]["disk at the click"]["demo"]["roi"]) == ["whole-tumor"]
    tables = (output / "tables.md").read_text()
    assert "| joint | demo | whole-tumor | point |" in tables
    assert "| joint | demo | enhancing | point of whole-tumor |" in tables
    (file,) = (output / "predictions").glob("*.nii.gz")
    codes = to_canonical(np.asarray(nib.load(file).dataobj), "brats2023", file)
    for roi, row in volumes.items():
        assert int(row["pred_pixels"]) == np.count_nonzero(roi_mask(codes, roi)) > 0


def test_a_prompt_is_named_after_the_region_that_it_is_of():
    assert prompt_of_region("box", "enhancing", "whole-tumor") == "box of whole-tumor"
    assert prompt_of_region("box", "whole-tumor", "whole-tumor") == prompt_of_region("box", "enhancing", None) == "box"
    assert prompt_of_region("none", "enhancing", "whole-tumor") == "none"


def test_runs_of_several_regions_fill_no_table_of_the_papers_and_say_nothing_of_prompts_without_any(
    place: Path, joint: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("samjax.evaluation.reporting.results.draw_gallery", lambda *_: [])
    runs = []
    monkeypatch.setattr("samjax.evaluation.reporting.results.paper_tables", lambda found: runs.extend(found) or [])
    output = place / "free"
    single = write_run(place / "one", place / "base.safetensors", place / "cohort-2023", depth=1)
    evaluate(options_of(place, joint, single, prompt="none", nested=True, output=output))
    assert [run.name for run in runs] == ["one"]
    assert {row["run"] for row in rows(output / "volumes.csv")} == {"joint+nested", "one"}
    assert {row["prompt"] for row in rows(output / "volumes.csv")} == {"none"}
    assert "prompted_roi" not in json.loads((output / "summary.json").read_text())["runs"]["joint+nested"]


def models(place: Path, *runs: Path, **changes: object) -> dict[str, tuple[str, ...]]:
    configs = [read_config(run) for run in runs]
    given = {"strategy": "zeroshot", "weights": str(place / "base.safetensors"), "prompt": "box"} | changes
    found = choose_models(options_of(place, *runs, **given), runs, configs)
    return {model.name: model.rois for model in found}


def test_base_weights_are_asked_for_one_region_at_a_time(place: Path, joint: Path):
    boxed = write_run(place / "boxed", place / "base.safetensors", place / "cohort-2023", roi="all", prompt="box")
    beside = models(place, boxed)
    assert beside.pop("boxed") == NESTED
    assert beside == {f"zeroshot-{roi}": (roi,) for roi in NESTED}
    assert models(place, roi="all", image_size=64) == {f"zeroshot-{roi}": (roi,) for roi in ROIS}


def test_nesting_is_for_runs_of_several_regions(place: Path):
    single = write_run(place / "single", place / "base.safetensors", place / "cohort-2023", depth=1)
    with pytest.raises(UserError, match="--nested: no run of SAM here predicts several regions; leave it out"):
        models(place, single, strategy=None, prompt="point", nested=True)
