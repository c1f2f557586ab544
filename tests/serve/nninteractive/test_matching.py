"""Uploaded arrays are found among the served scans in every orientation and type; others are refused."""

import os
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.imaging.geometry import points_to_ours, to_ours
from samjax.errors import UserError
from samjax.inference.inputs import find_inputs
from samjax.inference.loading import model_of_run
from samjax.inference.predictor import read_images
from samjax.serve.nninteractive import matching
from samjax.serve.nninteractive.matching import Matcher
from samjax.serve.nninteractive.placing import Placing, assumed_geometry
from samjax.serve.opened import OpenedCase
from tests.data.trees import example, save_brats, save_msd
from tests.serve.nninteractive.served import CASES, SHAPE, scan_of, write_cases, write_model

FIRST, SECOND = CASES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("cases"))


@pytest.fixture
def matcher(folder: Path) -> Matcher:
    return Matcher(find_inputs([folder], None, None)[0])


def stored(folder: Path, case: str, name: str = "t2f") -> np.ndarray:
    """A file's array as nibabel has it, in the file's own type."""
    return np.asanyarray(nib.load(folder / case / f"{case}-{name}.nii.gz").dataobj)


ORIENTATIONS = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]


@pytest.mark.parametrize("case", [FIRST, SECOND])
def test_all_48_orientations_are_found(folder: Path, matcher: Matcher, case: str):
    scan = scan_of(list(CASES).index(case)).images["flair"]
    assert len(ORIENTATIONS) == 48
    for axes, signs in ORIENTATIONS:
        array = stored(folder, case).transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
        found, geometry = matcher.find(array)
        assert found.id == case
        np.testing.assert_array_equal(to_ours(array, geometry), scan)
        place = np.array([3, 4, 5])
        assert array[tuple(place)] == scan[tuple(points_to_ours(place, geometry))]


def test_the_geometry_puts_voxels_where_the_file_has_them(folder: Path, matcher: Matcher):
    image = nib.load(folder / SECOND / f"{SECOND}-t1c.nii.gz")
    array = np.asanyarray(image.dataobj).transpose(2, 0, 1)[:, ::-1]
    _, geometry = matcher.find(array)
    i, j, k = 3, 4, 2
    there = np.array(geometry.affine) @ [k, array.shape[1] - 1 - i, j, 1]
    np.testing.assert_allclose(there, image.affine @ [i, j, k, 1])
    assert geometry.spacing == pytest.approx((3, 1, 1))


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "int64", "float32", "float64", ">i2"])
def test_clients_may_have_converted_the_type(folder: Path, matcher: Matcher, dtype: str):
    assert matcher.find(stored(folder, FIRST, "t1n").astype(dtype))[0].id == FIRST


def test_every_modality_is_found(folder: Path, matcher: Matcher):
    for name in ("t1n", "t1c", "t2w", "t2f"):
        assert matcher.find(stored(folder, SECOND, name))[0].id == SECOND


def test_one_other_voxel_is_another_scan(folder: Path, matcher: Matcher):
    array = stored(folder, FIRST).copy()
    array[5, 6, 3] += 1
    with pytest.raises(UserError, match=r"none of the scans .* \(8, of which 8 have this size .*folder that holds"):
        matcher.find(array)
    swapped = stored(folder, FIRST).copy()  # same sums over some planes, same extremes
    swapped[5, 6, 3], swapped[6, 6, 3] = swapped[6, 6, 3], swapped[5, 6, 3]
    with pytest.raises(UserError, match="none of the scans"):
        matcher.find(swapped)


def test_a_scan_of_equal_sums_is_told_apart_by_its_voxels(folder: Path, matcher: Matcher):
    array = stored(folder, FIRST).astype(np.int32)
    array[np.ix_([5, 6], [6, 7], [3])] += np.array([[1, -1], [-1, 1]])[..., None]
    array[np.ix_([5, 6], [6, 7], [4])] -= np.array([[1, -1], [-1, 1]])[..., None]
    with pytest.raises(UserError, match="none of the scans"):
        matcher.find(array)


