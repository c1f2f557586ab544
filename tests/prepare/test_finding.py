"""The scans of each case by their names."""

import pytest

from samjax.errors import UserError
from samjax.prepare.finding import find_scans
from tests.data.trees import example, save_brats, save_msd


def test_cases_may_lack_modalities_and_have_any_known_names(tmp_path):
    for name in ("P1/t1.nii.gz", "P1/T2w.nii.gz", "P1/seg.nii.gz", "sub-02/anat/sub-02_ce-gd_T1w.nii.gz", "P1/dwi.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = find_scans(tmp_path)
    assert {case.id: sorted(case.images) for case in found.cases} == {"P1": ["t1", "t2"], "sub-02": ["t1gd"]}
    assert found.cases[0].missing == ["t1gd", "flair"]
    assert (found.reasons, found.labels) == ([], 1)


def test_two_files_of_one_modality_are_a_mistake(tmp_path):
    for name in ("t1.nii.gz", "T1w.nii", "t2.nii"):
        (tmp_path / name).write_bytes(b"")
    found = find_scans(tmp_path)
    assert found.cases == []
    (reason,) = found.reasons
    assert "for t1 too; keep one of them" in reason


def test_datasets_and_folders_of_brats_are_found(tmp_path):
    save_msd(tmp_path / "msd", {"BRATS_001": example()})
    (case,) = find_scans(tmp_path / "msd").cases
    assert case.images["t1gd"].channel == 2
    save_brats(tmp_path / "brats" / "A_1", "A_1", example())
    assert [case.id for case in find_scans(tmp_path / "brats").cases] == ["A_1"]


def test_what_is_no_folder_of_scans(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_scans(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match="no cases found, it holds no NIfTI files"):
        find_scans(tmp_path)
