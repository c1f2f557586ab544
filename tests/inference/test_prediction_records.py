"""A prediction that is there is taken for the one asked for only where recipe and scan are the same."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from samjax.data.cases import Case
from samjax.data.formats.layouts import find_cases
from samjax.errors import UserError
from samjax.inference.prediction_records import RECORDS, PredictionRecipe, already_done, read_records, record, target
from tests.data.trees import example, save_brats

ID = "BraTS2021_00001"
RECIPE = PredictionRecipe(("a" * 64,), "none", "", False, "brats2021")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    (found,) = find_cases(save_brats(tmp_path / "in" / ID, ID, example(), None))
    return found


@pytest.fixture
def output(case: Case, tmp_path: Path) -> Path:
    """A folder with the case's prediction, of scan "s"."""
    folder = tmp_path / "out"
    folder.mkdir()
    record(folder, case, replace(RECIPE, scan="s"), {})
    target(folder, ID).touch()
    return folder


def done(output: Path, case: Case, recipe: PredictionRecipe = RECIPE, scan: str = "s", overwrite: bool = False):
    """The cases that are done, and for how many the images were read."""
    asked = []

    def scan_of(one: Case) -> str:
        asked.append(one.id)
        return scan

    return already_done(output, [case], {ID: recipe}, overwrite, scan_of), len(asked)


def test_files_that_were_not_touched_are_not_read_again(output, case):
    assert done(output, case, scan="other") == ({ID}, 0)
    assert done(output, case, overwrite=True) == (set(), 0)
    assert read_records(output)[ID].recipe == replace(RECIPE, scan="s")


def test_a_moved_or_copied_scan_is_read_and_found_to_be_the_same(output, case, tmp_path):
    (moved,) = find_cases(shutil.copytree(tmp_path / "in", tmp_path / "moved"))
    assert done(output, moved) == ({ID}, 1)
    with pytest.raises(
        UserError, match=rf"{ID}.nii.gz: exists and was made of another scan of that name; .*--overwrite"
    ):
        done(output, moved, scan="other")


def test_a_scan_replaced_by_one_of_the_same_size_and_time_is_noticed(output, case):
    path = case.images["t2"].path
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(UserError, match="another scan of that name"):
        done(output, case, scan="other")


def test_another_recipe_comes_first(output, case):
    with pytest.raises(UserError, match="made by another run or prompt"):
        done(output, case, replace(RECIPE, prompt="box"))


def test_records_of_before_scans_were_noted_are_not_trusted(output, case):
    row = json.loads((output / RECORDS).read_text())
    del row["recipe"]["scan"], row["files"]
    (output / RECORDS).write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match="does not say of which scan it was made"):
        done(output, case)
    assert done(output, case, overwrite=True) == (set(), 0)
