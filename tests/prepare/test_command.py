"""`samjax prepare` from scans with skulls that lie apart, to what the other commands take."""

import re
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.cli.main import dispatch
from samjax.data.check import check
from samjax.data.formats.layouts import find_cases
from samjax.data.formats.nifti import read_nifti
from samjax.data.imaging.geometry import geometry_of, to_ours
from samjax.data.imaging.volumes import read_case
from samjax.data.synthetic.head import in_pose
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.prepare.grid import Grid
from tests.made_runs import write_base, write_run
from tests.prepare.heads import FIRST, POSES, brain_on, dice, error, head, wanted

sitk = pytest.importorskip("SimpleITK")


def written(path: Path) -> tuple[np.ndarray, Grid]:
    """A file that was written, as (slice, row, column), and its grid."""
    image = read_nifti(path)
    geometry = geometry_of(image.array.shape, image.header.get_best_affine(), path)
    return to_ours(image.array, geometry), Grid(geometry.oriented_affine, geometry.shape)


def prepare(*arguments: object) -> None:
    dispatch(["prepare", *map(str, arguments)])


def test_the_transforms_are_the_true_ones(run):
    record = run.record("P1")
    assert record["reference"] == "t1gd"
    for modality in ("t1", "t2", "flair"):
        found = np.array(record["modalities"][modality]["reference_to_source_ras_mm"])
        far, turn = error(found, wanted(modality), seed=1)
        assert far < 1, (modality, far)
        assert turn < 0.5, (modality, turn)
        assert record["modalities"][modality]["rotation_degrees"] == pytest.approx(15, abs=3)
        before, after = (record["modalities"][modality][f"mutual_information_{when}"] for when in ("before", "after"))
        assert after > 2 * before
    assert record["doubts"] == []


def test_the_transform_files_are_those_of_the_record(run):
    matrix = np.array(run.record("P1")["modalities"]["t2"]["reference_to_source_ras_mm"])
    transform = sitk.ReadTransform(str(run.output / "P1" / "P1-t2w.tfm"))
    x, y, z = transform.TransformPoint((-10.0, -20.0, 30.0))  # LPS
    assert (-x, -y, z) == pytest.approx((matrix @ [10, 20, 30, 1])[:3].tolist(), abs=1e-3)
    assert not (run.output / "P1" / "P1-t1c.tfm").exists()  # the reference stays


def test_the_brain_is_found_and_the_rest_is_background(run):
    brain, grid = written(run.output / "P1" / "P1-brain.nii.gz")
    true = brain_on(1, grid)
    assert dice(brain > 0, true) > 0.96
    assert np.count_nonzero(true & (brain == 0)) < 0.02 * np.count_nonzero(true)  # nearly nothing is cut off
    for name in ("t1n", "t1c", "t2w", "t2f"):
        image, own = written(run.output / "P1" / f"P1-{name}.nii.gz")
        assert own.same_as(grid)
        assert image.dtype == np.int16
        assert not image[brain == 0].any()
        assert np.mean(image[brain > 0] > 0) > 0.99
    assert grid.spacing == pytest.approx((4, 4, 4))
    assert grid.shape == (39, 60, 60)  # the field of view of BraTS


def test_the_modalities_lie_on_one_another(run):
    """The registered T2 is the T2 of the head in the pose of the T1-Gd."""
    image, grid = written(run.output / "P1" / "P1-t2w.nii.gz")
    true = in_pose(head(1).images["t2"], head(1).affine, grid.shape, grid.affine, FIRST)
    inside = image > 0
    assert np.corrcoef(image[inside], true[inside])[0, 1] > 0.85


def test_check_and_predict_take_what_was_prepared(run, tmp_path, capsys):
    shutil.copytree(run.output / "P1", tmp_path / "data" / "P1")
    report = check(tmp_path / "data", workers=1, progress=False)
    assert {problem.message.partition(" 4 ")[0] for problem in report.problems} <= {
        "voxel spacing in the slice",
        "slice thickness (distance between slices)",
    }
    assert (report.total, report.unusable) == (1, [])
    trained = write_run(tmp_path / "run", write_base(tmp_path / "base.safetensors"), tmp_path, prompt="none")
    arguments = ["--input", tmp_path / "data", "--output", tmp_path / "masks", "--run", trained]
    arguments += ["--cache-dir", tmp_path / "cache", "--labels", "brats2023"]
    dispatch(["predict", *map(str, arguments)])
    mask, image = (nib.load(path) for path in (tmp_path / "masks/P1.nii.gz", run.output / "P1/P1-t1n.nii.gz"))
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)


