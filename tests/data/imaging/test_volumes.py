import gzip

import nibabel as nib
import numpy as np
import pytest

from samjax.data.formats.layouts import find_cases
from samjax.data.formats.nifti import read_nifti
from samjax.data.imaging.geometry import geometry_of, points_to_ours, points_to_source, same_grid, to_ours, to_source
from samjax.data.imaging.normalise import PERCENTILES
from samjax.data.imaging.volumes import read_case, write_labels
from samjax.errors import UserError
from tests.data.trees import MODALITIES, affine_of, example, save, save_brats, source_label

ID = "BraTS2021_00001"
ORIENTATIONS = ["LPS", "RAS", "SPL", "ARI", "PIR", "SRA"]


@pytest.fixture(scope="module")
def scan():
    return example()


def case_in(folder):
    (case,) = find_cases(folder)
    return case


def whole(volume):
    """Images and labels of the whole volume."""
    images = np.zeros((*volume.geometry.shape, 4), np.uint8)
    labels = np.zeros(volume.geometry.shape, np.uint8)
    images[volume.box.index], labels[volume.box.index] = volume.images, volume.labels
    return images, labels


def by_definition(image):
    """The normalisation as the method states it, in float64."""
    inside = image != 0
    low, high = np.percentile(image[inside], PERCENTILES)
    scaled = (np.clip(image.astype(float), low, high) - low) / (high - low) * 255
    return np.where(inside, np.rint(scaled), 0).astype(np.uint8)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("turn", [0.0, 25.0])
def test_any_orientation_gives_the_same_picture(tmp_path, scan, orientation, turn):
    spacing = (3.0, 0.5, 0.8)
    save_brats(tmp_path, ID, scan, orientation=orientation, turn=turn, spacing=spacing)
    volume = read_case(case_in(tmp_path))
    images, labels = whole(volume)
    np.testing.assert_array_equal(labels, scan.label)
    for channel, modality in enumerate(MODALITIES):
        np.testing.assert_array_equal(images[..., channel], by_definition(scan.images[modality]))
    np.testing.assert_allclose(volume.geometry.spacing, spacing)
    assert volume.geometry.shape == scan.label.shape


def test_superior_posterior_and_left_are_the_ends_of_the_axes(tmp_path):
    """By the affine alone: the last voxel along each of our axes is farthest S, P and L."""
    affine, change = affine_of("PIR", (9, 20, 16), turn=20.0)
    stored = nib.orientations.apply_orientation(np.zeros((9, 20, 16)), change)
    geometry = geometry_of(stored.shape, affine, "x")
    first, *ends = (geometry.oriented_affine @ [*where, 1] for where in [(0, 0, 0), *np.diag([8, 19, 15])])
    assert (ends[0] - first)[2] > 7  # superior
    assert (ends[1] - first)[1] < -15  # posterior
    assert (ends[2] - first)[0] < -12  # left


def test_cropping_keeps_all_and_counts_cover_every_slice(tmp_path, scan):
    volume = read_case(case_in(save_brats(tmp_path, ID, scan)))
    assert volume.box.start == (1, 2, 4)
    assert volume.box.stop == (8, 17, 15)
    assert volume.counts.dtype == np.int32
    expected = [np.bincount(plane.ravel(), minlength=4) for plane in scan.label]
    np.testing.assert_array_equal(volume.counts, expected)


def test_a_label_outside_the_brain_is_kept(tmp_path, scan):
    label = source_label(scan, "brats2021")
    label[0, 0, 0] = 4
    save_brats(tmp_path, ID, scan)
    save(tmp_path / f"{ID}_seg.nii.gz", label)
    assert whole(read_case(case_in(tmp_path)))[1][0, 0, 0] == 3


def test_no_margin_of_background(tmp_path, scan):
    air = np.random.default_rng(7).integers(1, 9, scan.label.shape).astype(np.int16)
    images = {modality: np.where(image == 0, air, image) for modality, image in scan.images.items()}
    save_brats(tmp_path, ID, type(scan)(images, scan.label))
    volume = read_case(case_in(tmp_path))
    assert volume.box.shape == scan.label.shape
    np.testing.assert_array_equal(volume.images[..., 0], by_definition(images["t1"]))


