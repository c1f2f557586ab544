"""What is exported to nnU-Net, read back by our own reader of its layout."""

import json
import os
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.cases import MODALITIES, Case
from samjax.data.formats.layouts import find_cases
from samjax.data.formats.nnunet_export import Exported, export_nnunet
from samjax.data.imaging.volumes import read_case
from samjax.data.splits import Split, Splits, split_cases
from samjax.errors import UserError
from tests.data.trees import example, save, save_brats, save_msd

PATIENTS = 5


@pytest.fixture
def brats(tmp_path) -> list[Case]:
    for number in range(PATIENTS):
        save_brats(tmp_path / "data" / f"BraTS2021_{number}", f"BraTS2021_{number}", example(number))
    return find_cases(tmp_path / "data", "demo")


def exported(cases: list[Case], out: Path) -> Exported:
    return export_nnunet(cases, split_cases(cases, 0), out, "my run_1")


def assert_same_volumes(found: list[Case], cases: list[Case]) -> None:
    by_id = {case.id: case for case in cases}
    for case in found:
        ours, theirs = read_case(case), read_case(by_id[case.id])
        assert np.array_equal(ours.images, theirs.images)
        assert np.array_equal(ours.labels, theirs.labels)
        assert np.allclose(ours.geometry.oriented_affine, theirs.geometry.oriented_affine)


def test_our_reader_finds_the_same_volumes_in_the_parts_of_the_split(brats, tmp_path):
    found = exported(brats, tmp_path / "out")
    assert found.raw == tmp_path / "out/nnUNet_raw/Dataset501_my-run-1"
    split = split_cases(brats, 0).domains["demo"]
    training, test = find_cases(found.raw), find_cases(found.raw / "imagesTs")
    assert {case.layout for case in training} == {"nnunet"}
    assert {case.patient for case in training} == {*split.train, *split.val}
    assert {case.patient for case in test} == set(split.test)
    assert_same_volumes([*training, *test], brats)


def test_what_nnunet_reads(brats, tmp_path):
    found = exported(brats, tmp_path / "out")
    assert json.loads((found.raw / "dataset.json").read_text()) == {
        "channel_names": {"0": "T1", "1": "T1Gd", "2": "T2", "3": "FLAIR"},
        "labels": {"background": 0, "edema": 1, "non-enhancing": 2, "enhancing": 3},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    assert found.splits == tmp_path / "out/nnUNet_preprocessed/Dataset501_my-run-1/splits_final.json"
    split = split_cases(brats, 0).domains["demo"]
    assert json.loads(found.splits.read_text()) == [{"train": list(split.train), "val": list(split.val)}]
    labels = [np.unique(nib.load(path).dataobj).tolist() for path in found.raw.glob("labels*/*.nii.gz")]
    assert labels == [[0, 1, 2, 3]] * PATIENTS
    assert sorted(path.name for path in found.raw.parent.iterdir()) == ["Dataset501_my-run-1"]


def test_compressed_3d_files_are_linked(brats, tmp_path):
    found = exported(brats, tmp_path / "out")
    for case in brats:
        for number, modality in enumerate(MODALITIES):
            (path,) = found.raw.glob(f"images*/{case.id}_{number:04d}.nii.gz")
            assert os.path.samefile(path, case.images[modality].path)


def test_without_hard_links_files_are_copied(brats, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    found = exported(brats, tmp_path / "out")
    path = next(found.raw.glob("imagesTr/*.nii.gz"))
    assert path.stat().st_nlink == 1
    assert_same_volumes(find_cases(found.raw), brats)


def test_channels_of_4d_files_are_split(tmp_path):
    cases = find_cases(save_msd(tmp_path / "msd", {f"BRATS_00{n}": example(n) for n in range(PATIENTS)}), "demo")
    found = exported(cases, tmp_path / "out")
    assert_same_volumes([*find_cases(found.raw), *find_cases(found.raw / "imagesTs")], cases)
    path = next(found.raw.glob("imagesTr/*_0000.nii.gz"))
    assert nib.load(path).ndim == 3
    assert nib.load(path).get_data_dtype() == np.int16


def test_files_on_other_axes_are_turned_to_those_of_t1(brats, tmp_path):
    scan = example(1)
    case = next(case for case in brats if case.id == "BraTS2021_1")
    save(case.images["flair"].path, scan.images["flair"], orientation="RAS")
    save(case.label, np.array([0, 2, 1, 4], np.uint8)[scan.label], orientation="ARI")
    found = exported(brats, tmp_path / "out")
    assert_same_volumes([*find_cases(found.raw), *find_cases(found.raw / "imagesTs")], brats)
    first = nib.load(case.images["t1"].path)
    for path in found.raw.glob("*/BraTS2021_1*"):
        assert nib.load(path).shape == first.shape
        assert np.allclose(nib.load(path).affine, first.affine)


def test_a_modality_that_no_case_has_is_no_channel(brats, tmp_path):
    for case in brats:
        case.images["t1"].path.unlink()
    cases = find_cases(tmp_path / "data", "demo")
    found = exported(cases, tmp_path / "out")
    described = json.loads((found.raw / "dataset.json").read_text())["channel_names"]
    assert described == {"0": "T1Gd", "1": "T2", "2": "FLAIR"}
    assert_same_volumes([*find_cases(found.raw), *find_cases(found.raw / "imagesTs")], cases)


def test_cases_that_lack_what_others_have_are_refused(brats, tmp_path):
    brats[1].images["t1"].path.unlink()
    with pytest.raises(UserError, match=r"case BraTS2021_1: no t1, which other cases have"):
        exported(find_cases(tmp_path / "data", "demo"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_refusals_leave_nothing_behind(brats, tmp_path):
    splits, out = split_cases(brats, 0), tmp_path / "out"
    twice = [*brats, replace(brats[0], domain="other")]
    both = Splits(0, None, {"demo": splits.domains["demo"], "other": Split((brats[0].patient,), (), ())})
    with pytest.raises(UserError, match="case BraTS2021_0: in demo and in other"):
        export_nnunet(twice, both, out, "run")
    with pytest.raises(UserError, match="no labelled case is of the train part"):
        export_nnunet([], splits, out, "run")
    with pytest.raises(UserError, match="--number 1000: expected 1 to 999"):
        export_nnunet(brats, splits, out, "run", 1000)
    brats[-1].label.write_bytes(b"damaged")
    with pytest.raises(UserError, match="not a NIfTI file"):
        export_nnunet(brats, splits, out, "run")
    assert not list(out.glob("*/*"))


def test_an_export_is_not_overwritten(brats, tmp_path):
    exported(brats, tmp_path / "out")
    with pytest.raises(UserError, match="Dataset501_my-run-1: exists already"):
        exported(brats, tmp_path / "out")