def test_other_shapes_are_told_by_the_headers_alone(folder: Path, matcher: Matcher, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(matching, "read_scan", None)
    with pytest.raises(UserError, match="of which 0 have this size"):
        matcher.find(np.ones((4, 5, 6), np.int16))


def test_files_are_summarised_once_and_again_when_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_cases(tmp_path)
    matcher = Matcher(find_inputs([folder], None, None)[0])
    read, reads = matching.read_scan, []
    monkeypatch.setattr(matching, "read_scan", lambda *about: reads.append(about) or read(*about))
    array = stored(folder, SECOND)
    for expected in (8 + 1, 1, 1):  # all files, and the equal one to compare; then the equal one alone
        reads.clear()
        matcher.find(array)
        assert len(reads) == expected
    path = folder / SECOND / f"{SECOND}-t2f.nii.gz"
    save_brats(folder / SECOND, SECOND, example(9, SHAPE), None)
    os.utime(path, ns=(1, 1))
    with pytest.raises(UserError, match="none of the scans"):
        matcher.find(array)
    assert matcher.find(stored(folder, SECOND))[0].id == SECOND


def test_scaled_files_are_compared_by_their_values(tmp_path: Path):
    path = save_brats(tmp_path / FIRST, FIRST, scan_of(0), None) / f"{FIRST}-t2f.nii.gz"
    image = nib.load(path)
    scaled = nib.Nifti1Image(image.get_fdata() * 0.37 - 5, image.affine)
    scaled.set_data_dtype(np.int16)
    nib.save(scaled, path)
    matcher = Matcher(find_inputs([tmp_path], None, None)[0])
    assert nib.load(path).header.get_slope_inter()[0] != 1
    values = nib.load(path).get_fdata()
    for dtype in (np.float64, np.float32):
        assert matcher.find(values.astype(dtype).transpose(2, 1, 0))[0].id == FIRST
    with pytest.raises(UserError, match="none of the scans"):
        matcher.find(np.asanyarray(nib.load(path).dataobj.get_unscaled()))
    values[5, 6, 3] += 0.1
    with pytest.raises(UserError, match="none of the scans"):
        matcher.find(values)


def test_half_precision_is_found_within_its_rounding(folder: Path, matcher: Matcher):
    assert matcher.find(stored(folder, FIRST).astype(np.float16))[0].id == FIRST


def test_a_symmetrical_image_is_refused(tmp_path: Path):
    scan = scan_of(0)
    half = scan.images["t2"][:, :, :16]
    scan.images["t2"][:] = np.concatenate([half, half[:, :, ::-1]], axis=2)
    save_brats(tmp_path / FIRST, FIRST, scan, None)
    matcher = Matcher(find_inputs([tmp_path], None, None)[0])
    with pytest.raises(UserError, match=r"in 2 orientations.*open another modality"):
        matcher.find(stored(tmp_path, FIRST, "t2w"))
    assert matcher.find(stored(tmp_path, FIRST, "t2f"))[0].id == FIRST


def test_channels_of_4d_files_are_found(tmp_path: Path):
    save_msd(tmp_path, {"BRATS_001": scan_of(0), "BRATS_002": scan_of(1)})
    matcher = Matcher(find_inputs([tmp_path], None, None)[0])
    match = matcher.find(scan_of(1).images["t1gd"][::-1])
    assert match.case.id.endswith("BRATS_002")


def test_a_damaged_case_does_not_keep_others_from_being_found(tmp_path: Path):
    folder = write_cases(tmp_path)
    matcher = Matcher(find_inputs([folder], None, None)[0])
    array = stored(folder, SECOND)
    (folder / FIRST / f"{FIRST}-t1n.nii.gz").unlink()
    (folder / FIRST / f"{FIRST}-t2w.nii.gz").write_bytes(b"damaged")
    assert matcher.find(array)[0].id == SECOND


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("single"), strategy="lora", channels="flair,flair,flair")


def placing_of(run: Path, folder: Path) -> Placing:
    model = model_of_run(run)
    cases = find_inputs([folder], None, None)[0]
    by_id = {case.id: case for case in cases}
    return Placing(model, Matcher(cases), lambda id_: OpenedCase.from_files(model, by_id[id_]))