def test_what_is_said_about_each_modality(run):
    assert re.search(r"P1: reference t1gd, \d+ s\n  t1: moved 1\d\.\d mm, turned 1\d\.\d degrees; mutual ", run.printed)
    assert re.search(r"  brain: 1[67]\d\d ml\n", run.printed)
    assert "  missing: t1, flair\n" in run.printed
    assert f"prepared cases: {run.output} (2 prepared, 1 left out)" in run.printed
    assert "P3" in run.errors
    assert "not a NIfTI file" in run.errors
    assert not (run.output / "P3").exists()


def test_a_scan_of_another_head_is_doubted(run):
    (doubt,) = (doubt for doubt in run.record("P2")["doubts"] if "registered" in doubt)
    assert "t2 may be badly registered, or not of the same head" in doubt
    assert f"  warning: {doubt}\n" in run.printed


def test_the_picture_shows_each_modality_before_and_after(run):
    from PIL import Image

    with Image.open(run.output / "P1" / "P1-prepared.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    outline = (pixels[..., 0] > 200) & (pixels[..., 2] < 80) & (pixels[..., 1] > 120)
    assert outline.sum() > 2000
    with Image.open(run.output / "P2" / "P2-prepared.png") as picture:
        assert picture.width < 0.75 * pixels.shape[1]  # two columns, not four


def test_cases_that_are_there_are_kept_unless_asked_otherwise(run, capsys):
    shutil.rmtree(run.input / "P3")
    before = (run.output / "P1" / "P1-t2w.nii.gz").stat().st_mtime_ns
    prepare("--input", run.input, "--output", run.output, "--spacing", 4)
    assert "(2 there already)" in capsys.readouterr().out
    assert (run.output / "P1" / "P1-t2w.nii.gz").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="with other options; replace it with --overwrite"):
        prepare("--input", run.input, "--output", run.output, "--spacing", 5)


def test_stripped_scans_on_one_grid_stay_as_they_are(tmp_path, capsys):
    write_cohort(tmp_path / "in", "adult", 1, options=PhantomOptions((48, 48, 36)))
    case = find_cases(tmp_path / "in", read_labels=False)[0]
    for modality in ("t1", "flair"):
        case.images[modality].path.unlink()
    prepare("--input", tmp_path / "in", "--output", tmp_path / "out", "--spacing", 4)
    printed = capsys.readouterr().out
    assert "of all: stripped already" in printed
    assert "t2: left where it is" in printed
    assert "1 label files are not carried over" in printed
    for modality, name in (("t1gd", "t1c"), ("t2", "t2w")):
        before = nib.load(case.images[modality].path)
        after = nib.load(tmp_path / "out" / case.id / f"{case.id}-{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(after.dataobj), np.asarray(before.dataobj))
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "nowhere", "--output", "out"], "--input nowhere: no such folder"),
        (["--input", "in", "--output", "in/out"], "lies in --input"),
        (["--input", "in", "--output", "out", "--spacing", "1,2"], "--spacing 1,2: expected one number"),
        (["--input", "in", "--output", "out", "--spacing", "0"], "--spacing 0: expected"),
        (["--input", "in", "--output", "out"], "no cases found"),
        (["--input", "in", "--output", "file"], "--output file: is a file; name a folder"),
    ],
)
def test_wrong_options_are_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=re.escape(message)) as raised:
        prepare(*arguments)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_reference_that_a_case_lacks(tmp_path):
    affine = np.diag([3.0, 3, 3, 1])
    (tmp_path / "in" / "P1").mkdir(parents=True)
    rng = np.random.default_rng(0)
    nib.save(nib.Nifti1Image(rng.integers(1, 9, (9, 9, 9)).astype(np.int16), affine), tmp_path / "in/P1/t1.nii.gz")
    with pytest.raises(UserError, match=r"case P1: has no t2 \(--reference\); it has t1"):
        prepare("--input", tmp_path / "in", "--output", tmp_path / "out", "--reference", "t2")
    with pytest.raises(UserError, match="case P1: the brain was not found"):
        prepare("--input", tmp_path / "in", "--output", tmp_path / "out")


def test_without_simpleitk_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(UserError, match=re.escape("pip install 'samjax[prepare]'")):
        prepare("--input", tmp_path, "--output", tmp_path / "out")


def test_every_pose_is_far_from_the_reference():
    for modality in ("t1", "t2", "flair"):
        far, turn = error(np.eye(4), wanted(modality), seed=1)
        assert far > 15, (modality, far)
        assert turn > 12, (modality, turn)
    assert set(POSES) == {"t1gd", "t1", "t2", "flair"}


def test_prepared_cases_can_be_read_for_training(run, tmp_path):
    shutil.copytree(run.output / "P1", tmp_path / "data-2023" / "P1")
    volume = read_case(find_cases(tmp_path / "data-2023", read_labels=False)[0])
    assert volume.images.shape[-1] == 4
    assert volume.geometry.spacing == pytest.approx((4, 4, 4))
