import re

import nibabel as nib
import numpy as np
import pytest

from samjax.data.check import check
from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.volumes import read_case
from samjax.data.needs import Needs
from samjax.errors import UserError
from tests.data.imaging.test_volumes import DAMAGE, broken
from tests.data.trees import example, save, save_brats, save_msd, source_label

LABEL_DAMAGE = {
    "foreign value": "label value 3 is not one of brats2021's",
    "half a value": "label value 1.5",
    "label grid": "16 x 20 x 8 voxels where",
}
# A folder in the place of a file is a missing modality.
LACKING = {"missing": r"no t1gd \(has t1, t2, flair\)", "gone": "no t2"}
FOUND = {**DAMAGE, **LABEL_DAMAGE, **LACKING}


@pytest.fixture(scope="module")
def scan():
    return example()


def test_each_planted_damage_is_found_and_the_rest_is_not_blamed(tmp_path, scan):
    expected = {}
    for number, how in enumerate(FOUND):
        case_id = f"BraTS2021_{number:05d}"
        folder = save_brats(tmp_path / case_id, case_id, scan)
        label = folder / f"{case_id}_seg.nii.gz"
        values = source_label(scan, "brats2021")
        if how in DAMAGE:
            broken(folder / f"{case_id}_t2.nii.gz", how, scan)
        elif how == "foreign value":
            save(label, np.where(values == 4, 3, values).astype(np.uint8))
        elif how == "half a value":
            save(label, np.where(values == 4, 1.5, values).astype(np.float32))
        elif how == "label grid":
            save(label, values[:-1])
        else:
            (folder / f"{case_id}_t1ce.nii.gz").unlink()
        expected[case_id] = how
    for number in range(100, 103):
        save_brats(tmp_path / "good", f"BraTS2021_{number:05d}", example(number))
    report = check(tmp_path, workers=1, progress=False)
    assert report.unusable == sorted(case for case, how in expected.items() if how not in LACKING)
    assert report.total == len(expected) + 3
    for problem in report.problems:
        how = expected[problem.case]
        wanted = FOUND[how].replace("_t1.nii.gz", "")
        assert re.search(wanted, problem.message), (how, problem.message)
        assert problem.unusable == (how not in LACKING)
        assert "\n" not in problem.message


def test_all_damages_of_one_case_are_listed(tmp_path, scan):
    case_id = "BraTS2021_00001"
    save_brats(tmp_path, case_id, scan)
    broken(tmp_path / f"{case_id}_t1ce.nii.gz", "truncated", scan)
    broken(tmp_path / f"{case_id}_t2.nii.gz", "shape", scan)
    save(tmp_path / f"{case_id}_seg.nii.gz", source_label(scan, "brats2021") + 10)
    report = check(tmp_path, workers=1, progress=False)
    assert [problem.path.name for problem in report.problems] == [
        f"{case_id}_{name}.nii.gz" for name in ("seg", "t1ce", "t2")
    ]


def test_a_modality_is_needed_only_where_a_model_looks_at_it(tmp_path, scan):
    save_brats(tmp_path, "BraTS2021_00001", scan)
    (tmp_path / "BraTS2021_00001_t1.nii.gz").unlink()
    looks = [Needs("a", ("flair", "t1gd", "t2")), Needs("b", ("t1", "t2"), dropout=True)]
    assert check(tmp_path, workers=1, progress=False, needs=looks).unusable == []
    report = check(tmp_path, workers=1, progress=False, needs=[*looks, Needs("c", ("t1", "t2", "flair"))])
    assert report.unusable == ["BraTS2021_00001"]
    (problem,) = report.problems
    assert "no t1 (has t1gd, t2, flair), which c looks at" in problem.message


def test_the_odd_one_out_is_named(tmp_path, scan):
    """Not the four that agree, though the odd one comes first."""
    case_id = "BraTS2021_00001"
    save_brats(tmp_path, case_id, scan)
    save(tmp_path / f"{case_id}_t1.nii.gz", scan.images["t1"], spacing=(1.0, 2.0, 1.0))
    report = check(tmp_path, workers=1, progress=False)
    assert [problem.path.name for problem in report.problems] == [f"{case_id}_t1.nii.gz"]


def test_doubts_do_not_make_a_case_unusable(tmp_path, scan):
    case_id = "BraTS2021_00001"
    save_brats(tmp_path, case_id, scan)
    save(tmp_path / f"{case_id}_seg.nii.gz", np.zeros_like(scan.label))
    for path in tmp_path.iterdir():
        image = nib.load(path)
        image.set_qform(None, 0)
        image.set_sform(None, 0)
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), path)
    report = check(tmp_path, workers=1, progress=False)
    messages = " ".join(problem.message for problem in report.problems if not problem.unusable)
    assert report.unusable == []
    assert "4 of 4 headers give no orientation" in messages
    assert "no tumour" in messages


def test_a_4d_file_is_checked_channel_by_channel(tmp_path, scan):
    root = save_msd(tmp_path, {"BRATS_001": scan, "BRATS_002": scan})
    images = np.stack([scan.images[name] for name in ("flair", "t1", "t1gd", "t2")], -1)
    images[..., 2] = 0
    save(root / "imagesTr" / "BRATS_002.nii.gz", images)
    report = check(root, workers=1, progress=False)
    assert [problem.message[:28] for problem in report.problems] == ["(channel 2): empty, every vo"]
    with pytest.raises(UserError, match=r"BRATS_002.nii.gz \(channel 2\): empty"):
        read_case(find_cases(root)[1])
    path = root / "imagesTr" / "BRATS_001.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])
    report = check(root, workers=1, progress=False)
    assert [problem.case for problem in report.problems] == ["BRATS_001", "BRATS_002"]
