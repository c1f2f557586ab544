"""Headers that cannot be used: the file is named and its case left out, and the others go on."""

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.check import check
from samjax.data.cohort import list_cases, prepare
from samjax.data.formats.layouts import find_cases
from samjax.data.formats.nifti import read_header, read_nifti
from samjax.data.imaging.volumes import read_case
from samjax.errors import UserError
from samjax.inference.inputs import geometries_of
from tests.data.trees import affine_of, example, save, save_brats

BAD = 1
FIELDS = {
    "datatype": (70, "<h", 9999, "unknown datatype code 9999"),
    "NaN intercept": (116, "<f", np.nan, "slope 1 and intercept nan"),
    "infinite intercept": (116, "<f", np.inf, "slope 1 and intercept inf"),
    "NaN slope": (112, "<f", np.nan, "slope nan"),
    "infinite slope": (112, "<f", -np.inf, "slope -inf"),
    "infinite offset": (108, "<f", np.inf, "voxels start at byte inf"),
    "NaN offset": (108, "<f", np.nan, "voxels start at byte nan"),
    "offset before the header's end": (108, "<f", 4.0, "not in the same file"),
    "negative dims": (42, "<4h", (-16, -20, 9, 1), "dimensions"),
    "no dims": (40, "<h", 0, "dimensions"),
    "too many dims": (40, "<h", 9, "dimensions"),
}


def patch(path: Path, offset: int, form: str, value) -> None:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[offset : offset + struct.calcsize(form)] = struct.pack(form, *np.atleast_1d(value).tolist())
    path.write_bytes(gzip.compress(bytes(raw)))


@pytest.fixture
def cohort(tmp_path):
    for number in range(3):
        save_brats(tmp_path / "data" / f"BraTS2021_{number:05d}", f"BraTS2021_{number:05d}", example(number))
    return tmp_path / "data"


def left_out(cohort: Path, name: str, words: str, capsys: pytest.CaptureFixture) -> None:
    report = check(cohort, workers=1, progress=False)
    assert report.unusable == [f"BraTS2021_{BAD:05d}"]
    assert {problem.path.name for problem in report.problems} == {name}
    assert words in report.problems[0].message
    good = prepare(list_cases({"demo": cohort}, None, None, None), None, workers=1)
    assert [case.case.id for case in good] == ["BraTS2021_00000", "BraTS2021_00002"]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert name in line
    assert words in line


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("ending", ["t1", "seg"])
def test_a_field_that_cannot_be(cohort, field, ending, capsys):
    offset, form, value, words = FIELDS[field]
    path = cohort / f"BraTS2021_{BAD:05d}" / f"BraTS2021_{BAD:05d}_{ending}.nii.gz"
    patch(path, offset, form, value)
    left_out(cohort, path.name, words, capsys)


@pytest.mark.parametrize("ending", ["t1", "flair", "seg"])
def test_a_picture_among_volumes(cohort, ending, capsys):
    path = cohort / f"BraTS2021_{BAD:05d}" / f"BraTS2021_{BAD:05d}_{ending}.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[..., 3], image.affine), path)
    left_out(cohort, path.name, "shape 16 x 20, expected one 3-D volume", capsys)


@pytest.mark.parametrize("ending", ["t1", "flair", "seg"])
def test_several_volumes_in_the_place_of_one(cohort, ending, capsys):
    path = cohort / f"BraTS2021_{BAD:05d}" / f"BraTS2021_{BAD:05d}_{ending}.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.stack([np.asanyarray(image.dataobj)] * 2, -1), image.affine), path)
    words = "shape 16 x 20 x 9 x 2, expected one 3-D volume; split it into one 3-D file for each image"
    left_out(cohort, path.name, words, capsys)


@pytest.mark.parametrize("ending", ["t2", "flair", "seg"])
@pytest.mark.parametrize(
    ("stored", "change", "words"),
    [
        (slice(None), (2, 0.0), "its affine puts the voxels elsewhere"),
        (slice(None), (1, 3.0), "its affine puts the voxels elsewhere"),
        (slice(None, None, 2), (1, 0.0), "8 x 20 x 9 voxels where"),
    ],
    ids=["spacing", "place", "shape"],
)
def test_files_without_a_common_grid(cohort, ending, stored, change, words, capsys):
    path = cohort / f"BraTS2021_{BAD:05d}" / f"BraTS2021_{BAD:05d}_{ending}.nii.gz"
    image = nib.load(path)
    affine = image.affine * [change[0], 1, 1, 1]
    affine[0, 3] += change[1]
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[stored], affine), path)
    left_out(cohort, path.name, words, capsys)
    with pytest.raises(UserError, match=r"must share one grid \(register or resample them\)$") as caught:
        read_case(find_cases(cohort)[BAD])
    assert "\n" not in str(caught.value)


def test_prompts_are_read_for_the_others(cohort):
    path = cohort / f"BraTS2021_{BAD:05d}" / f"BraTS2021_{BAD:05d}_t1.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((16, 20), np.int16), np.eye(4)), path)
    found, reasons = geometries_of(find_cases(cohort))
    assert sorted(found) == ["BraTS2021_00000", "BraTS2021_00002"]
    assert len(reasons) == 1
    assert reasons[0].startswith(f"{path}: shape 16 x 20")


def test_numbers_that_overflow_are_refused_where_the_scan_is_used(tmp_path):
    save_brats(tmp_path, "BraTS2021_00001", example())
    patch(tmp_path / "BraTS2021_00001_t2.nii.gz", 112, "<ff", (3e38, 0.0))
    with pytest.raises(UserError, match=r"_t2.nii.gz: has NaN or infinite voxels"):
        read_case(find_cases(tmp_path)[0])


def test_a_qfac_of_zero_is_one(tmp_path):
    """As nifti1.h says of pixdim[0], in scans whose place is given by the quaternion alone."""
    affine, _ = affine_of("RAS", (4, 5, 6), turn=20.0)
    image = nib.Nifti1Image(np.arange(120, dtype=np.int16).reshape(6, 5, 4), affine)
    image.set_sform(None, 0)
    image.set_qform(affine, 1)
    path = tmp_path / "a.nii.gz"
    nib.save(image, path)
    expected = read_nifti(path).header.get_best_affine()
    assert read_header(path)["pixdim"][0] == 1
    patch(path, 76, "<f", 0.0)
    np.testing.assert_array_equal(read_nifti(path).header.get_best_affine(), expected)
    patch(path, 76, "<f", -1.0)
    assert not np.allclose(read_nifti(path).header.get_best_affine(), expected)


def test_a_slice_by_itself_is_a_volume(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.ones((1, 4, 5), np.int16))
    assert read_nifti(path).array.shape == (5, 4, 1)