def test_a_model_of_one_modality_takes_an_array_alone(single: Path, folder: Path):
    placing = placing_of(single, folder)
    scan = example(7, SHAPE).images["flair"]
    placed = placing(scan[None].astype(np.float32), {"spacing": [3.0, 1.0, 1.0]})
    assert placed.case.modalities == ("flair",)
    assert placed.case.spacing == (3.0, 1.0, 1.0)
    assert placed.point((1, 2, 3)) == (1, 2, 3)
    assert np.corrcoef(placed.case.images[..., 3].ravel(), scan.ravel())[0, 1] > 0.99
    with pytest.raises(UserError, match="spacing None"):
        placing(scan[None], None)
    with pytest.raises(UserError, match="sides of at most 1024 voxels"):
        placing(np.arange(1025, dtype=np.uint16).reshape(1, 1, 1, 1025), {"spacing": [3.0, 1.0, 1.0]})
    served = placing(stored(folder, FIRST)[None], None)
    assert served.case.case.id == FIRST


def test_a_model_of_one_modality_does_not_guess_at_a_symmetrical_scan(single: Path, tmp_path: Path):
    scan = scan_of(0)
    half = scan.images["flair"][:, :, :16]
    scan.images["flair"][:] = np.concatenate([half, half[:, :, ::-1]], axis=2)
    save_brats(tmp_path / FIRST, FIRST, scan, None)
    with pytest.raises(UserError, match="in 2 orientations"):
        placing_of(single, tmp_path)(stored(tmp_path, FIRST)[None], {"spacing": [1, 1, 3]})


def test_a_model_of_four_modalities_does_not(tmp_path: Path, folder: Path):
    placing = placing_of(write_model(tmp_path), folder)
    with pytest.raises(UserError, match="none of the scans"):
        placing(example(7, SHAPE).images["flair"][None], {"spacing": [3.0, 1.0, 1.0]})
    images, _ = read_images(placing._matcher._cases[1])
    placed = placing(stored(folder, SECOND)[None], {})
    np.testing.assert_array_equal(placed.case.images, images)


@pytest.mark.parametrize(
    ("spacing", "axes"),
    [((3, 1, 1), (0, 1, 2)), ((1, 1, 3), (2, 1, 0)), ((1, 3, 1), (1, 0, 2)), ((1, 1, 1), (0, 1, 2))],
)
def test_slices_of_an_unknown_array_lie_along_its_longest_voxels(spacing: tuple, axes: tuple):
    geometry = assumed_geometry((4, 5, 6), spacing)
    assert geometry.axes == axes
    assert geometry.reversed == (False, False, False)


def test_images_that_are_none_are_refused(single: Path, folder: Path):
    placing = placing_of(single, folder)
    scan = stored(folder, FIRST).astype(np.float32)
    with pytest.raises(UserError, match="one channel"):
        placing(np.stack([scan, scan]), {})
    for value in (np.nan, -np.inf, 1e39):
        scan = scan.astype(np.float64)
        scan[0, 0, 0] = value
        with pytest.raises(UserError, match="NaN, infinite or beyond"):
            placing(scan[None], {})
    with pytest.raises(UserError, match="every voxel is 0"):
        placing(np.zeros((1, 4, 5, 6), bool), {"spacing": [1, 1, 1]})


@pytest.mark.skipif("SAMJAX_REAL_DATA" not in os.environ, reason="SAMJAX_REAL_DATA is not set")
def test_real_scans_are_found_as_viewers_read_them():
    sitk = pytest.importorskip("SimpleITK")
    cases = find_inputs([Path(os.environ["SAMJAX_REAL_DATA"]) / "brats18"], None, None)[0]
    matcher = Matcher(cases)
    for case in cases[:4]:
        for source in case.images.values():
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(source.path)))
            assert matcher.find(array).case is case
            assert matcher.find(nib.load(source.path).get_fdata(dtype=np.float32)[::-1]).case is case
