"""Volumes in millilitres: by the file's own affine and values, for all predictions of a folder."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.formats.layouts import find_cases
from samjax.data.labels import ROIS
from samjax.errors import UserError
from samjax.inference.prediction_records import PredictionRecipe, record, target
from samjax.inference.volume_table import clear_volumes, volumes_of, write_volumes
from tests.data.trees import example, save_brats

RECIPE = PredictionRecipe(("a" * 64,), "none", "", False, "brats2021")


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A folder with the predictions of two cases, the second made by an earlier command of two regions."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name, about in (("a", {}), ("b", {"regions": ["whole-tumor", "enhancing"]})):
        (case,) = find_cases(save_brats(tmp_path / "in" / name, name, example(), None))
        record(folder, case, replace(RECIPE, scan=name), about)
        values = np.zeros((4, 5, 6), np.uint8)
        values[0, 0, :6], values[1, 0, :3], values[2, 0, :2] = 2, 1, 4
        turned = np.array([[0.0, -3, 0, 7], [2, 0, 0, 8], [0, 0, 0.5, 9], [0, 0, 0, 1]])  # 3 mm3 a voxel
        nib.save(nib.Nifti1Image(values, turned), target(folder, name))
    return folder


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "volumes.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_volumes_are_of_each_region_by_the_affine(output: Path):
    found = {row.region: (row.voxels, row.ml) for row in volumes_of("a", target(output, "a"), "brats2021", tuple(ROIS))}
    voxels = {"edema": 6, "non-enhancing": 3, "enhancing": 2, "tumor-core": 5, "whole-tumor": 11}
    assert found == {roi: (count, pytest.approx(count * 0.003)) for roi, count in voxels.items()}


def test_the_tables_hold_all_recorded_predictions_whose_files_are_there(output: Path):
    write_volumes(output, ("tumor-core",), ["a"])
    assert read(output) == [
        {"case": "a", "region": "tumor-core", "voxels": "5", "ml": "0.015"},
        {"case": "b", "region": "whole-tumor", "voxels": "11", "ml": "0.033"},
        {"case": "b", "region": "enhancing", "voxels": "2", "ml": "0.006"},
    ]
    assert json.loads((output / "volumes.json").read_text()) == {
        "a": {"tumor-core": {"voxels": 5, "ml": 0.015}},
        "b": {"whole-tumor": {"voxels": 11, "ml": 0.033}, "enhancing": {"voxels": 2, "ml": 0.006}},
    }
    target(output, "b").unlink()
    write_volumes(output, ("tumor-core",), ["a"])
    assert [row["case"] for row in read(output)] == ["a"]
    assert not list(output.glob(".tmp*"))


def test_a_damaged_prediction_is_named_and_the_others_stay(output: Path, capsys: pytest.CaptureFixture):
    target(output, "a").write_bytes(target(output, "a").read_bytes()[:-20])
    write_volumes(output, ("whole-tumor",), ["a"])
    assert {row["case"] for row in read(output)} == {"b"}
    assert "no volume of a: " in capsys.readouterr().err


def test_nothing_predicted_writes_nothing(tmp_path: Path):
    write_volumes(tmp_path / "none", ("whole-tumor",), ["a"])
    assert not (tmp_path / "none").exists()


def test_tables_go_before_predictions_change_and_no_other_table_is_replaced(output: Path):
    write_volumes(output, ("whole-tumor",), ["a"])
    clear_volumes(output)
    assert not list(output.glob("volumes.*"))
    clear_volumes(output)
    (output / "volumes.csv").write_text("run,domain,patient\n")
    with pytest.raises(UserError, match=r"volumes\.csv there is no table of predicted volumes"):
        clear_volumes(output)
    assert (output / "volumes.csv").read_text() == "run,domain,patient\n"
