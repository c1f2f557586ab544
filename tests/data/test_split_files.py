"""Splits from files: ours, nnU-Net's, and plain lists."""

import json
from pathlib import Path

import pytest

from samjax.data.cases import Case
from samjax.data.split_files import read_split_file
from samjax.data.splits import Split, split_cases
from samjax.errors import UserError

FOLDS = [{"train": ["a-1", "b", "c"], "val": ["d"]}, {"train": ["b", "c", "d"], "val": ["a-1", "a-2"]}]


def case(name: str, domain: str = "demo") -> Case:
    return Case(name, name.partition("-")[0], domain, {}, Path("seg"), "msd", "brats")


CASES = [case(name) for name in ("a-1", "a-2", "b", "c", "d")]


@pytest.fixture
def read(tmp_path):
    def read(content: object, fold: str | None = None, cases=CASES, **options):
        path = tmp_path / "splits.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_split_file(path, fold, cases, **options)

    return read


def test_folds_of_nnunet_are_counted_from_zero(read):
    splits, notes = read(FOLDS, "1")
    assert splits.domains == {"demo": Split(("b", "c", "d"), ("a",), ())}
    assert (splits.fold, notes) == ("1", [])
    assert read(FOLDS, "0")[0].domains == {"demo": Split(("a", "b", "c"), ("d",), ())}
    assert read(FOLDS[:1])[0].domains == {"demo": Split(("a", "b", "c"), ("d",), ())}


@pytest.mark.parametrize("fold", [None, "2", "-1", "1/5"])
def test_a_fold_that_is_not_there(read, fold):
    with pytest.raises(UserError, match="holds 2 folds; choose one with --fold 0 to --fold 1"):
        read(FOLDS, fold)


def test_names_may_be_of_patients_and_a_test_part_is_taken(read):
    splits, notes = read({"train": ["a", "b"], "val": ["c"], "test": ["d"]})
    assert splits.domains == {"demo": Split(("a", "b"), ("c",), ("d",))}
    assert notes == []


def test_our_own_file_by_domains(read):
    cases = [*CASES, *(case(name, "men") for name in ("p", "q", "r", "s"))]
    ours = split_cases(cases, 3)
    assert read(ours.to_json(), cases=cases)[0].domains == ours.domains
    renamed = [case(one.id, "elsewhere") for one in CASES]
    alone = split_cases(CASES, 3)
    assert read(alone.to_json(), cases=renamed)[0].domains == {"elsewhere": alone.domains["demo"]}
    with pytest.raises(UserError, match=r"has no domain elsewhere \(it has demo, men\)"):
        read(ours.to_json(), cases=renamed)
    changed = ours.to_json()
    changed["domains"]["demo"]["train"].append("x")
    with pytest.raises(UserError, match="sha256"):
        read(changed, cases=cases)
    with pytest.raises(UserError, match=r"--fold 1: .* holds one split"):
        read(ours.to_json(), "1", cases=cases)


def test_the_scans_of_a_patient_stay_together(read):
    with pytest.raises(UserError, match=r"patient a is in train \(as a-1\) and in val \(as a-2\)"):
        read({"train": ["a-1", "b"], "val": ["a-2"]})


def test_what_a_file_does_not_cover_is_said(read):
    _, notes = read({"train": ["a-1", "gone"], "val": ["c"]})
    assert [note.partition(": ")[2] for note in notes] == [
        "1 (gone) of the file are not among the labelled cases of demo",
        "2 (b, d) of demo are in none of its parts and are left out",
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as JSON"),
        ({"train": ["a"]}, "expected a run's split.json, or nnU-Net's list"),
        ({"train": "a", "val": ["b"]}, "expected a run's split.json"),
        (["a"], "expected a run's split.json"),
        ({"domains": []}, "expected an object of them"),
        ({"train": ["x"], "val": ["b"]}, "names no labelled patient of domain demo for train"),
        ({"train": ["b"], "val": []}, "names no labelled patient of domain demo for val"),
    ],
)
def test_what_cannot_be_used_is_one_line(read, content, words):
    with pytest.raises(UserError, match=words) as caught:
        read(content)
    assert str(caught.value).startswith("--split-file")


def test_parts_that_are_not_needed_may_be_empty(read):
    assert read({"train": ["x"], "val": ["b"]}, needed=())[0].domains == {"demo": Split((), ("b",), ())}