def test_a_truncated_field_of_view(tmp_path, scan):
    """The head is cut off at the top and at one side: nothing is lost or moved."""
    cut = type(scan)({m: image[:5, :, 8:] for m, image in scan.images.items()}, scan.label[:5, :, 8:])
    save_brats(tmp_path, ID, cut)
    images, labels = whole(read_case(case_in(tmp_path)))
    np.testing.assert_array_equal(labels, cut.label)
    np.testing.assert_array_equal(images[..., 3], by_definition(cut.images["flair"]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2"])
def test_the_stored_type_does_not_matter(tmp_path, scan, dtype):
    small = type(scan)({m: (image // 8).astype(np.int16) for m, image in scan.images.items()}, scan.label)
    save_brats(tmp_path, ID, small, dtype=np.dtype(dtype))
    images, labels = whole(read_case(case_in(tmp_path)))
    np.testing.assert_array_equal(labels, scan.label)
    np.testing.assert_array_equal(images[..., 1], by_definition(small.images["t1gd"]))


def test_wide_integers_go_another_way_to_the_same_result(tmp_path, scan):
    wide = {m: image.astype(np.int32) * 100_000 for m, image in scan.images.items()}
    save_brats(tmp_path, ID, type(scan)(wide, scan.label))
    save(tmp_path / f"{ID}_seg.nii.gz", source_label(scan, "brats2021"))
    images, _ = whole(read_case(case_in(tmp_path)))
    difference = images[..., 2].astype(int) - by_definition(scan.images["t2"])
    assert np.abs(difference).max() <= 1  # where both round a half
    assert np.count_nonzero(difference) < 10


def set_header(path, offset, values):
    """Overwrites header fields in place; nibabel would tidy them up on saving."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[offset : offset + 4 * len(values)] = np.array(values, "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))


SLOPE, WINDOW = 112, 124  # where scl_slope, scl_inter and cal_max, cal_min lie in the header


def test_slope_and_intercept_are_respected(tmp_path, scan):
    save_brats(tmp_path, ID, scan)
    path = save(tmp_path / f"{ID}_seg.nii.gz", source_label(scan, "brats2021").astype(np.int16) * 2 + 6)
    set_header(path, SLOPE, [0.5, -3])
    assert nib.load(path).get_fdata().max() == 4
    np.testing.assert_array_equal(whole(read_case(case_in(tmp_path)))[1], scan.label)


@pytest.mark.parametrize("dtype", [np.int16, np.float64])
def test_negative_intensities_around_a_zero_background(tmp_path, scan, dtype):
    images = {m: np.where(image > 0, image - 400, 0).astype(dtype) for m, image in scan.images.items()}
    save_brats(tmp_path, ID, type(scan)(images, scan.label))
    found, _ = whole(read_case(case_in(tmp_path)))
    np.testing.assert_array_equal(found[..., 0], by_definition(images["t1"]))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_negative_background_is_background_too(tmp_path, scan, dtype):
    """As z-scoring the whole volume makes it: the picture is that of the unshifted scan."""
    images = {m: (image - 300).astype(dtype) for m, image in scan.images.items()}
    save_brats(tmp_path, ID, type(scan)(images, scan.label))
    volume = read_case(case_in(tmp_path))
    assert volume.box.start == (1, 2, 4)
    difference = whole(volume)[0][..., 0].astype(int) - by_definition(scan.images["t1"])
    assert np.abs(difference).max() <= (1 if dtype is np.float32 else 0)


def test_a_few_bright_voxels_do_not_darken_the_rest(tmp_path):
    scan = example(shape=(12, 40, 40))
    scan.images["flair"][5, 10, 10] = 32767
    save_brats(tmp_path, ID, scan)
    found, _ = whole(read_case(case_in(tmp_path)))
    assert found[..., 3][scan.images["flair"] > 0].mean() > 110


def broken(path, how, scan):
    image = scan.images["t2"].astype(np.float32)
    if how == "nan":
        image[4, 5, 6] = np.nan
    elif how == "inf":
        image[4, 5, 6] = np.inf
    elif how == "empty":
        image[:] = 0
    elif how == "constant":
        image[image > 0] = 7
    elif how == "all one value":
        image[:] = 7
    elif how == "shape":
        image = image[:, :-1]
    if how == "affine":
        save(path, image, spacing=(1.0, 1.0, 1.2))
    elif how == "shifted":
        save(path, image)
        stored = nib.load(path)
        affine = stored.affine.copy()
        affine[0, 3] += 1
        nib.save(nib.Nifti1Image(np.asanyarray(stored.dataobj), affine), path)
    else:
        save(path, image)
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "last byte":
        path.write_bytes(data[:-1])
    elif how == "checksum":
        path.write_bytes(data[:-8] + b"\0\0\0\0" + data[-4:])
    elif how == "flipped bit":
        path.write_bytes(data[:2000] + bytes([data[2000] ^ 16]) + data[2001:])
    elif how == "not nifti":
        path.write_bytes(gzip.compress(b"hello" * 200))
    elif how == "nothing":
        path.write_bytes(b"")
    elif how == "short inside":
        path.write_bytes(gzip.compress(gzip.decompress(data)[:-10]))
    elif how == "affine zero":
        raw = bytearray(gzip.decompress(data))
        raw[280:328] = bytes(48)
        path.write_bytes(gzip.compress(bytes(raw)))
    elif how == "complex":
        nib.save(nib.Nifti1Image(image.astype(np.complex64), nib.load(path).affine), path)
    elif how == "gone":
        path.unlink()
        path.mkdir()
    return path


DAMAGE = {
    "nan": "NaN or infinite",
    "inf": "NaN or infinite",
    "empty": "empty, every voxel is 0",
    "constant": "constant, all of the brain is 7",
    "all one value": "constant",
    "shape": "16 x 19 x 9 voxels where .*_t1.nii.gz has 16 x 20 x 9",
    "affine": "its affine puts the voxels elsewhere than .*_t1.nii.gz's",
    "shifted": "its affine puts the voxels elsewhere",
    "truncated": "ends early",
    "last byte": "ends early",
    "checksum": "damaged gzip",
    "flipped bit": "damaged gzip|ends early|truncated",
    "not nifti": "not a NIfTI",
    "nothing": "not a NIfTI",
    "short inside": "truncated, .* bytes where",
    "affine zero": "no place in space",
    "complex": "complex64, expected real",
    "gone": "cannot be read",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_refused_in_one_line_that_names_the_file(tmp_path, scan, how):
    case = case_in(save_brats(tmp_path, ID, scan))
    path = broken(case.images["t2"].path, how, scan)
    with pytest.raises(UserError, match=DAMAGE[how]) as caught:
        read_case(case)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_foreign_label_value_names_file_and_value(tmp_path, scan):
    save_brats(tmp_path, ID, scan, scheme="brats2023")
    with pytest.raises(UserError, match=rf"{ID}_seg.nii.gz: label value 3"):
        read_case(case_in(tmp_path))


def test_a_label_on_another_grid_is_refused(tmp_path, scan):
    save_brats(tmp_path, ID, scan)
    save(tmp_path / f"{ID}_seg.nii.gz", source_label(scan, "brats2021"), spacing=(1.0, 1.0, 1.1))
    with pytest.raises(UserError, match=rf"{ID}_seg.nii.gz: its affine"):
        read_case(case_in(tmp_path))


def test_rounded_affines_and_a_label_stored_along_other_axes_are_no_damage(tmp_path, scan):
    save_brats(tmp_path, ID, scan, turn=10.0)
    path = tmp_path / f"{ID}_t2.nii.gz"
    stored = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(stored.dataobj), stored.affine.round(3)), path)
    save(tmp_path / f"{ID}_seg.nii.gz", source_label(scan, "brats2021"), orientation="RIA", turn=10.0)
    np.testing.assert_array_equal(whole(read_case(case_in(tmp_path)))[1], scan.label)


def test_plain_files_multi_part_gzip_and_a_fourth_axis_of_one(tmp_path, scan):
    """Uncompressed in spite of the name; written in blocks, as bgzip does; (i, j, k, 1)."""
    case = case_in(save_brats(tmp_path, ID, scan))
    expected = read_case(case)
    plain = case.images["t1"].path
    plain.write_bytes(gzip.decompress(plain.read_bytes()))
    blocks = case.images["t2"].path
    raw = gzip.decompress(blocks.read_bytes())
    blocks.write_bytes(b"".join(gzip.compress(raw[start : start + 1000]) for start in range(0, len(raw), 1000)))
    fourth = case.images["flair"].path
    stored = nib.load(fourth)
    nib.save(nib.Nifti1Image(np.asanyarray(stored.dataobj)[..., None], stored.affine), fourth)
    np.testing.assert_array_equal(read_case(case).images, expected.images)


def test_nifti_2(tmp_path, scan):
    case = case_in(save_brats(tmp_path, ID, scan))
    expected = read_case(case)
    for path in case.files:
        stored = nib.load(path)
        nib.save(nib.Nifti2Image(np.asanyarray(stored.dataobj), stored.affine), path)
    np.testing.assert_array_equal(read_case(case).images, expected.images)
    write_labels(tmp_path / "out.nii.gz", scan.label, case, expected.geometry)
    assert isinstance(nib.load(tmp_path / "out.nii.gz"), nib.Nifti2Image)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("turn", [0.0, 25.0])
def test_what_is_written_lies_on_the_source(tmp_path, scan, orientation, turn):
    case = case_in(save_brats(tmp_path, ID, scan, orientation=orientation, turn=turn, spacing=(2.0, 1.0, 0.7)))
    geometry = read_case(case).geometry
    write_labels(tmp_path / "out" / "a.nii.gz", source_label(scan, "brats2021"), case, geometry)
    written, label, image = (
        nib.load(path) for path in (tmp_path / "out" / "a.nii.gz", case.label, case.images["t1"].path)
    )
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), np.asanyarray(label.dataobj))
    np.testing.assert_array_equal(written.affine, image.affine)
    for field in ("qform_code", "sform_code", "xyzt_units", "pixdim", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(written.header[field], image.header[field])
    assert written.get_data_dtype() == np.uint8


@pytest.mark.parametrize(("stored", "expected"), [(np.int16, np.int16), (np.float32, np.uint8), (None, np.uint8)])
def test_the_labels_own_type_is_written(tmp_path, scan, stored, expected):
    save_brats(tmp_path, ID, scan, scheme=None)
    if stored is not None:
        save(tmp_path / f"{ID}_seg.nii.gz", source_label(scan, "brats2021"), dtype=stored)
    case = case_in(tmp_path)
    write_labels(tmp_path / "out.nii", source_label(scan, "brats2021"), case, read_case(case).geometry)
    written = nib.load(tmp_path / "out.nii")
    assert written.get_data_dtype() == expected
    assert written.get_fdata().max() == 4
    assert written.header["cal_max"] == 0
    assert [*written.header.get_slope_inter()] in ([1, 0], [None, None])


def test_the_scans_own_scaling_and_window_do_not_reach_the_labels(tmp_path, scan):
    case = case_in(save_brats(tmp_path, ID, scan))
    set_header(case.images["t1"].path, SLOPE, [0.25, 5])
    set_header(case.images["t1"].path, WINDOW, [900, 10])
    write_labels(tmp_path / "out.nii.gz", source_label(scan, "brats2021"), case, read_case(case).geometry)
    written = nib.load(tmp_path / "out.nii.gz")
    assert written.get_fdata().max() == 4
    assert written.header["cal_max"] == 0


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_voxel_indices_go_both_ways(orientation):
    shape = (9, 20, 16)
    affine, change = affine_of(orientation, shape)
    ours = np.arange(np.prod(shape)).reshape(shape)
    source = nib.orientations.apply_orientation(ours, change)
    geometry = geometry_of(source.shape, affine, "x")
    np.testing.assert_array_equal(to_ours(source, geometry), ours)
    np.testing.assert_array_equal(to_source(ours, geometry), source)
    points = np.array([[0, 0, 0], [1, 2, 3], [5, 4, 6]])
    mapped = points_to_ours(points, geometry)
    np.testing.assert_array_equal(ours[tuple(mapped.T)], source[tuple(points.T)])
    np.testing.assert_array_equal(points_to_source(mapped, geometry), points)
    halves = points_to_source(points_to_ours(points + 0.5, geometry), geometry)
    np.testing.assert_array_equal(halves, points + 0.5)


def test_grids_are_compared_at_their_corners():
    """A turn too small to see in the matrix moves the far corner by millimetres."""
    shape = (155, 240, 240)
    first, second = (geometry_of((240, 240, 155), affine_of("LPS", shape, turn=turn)[0], "x") for turn in (0, 0.01))
    assert same_grid(first, second)
    third = geometry_of((240, 240, 155), affine_of("LPS", shape, turn=0.1)[0], "x")
    assert not same_grid(first, third)


def test_reading_does_not_change_the_file_order(tmp_path, scan):
    """Voxels come out as nibabel reads them."""
    path = save(tmp_path / "a.nii.gz", scan.images["t1"], orientation="PIR", spacing=(1.0, 2.0, 3.0))
    np.testing.assert_array_equal(read_nifti(path).array, np.asanyarray(nib.load(path).dataobj))
