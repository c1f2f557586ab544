"""The stored choice of a run, and which rule a command applies to which masks."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from samjax.errors import UserError
from samjax.inference import postprocess_choice
from samjax.inference.postprocess import RAW, Postprocess
from samjax.inference.postprocess_choice import Candidate, PostprocessChoice, load_choice, rule_for

CHOICE = PostprocessChoice(
    "share=0.05,fill", "on 3 validation patients", "whole-tumor", "average", 12, 3, 4, 9, 2,
    (Candidate("none", 0.7, 40.0, 0, 0, True), Candidate("share=0.05,fill", 0.8, 9.5, 0, 0, True)),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that ended at step 12, with its choice."""
    monkeypatch.setattr(postprocess_choice, "ended_at", lambda path, step: path == tmp_path and step == 12)
    CHOICE.save(tmp_path)
    return tmp_path


def test_a_choice_reads_back(folder: Path):
    assert load_choice(folder) == CHOICE
    content = json.loads((folder / "postprocess.json").read_text())
    assert (content["format_version"], content["chosen"]) == ("1", "share=0.05,fill")
    assert content["candidates"][1] == {
        "rule": "share=0.05,fill", "dice": 0.8, "hd95": 9.5, "spoilt_predictions": 0, "spoilt_labels": 0,
        "allowed": True,
    }  # fmt: skip


def test_runs_without_a_choice_and_choices_of_other_weights_count_as_none(folder: Path, tmp_path: Path):
    assert load_choice(tmp_path / "old") is None
    assert rule_for("auto", "none", tmp_path / "old") == (RAW, "the run has none of its own")
    replace(CHOICE, step=20).save(folder)
    assert load_choice(folder) is None


@pytest.mark.parametrize(
    "change",
    [{"format_version": "2"}, {"chosen": "keep=1"}, {"chosen": 5}, {"unknown": 1}, {"candidates": [{}]}, None],
)
def test_a_file_that_is_no_choice_is_refused_by_name(folder: Path, change: dict | None):
    path = folder / "postprocess.json"
    content = json.loads(path.read_text())
    path.write_text("[]" if change is None else json.dumps(content | change))
    with pytest.raises(UserError, match=r"postprocess\.json") as told:
        load_choice(folder)
    assert "\n" not in str(told.value)


def test_by_itself_a_choice_is_for_prompt_free_masks_and_the_average(folder: Path):
    rule = Postprocess(share=0.05, fill=True)
    assert rule_for("auto", "none", folder) == (rule, "on 3 validation patients")
    for kind in ("box", "point"):
        assert rule_for("auto", kind, folder)[0] == RAW
    assert rule_for("auto", "none", folder, average=False)[0] == RAW
    replace(CHOICE, weights="last").save(folder)
    assert rule_for("auto", "none", folder, average=False)[0] == rule
    assert rule_for("auto", "none")[0] == RAW


def test_a_rule_that_is_asked_for_is_for_all_masks(folder: Path):
    for kind in ("none", "box"):
        assert rule_for("min=5", kind, folder)[0] == Postprocess(min_mm3=5)
        assert rule_for("none", kind, folder)[0] == RAW
    with pytest.raises(UserError, match=r"--postprocess .all.: .all. is no condition"):
        rule_for("all", "none", folder)
