"""predict.py: scans without labels, in any orientation, with prompts from files, resumed, merged, and wrong input."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.doubts import RANGES, ranges_of
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.inference.batch import Outcome, predict
from samjax.inference.postprocess import Postprocess, cleaned
from samjax.inference.postprocess_choice import PostprocessChoice
from samjax.inference.prediction_records import read_records
from samjax.inference.predictor import Predictor, read_images
from samjax.options import PredictOptions
from tests.data.trees import Example, affine_of, save_brats, save_msd
from tests.made_runs import write_base, write_run

ROOT = Path(__file__).parents[2]
ID = "BraTS-GLI-90000-000"
SHAPE = (7, 28, 32)
"""Slices, rows and columns of the phantom here; rows are cut to be fewer."""
PLACES = {"plain": ("RAS", 0.0), "flipped": ("LPS", 0.0), "turned about": ("AIL", 0.0),
          "oblique": ("RAS", 20.0), "oblique flipped": ("LPS", 20.0)}  # fmt: skip


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A generated case as arrays (slice, row, column)."""
    root = tmp_path_factory.mktemp("phantom") / "cohort-2023"
    (folder,) = write_cohort(root, "adult", 1, options=PhantomOptions((32, 32, 7)))

    def ours(ending: str) -> np.ndarray:
        image = nib.as_closest_canonical(nib.load(next(folder.glob(f"*-{ending}.nii.gz"))))
        return np.asarray(image.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1][:, :28]

    images = {name: ours(end) for name, end in (("t1", "t1n"), ("t1gd", "t1c"), ("t2", "t2w"), ("flair", "t2f"))}
    return Example(images, ours("seg"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def data(place: Path, phantom: Example) -> Path:
    """What the runs were trained on, as far as they can tell: a folder whose name gives the label scheme."""
    save_brats(place / "BraTS2023" / ID, ID, phantom, "brats2023")
    return place / "BraTS2023"


@pytest.fixture(scope="module")
def base(place: Path) -> Path:
    return write_base(place / "base.safetensors")


@pytest.fixture(scope="module")
def run(place: Path, base: Path, data: Path) -> Path:
    return write_run(place / "whole", base, data, depth=2, prompt="mixed")


@pytest.fixture(scope="module")
def scans(place: Path, phantom: Example) -> dict[str, Path]:
    """The same head without a label, stored in different ways."""
    return {
        name: save_brats(place / name / ID, ID, phantom, None, orientation=orientation, turn=turn)
        for name, (orientation, turn) in PLACES.items()
    }


def segmented(folder: Path) -> nib.Nifti1Image:
    return nib.load(folder / f"{ID}.nii.gz")


def in_world(image: nib.Nifti1Image, turn: float) -> np.ndarray:
    """Values at the world positions of the (slice, row, column) grid; that grid's own rotation is `turn`."""
    grid = np.stack([*np.indices(SHAPE), np.ones(SHAPE)], -1)
    world = grid @ affine_of("SPL", SHAPE, turn=turn)[0].T
    voxels = world @ np.linalg.inv(image.affine).T
    index = np.rint(voxels[..., :3]).astype(int)
    assert np.abs(voxels[..., :3] - index).max() < 1e-3
    return np.asarray(image.dataobj)[tuple(np.moveaxis(index, -1, 0))]


def voxel_at(scan: Path, position: tuple[int, int, int], turn: float) -> list[int]:
    """The source voxel where the (slice, row, column) grid has `position`."""
    world = affine_of("SPL", SHAPE, turn=turn)[0] @ [*position, 1]
    affine = nib.load(next(scan.glob("*-t1n.nii.gz"))).affine
    return np.rint((np.linalg.inv(affine) @ world)[:3]).astype(int).tolist()


def box_at(scan: Path, box: tuple[int, ...], turn: float) -> list[int]:
    corners = np.array([voxel_at(scan, box[:3], turn), voxel_at(scan, box[3:], turn)])
    return [*corners.min(0).tolist(), *corners.max(0).tolist()]


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_scan_is_segmented_alike_in_any_orientation(run: Path, scans: dict[str, Path], tmp_path: Path):
    found = {}
    for name, scan in scans.items():
        outcome = predict(PredictOptions((scan,), tmp_path / name, run=(run,)))
        assert (outcome.written, outcome.left_out) == (1, 0)
        image, source = segmented(tmp_path / name), nib.load(next(scan.glob("*-t2f.nii.gz")))
        assert image.get_data_dtype() == np.uint8
        assert image.shape == source.shape
        np.testing.assert_array_equal(image.affine, source.affine)
        assert nib.aff2axcodes(image.affine) == tuple(PLACES[name][0])
        assert (image.header["qform_code"], image.header["sform_code"]) == (
            source.header["qform_code"],
            source.header["sform_code"],
        )
        found[name] = in_world(image, PLACES[name][1])
    assert set(np.unique(found["plain"])) == {0, 2}
    assert 0.1 < (found["plain"] > 0).mean() < 0.9
    for name, values in found.items():
        np.testing.assert_array_equal(values, found["plain"], err_msg=name)


@pytest.mark.parametrize("kind", ["boxes", "points"])
def test_a_prompt_at_the_same_place_gives_the_same_mask(run: Path, scans: dict[str, Path], tmp_path: Path, kind: str):
    found = {}
    for name, scan in scans.items():
        turn = PLACES[name][1]
        if kind == "boxes":
            prompts = [box_at(scan, (2, 4, 6, 4, 13, 17), turn)]
        else:
            prompts = [[*voxel_at(scan, (3, 9, 7), turn), 1], [*voxel_at(scan, (3, 20, 25), turn), 0]]
        file = written(tmp_path / f"{name}.json", {ID: prompts})
        predict(PredictOptions((scan,), tmp_path / name, run=(run,), **{kind: file}))
        found[name] = in_world(segmented(tmp_path / name), turn)
    asked = [2, 3, 4] if kind == "boxes" else [3]
    assert np.flatnonzero(found["plain"].any((1, 2))).tolist() == asked
    assert 0.05 < (found["plain"][asked] > 0).mean() < 0.95
    for name, values in found.items():
        np.testing.assert_array_equal(values, found["plain"], err_msg=name)
    moved = {ID: [box_at(scans["plain"], (2, 14, 16, 4, 23, 27), 0.0)]} if kind == "boxes" else {
        ID: [[*voxel_at(scans["plain"], (3, 20, 25), 0.0), 1]]
    }  # fmt: skip
    file = written(tmp_path / "moved.json", moved)
    predict(PredictOptions((scans["plain"],), tmp_path / "moved", run=(run,), **{kind: file}))
    assert (in_world(segmented(tmp_path / "moved"), 0.0) != found["plain"]).any()


def test_propagation_reaches_further_slices(
    place: Path, base: Path, data: Path, scans: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sure = write_run(place / "sure", base, data, seed=4, depth=2, prompt="mixed")  # predicts positive IoUs, but noise
    monkeypatch.setattr("samjax.inference.propagation.IOU_SHARE", 0.0)
    file = written(tmp_path / "boxes.json", {ID: [box_at(scans["plain"], (3, 4, 6, 3, 13, 17), 0.0)]})
    options = PredictOptions((scans["plain"],), tmp_path / "one", run=(sure,), boxes=file)
    predict(options)
    predict(replace(options, output=tmp_path / "more", propagate=True))
    one, more = (in_world(segmented(tmp_path / name), 0.0) for name in ("one", "more"))
    np.testing.assert_array_equal(one[3], more[3])
    assert np.flatnonzero(one.any((1, 2))).tolist() == [3]
    assert len(np.flatnonzero(more.any((1, 2)))) > 1


def test_a_label_beside_the_scans_is_not_opened(run: Path, data: Path, scans: dict[str, Path], tmp_path: Path):
    case = tmp_path / "broken-2023" / ID
    shutil.copytree(data / ID, case)
    (case / f"{ID}-seg.nii.gz").write_bytes(b"not an image")
    predict(PredictOptions((case,), tmp_path / "with", run=(run,)))
    predict(PredictOptions((scans["flipped"],), tmp_path / "without", run=(run,)))
    files = tuple(sorted(case.iterdir()))  # the label among them
    predict(PredictOptions(files, tmp_path / "files", run=(run,)))
    for name in ("with", "files"):
        np.testing.assert_array_equal(segmented(tmp_path / name).dataobj, segmented(tmp_path / "without").dataobj)


def test_label_values_are_those_of_the_input_then_those_of_the_run(
    place: Path, base: Path, data: Path, run: Path, phantom: Example, tmp_path: Path, capsys: pytest.CaptureFixture
):
    """A U-Net writes all classes: BraTS 2018's enhancing tumour is 4, the run's own 3, Decathlon's edema 1."""
    unet = write_run(place / "unet", base, data, strategy="unet")
    save_brats(tmp_path / "old" / "Brats18_X_1", "Brats18_X_1", phantom, None)
    save_brats(tmp_path / "own" / "patient7", "patient_7", phantom, None)
    save_msd(tmp_path / "msd", {"BRATS_001": phantom})
    shutil.rmtree(tmp_path / "msd" / "labelsTr")
    found = {}
    for name in ("old", "own", "msd"):
        predict(PredictOptions((tmp_path / name,), tmp_path / "out" / name, run=(unet,)))
        (file,) = (tmp_path / "out" / name).glob("*.nii.gz")
        found[name] = in_world(nib.load(file), 0.0)
    assert set(np.unique(found["old"])) == {0, 1, 2, 4}
    np.testing.assert_array_equal(np.where(found["old"] == 4, 3, found["old"]), found["own"])
    np.testing.assert_array_equal(np.array([0, 2, 1, 3])[found["msd"]], found["own"])
    predictor = Predictor.from_run(unet)
    predictor.set_volume(tmp_path / "own" / "patient7")
    predictor.segment()
    predictor.save(tmp_path / "saved.nii.gz")
    np.testing.assert_array_equal(in_world(nib.load(tmp_path / "saved.nii.gz"), 0.0), found["own"])
    assert "label values (brats2021): edema 2, non-enhancing 1, enhancing 4" in capsys.readouterr().out

    gone = write_run(place / "orphan", base, tmp_path / "gone", depth=1, prompt="none")
    options = PredictOptions((tmp_path / "own",), tmp_path / "orphan", run=(gone,))
    with pytest.raises(UserError, match="--labels"):
        predict(options)
    predict(replace(options, labels="ped2024"))
    assert set(np.unique(nib.load(tmp_path / "orphan" / "patient_7.nii.gz").dataobj)) == {0, 4}


def test_runs_of_several_regions_are_merged_from_the_outside(
    place: Path, base: Path, data: Path, run: Path, scans: dict[str, Path], tmp_path: Path
):
    regions = {"whole-tumor": (run, 2)}
    for seed, (roi, value) in enumerate((("tumor-core", 1), ("enhancing", 3)), start=2):
        regions[roi] = (write_run(place / roi, base, data, seed=seed, roi=roi, depth=1, prompt="none"), value)
    alone = {}
    for roi, (folder, value) in regions.items():
        predict(PredictOptions((scans["plain"],), tmp_path / roi, run=(folder,)))
        alone[roi] = np.asarray(segmented(tmp_path / roi).dataobj)
        assert set(np.unique(alone[roi])) == {0, value}
    order = ("enhancing", "whole-tumor", "tumor-core")
    predict(PredictOptions((scans["plain"],), tmp_path / "all", run=tuple(regions[roi][0] for roi in order)))
    expected = alone["whole-tumor"].copy()
    for roi in ("tumor-core", "enhancing"):
        expected[alone[roi] > 0] = regions[roi][1]
    np.testing.assert_array_equal(segmented(tmp_path / "all").dataobj, expected)
    assert len(np.unique(expected)) >= 3

    twice = PredictOptions((scans["plain"],), tmp_path / "twice", run=(run, run))
    with pytest.raises(UserError, match="whole: given twice"):
        predict(twice)


@pytest.fixture(scope="module")
def tidy(place: Path, run: Path) -> Path:
    """The run with a choice of post-processing."""
    folder = shutil.copytree(run, place / "tidy")
    PostprocessChoice("largest=1,fill", "on 1 validation patient", "whole-tumor", "last", 9, 1, 1, 5).save(folder)
    return folder


def test_prompt_free_masks_are_cleaned_by_the_choice_of_the_run(
    tidy: Path, scans: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    scan = scans["oblique flipped"]
    free = PredictOptions((scan,), tmp_path / "tidy", run=(tidy,))
    predict(free)
    assert "post-processing: largest=1,fill (on 1 validation patient)" in capsys.readouterr().out
    predict(replace(free, output=tmp_path / "raw", postprocess="none"))
    assert "post-processing: none (as asked for)" in capsys.readouterr().out
    raw, found = (np.asarray(segmented(tmp_path / name).dataobj) for name in ("raw", "tidy"))
    expected = cleaned(raw > 0, (1, 1, 1), Postprocess.parse("largest=1,fill"))
    assert (expected != (raw > 0)).any()
    np.testing.assert_array_equal(found > 0, expected)
    (recipe,) = (one.recipe for one in read_records(tmp_path / "tidy").values())
    assert recipe.postprocess == "largest=1,fill"
    with pytest.raises(UserError, match=r"exists and was made with --postprocess largest=1,fill, not none"):
        predict(replace(free, postprocess="none"))


def test_a_prompted_mask_is_cleaned_only_where_that_is_asked_for(
    tidy: Path, scans: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    scan = scans["plain"]
    apart = [box_at(scan, (1, 4, 6, 1, 13, 17), 0.0), box_at(scan, (4, 4, 6, 5, 13, 17), 0.0)]
    file = written(tmp_path / "boxes.json", {ID: apart})
    boxes = PredictOptions((scan,), tmp_path / "auto", run=(tidy,), boxes=file)
    predict(boxes)
    assert "post-processing: none (masks of prompts stay as they are)" in capsys.readouterr().out
    predict(replace(boxes, output=tmp_path / "raw", postprocess="none"))
    predict(replace(boxes, output=tmp_path / "one", postprocess="largest=1"))
    predict(replace(boxes, output=tmp_path / "gone", postprocess="min=1e6"))
    auto, raw, one, gone = (np.asarray(segmented(tmp_path / name).dataobj) for name in ("auto", "raw", "one", "gone"))
    np.testing.assert_array_equal(auto, raw)
    assert 0 < np.count_nonzero(one) < np.count_nonzero(raw)
    assert not gone.any()
    assert f"warning: {ID}: --postprocess min=1000000 leaves nothing of it" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--postprocess .clean.: .clean. is no condition; expected"):
        predict(replace(boxes, output=tmp_path / "never", postprocess="clean"))
    assert not (tmp_path / "never").exists()


def test_volumes_are_complete_also_where_cases_were_there_already(run: Path, scans: dict[str, Path], tmp_path: Path):
    def volumes() -> dict[str, dict]:
        return json.loads((tmp_path / "out" / "volumes.json").read_text())

    data = cohort(tmp_path / "data-2023", scans, ("a", "b", "c"))
    options = PredictOptions((data / "a",), tmp_path / "out", run=(run,), labels="brats2023")
    predict(options)
    first = volumes()
    assert predict(replace(options, input=(data / "a", data / "b"))).already == 1
    assert volumes()["a"] == first["a"]
    assert predict(replace(options, input=(data / "c",))).written == 1
    found = volumes()
    assert found.keys() == {"a", "b", "c"}
    voxels = np.count_nonzero(nib.load(tmp_path / "out" / "b.nii.gz").dataobj)
    assert found["b"] == {"whole-tumor": {"voxels": voxels, "ml": pytest.approx(voxels / 1000)}}
    text = (tmp_path / "out" / "volumes.csv").read_text()
    assert text.startswith("case,region,voxels,ml\na,whole-tumor,")
    assert predict(options).already == 1
    assert (tmp_path / "out" / "volumes.csv").read_text() == text


def cohort(folder: Path, scans: dict[str, Path], names: tuple[str, ...]) -> Path:
    """The plain scan under several names."""
    for name in names:
        for file in scans["plain"].iterdir():
            (folder / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / name / file.name.replace(ID, name))
    return folder


def test_a_folder_goes_on_where_it_stopped_and_passes_over_what_is_broken(
    run: Path, scans: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    data = cohort(tmp_path / "data-2023", scans, ("a", "b", "c", "d"))
    cut = data / "b" / next(path.name for path in (data / "b").iterdir() if path.name.endswith("t2w.nii.gz"))
    cut.write_bytes(cut.read_bytes()[:-500])
    next((data / "d").glob("*t1c*")).unlink()
    options = PredictOptions((data,), tmp_path / "out", run=(run,), labels="brats2023", workers=3)
    assert predict(options) == Outcome(tmp_path / "out", written=2, already=0, left_out=2)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert len(errors) == 2
    assert "case d" in errors[0]
    assert cut.name in errors[1]

    (tmp_path / "out" / "c.nii.gz").unlink()
    first = (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns
    assert predict(replace(options, workers=0)) == Outcome(tmp_path / "out", written=1, already=1, left_out=2)
    assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns == first
    capsys.readouterr()
    assert predict(options) == Outcome(tmp_path / "out", written=0, already=2, left_out=2)
    assert capsys.readouterr().err.count(f"{cut.name}: ") == 1
    with pytest.raises(UserError, match=cut.name):
        predict(replace(options, input=(data / "b",), output=tmp_path / "alone"))
    assert cut.name not in capsys.readouterr().err  # the error says it
    assert predict(replace(options, overwrite=True)).written == 2
    assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns > first

    # What another prompt, run or program made is neither taken for this one's nor replaced.
    file = written(tmp_path / "boxes.json", {"a": [[1, 1, 1, 9, 9, 2]]})
    with pytest.raises(UserError, match=r"a\.nii\.gz: exists and was made by another run or prompt"):
        predict(replace(options, boxes=file))
    (tmp_path / "out" / "predictions.jsonl").unlink()
    with pytest.raises(UserError, match="--overwrite"):
        predict(options)
    assert not list((tmp_path / "out").glob(".tmp*"))

    only_bad = replace(options, input=(data / "b",), output=tmp_path / "bad")
    with pytest.raises(UserError, match=cut.name):
        predict(only_bad)


def test_the_mask_of_another_scan_of_that_name_is_not_taken(run: Path, scans: dict[str, Path], tmp_path: Path):
    def predicted(folder: str, **options: object) -> Outcome:
        given = {"output": tmp_path / "out", "run": (run,), "labels": "brats2023"} | options
        return predict(PredictOptions((tmp_path / folder,), **given))

    cohort(tmp_path / "first", scans, ("patient",))
    shutil.copytree(tmp_path / "first", tmp_path / "copied")
    shutil.copytree(tmp_path / "first", tmp_path / "other")
    path = next((tmp_path / "other" / "patient").glob("*t2w*"))
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[::-1].copy(), image.affine), path)

    assert predicted("first").written == 1
    assert predicted("copied").already == 1
    before = (tmp_path / "out" / "patient.nii.gz").read_bytes()
    with pytest.raises(UserError, match=r"patient\.nii\.gz: exists and was made of another scan of that name"):
        predicted("other")
    assert (tmp_path / "out" / "patient.nii.gz").read_bytes() == before
    assert predicted("other", overwrite=True).written == 1
    with pytest.raises(UserError, match="another scan of that name"):
        predicted("first")


def test_a_scan_unlike_the_training_data_is_predicted_with_a_warning(
    run: Path, scans: dict[str, Path], phantom: Example, tmp_path: Path, capsys: pytest.CaptureFixture
):
    trained = shutil.copytree(run, tmp_path / "run")
    (case,) = find_cases(scans["plain"], read_labels=False)
    (trained / RANGES).write_text(ranges_of([read_images(case)[1]]).to_json())
    save_brats(tmp_path / "thick" / ID, ID, phantom, None, spacing=(6.0, 1.0, 1.0))
    assert predict(PredictOptions((tmp_path / "thick",), tmp_path / "out", run=(trained,))).written == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert f"warning: {ID}: slice thickness (distance between slices) 6 mm; the training data have 1 mm" in said
    predictor = Predictor.from_run(trained)
    predictor.set_volume(tmp_path / "thick" / ID)
    assert [f"warning: {ID}: {doubt}" for doubt in predictor.doubts] == said
    predict(PredictOptions((scans["plain"],), tmp_path / "plain", run=(trained,)))
    assert "warning" not in capsys.readouterr().err
    predictor.set_volume(scans["plain"])
    assert predictor.doubts == ()
    save_brats(tmp_path / "thick" / "BraTS-GLI-00009-000", "BraTS-GLI-00009-000", phantom, None)
    with pytest.raises(UserError, match=r"thick: holds 2 cases; name one case's folder"):
        predictor.set_volume(tmp_path / "thick")


def test_raised_background_gives_the_mask_of_the_plain_scan(run: Path, phantom: Example, tmp_path: Path):
    def mask(name: str, change) -> np.ndarray:
        changed = Example({m: change(image) for m, image in phantom.images.items()}, phantom.label)
        save_brats(tmp_path / name / ID, ID, changed, None)
        predict(PredictOptions((tmp_path / name,), tmp_path / "out" / name, run=(run,)))
        return np.asarray(segmented(tmp_path / "out" / name).dataobj)

    plain = mask("plain", lambda image: image)
    np.testing.assert_array_equal(mask("raised", lambda image: image + 10), plain)
    shifted = mask("shifted", lambda image: (image / 50 - 3).astype(np.float32))
    assert (shifted != plain).mean() < 0.001


def test_a_scan_is_never_replaced(run: Path, phantom: Example, tmp_path: Path):
    save_msd(tmp_path, {"BRATS_001": phantom})
    images = tmp_path / "imagesTr"
    before = (images / "BRATS_001.nii.gz").read_bytes()
    with pytest.raises(UserError, match="is a scan of --input"):
        predict(PredictOptions((images,), images, run=(run,), overwrite=True))
    assert (images / "BRATS_001.nii.gz").read_bytes() == before


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("boxes", {"other": [[0, 0, 0, 1, 1, 1]]}, "other: no such case"),
        ("boxes", {ID: [[0, 0, 0, 1, 1]]}, r"\[0, 0, 0, 1, 1\]: expected six"),
        ("boxes", {ID: [[0, 0, 0, 1, 1, 7]]}, "k = 7 is not a voxel's, 0 to 6"),
        ("boxes", {ID: [[0, -1, 0, 1, 1, 1]]}, "j = -1"),
        ("boxes", {ID: [[5, 0, 0, 1, 1, 1]]}, "ends before it begins"),
        ("boxes", {ID: [[0, 0, 0.5, 1, 1, 1]]}, "whole numbers"),
        ("boxes", {ID: [[0, 0, True, 1, 1, 1]]}, "whole numbers"),
        ("boxes", {ID: []}, "expected a list of prompts"),
        ("boxes", {}, "holds no case"),
        ("boxes", [1], "expected an object"),
        ("points", {ID: [[0, 0, 0]]}, r"\[0, 0, 0\]: expected four"),
        ("points", {ID: [[32, 0, 0, 1]]}, "i = 32 is not a voxel's, 0 to 31"),
        ("points", {ID: [[0, 0, 0, 2]]}, "label 2"),
        ("points", {ID: [[0, 0, 0, 0]]}, "negative clicks only"),
    ],
)
def test_a_wrong_prompt_file_is_one_line(
    run: Path, scans: dict[str, Path], tmp_path: Path, kind: str, content: object, words: str
):
    file = written(tmp_path / "prompts.json", content)
    with pytest.raises(UserError, match=words) as caught:
        predict(PredictOptions((scans["plain"],), tmp_path / "out", run=(run,), **{kind: file}))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_prompt_file_names_each_case_once_and_may_leave_cases_out(
    run: Path, scans: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    file = tmp_path / "prompts.json"
    file.write_text('{"a": [[0, 0, 0, 1]], "a": [[0, 0, 0, 1]]}')
    data = cohort(tmp_path / "data-2023", scans, ("a", "b"))
    options = PredictOptions((data,), tmp_path / "out", run=(run,), points=file)
    with pytest.raises(UserError, match="'a' is listed twice"):
        predict(options)
    written(file, {"b": [[3, 4, 2, 1]]})
    assert predict(options) == Outcome(tmp_path / "out", written=1, already=0, left_out=1)
    assert f"left out: a: no prompts in {file}" in capsys.readouterr().err


def command(*arguments: object) -> subprocess.CompletedProcess:
    environment = dict(os.environ, XLA_FLAGS="--xla_backend_optimization_level=0", PYTHONWARNINGS="error")
    cache = os.path.join(tempfile.gettempdir(), "samjax-test-programs")
    code = [sys.executable, str(ROOT / "predict.py"), *map(str, arguments), "--cache-dir", cache]
    return subprocess.run(code, env=environment, capture_output=True, text=True)


def test_the_command_refuses_prompts_that_the_run_never_saw(
    place: Path, base: Path, data: Path, scans: dict[str, Path], tmp_path: Path
):
    clicks = write_run(place / "clicks", base, data, depth=2, prompt="point")
    result = command("--run", clicks, "--input", scans["plain"], "--output", tmp_path / "out")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "error: prompt none: clicks was trained with point only; ask with one of these or train with it"
    ]
    for options, words in (
        ({"boxes": tmp_path / "b", "points": tmp_path / "p"}, "--boxes and --points"),
        ({"prompt": "none", "points": tmp_path / "p"}, "--points and --prompt none"),
        ({"propagate": True}, "--propagate"),
        ({"boxes": written(tmp_path / "box.json", {ID: [[1, 1, 1, 9, 9, 2]]})}, "prompt box"),
    ):
        with pytest.raises(UserError, match=words):
            predict(PredictOptions((scans["plain"],), tmp_path / "out", run=(clicks,), **options))


def test_the_command_writes_where_base_weights_have_moved(
    place: Path, run: Path, base: Path, scans: dict[str, Path], tmp_path: Path
):
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"base_path": str(tmp_path / "gone.safetensors")}))
    options = ("--run", moved, "--input", scans["plain"], "--output", tmp_path / "out", "--weights", base)
    result = command(*options)
    assert result.returncode == 0, result.stderr
    assert "label values (brats2023): whole-tumor 2" in result.stdout
    assert f"predictions: {tmp_path / 'out'} (1 written)" in result.stdout
    assert segmented(tmp_path / "out").shape == (32, 28, 7)

    cohort(tmp_path / "two-2023", scans, ("a", "b"))
    next((tmp_path / "two-2023" / "a").glob("*t1c*")).unlink()
    more = ("--input", tmp_path / "two-2023", "--labels", "brats2023", "--output", tmp_path / "two", "--weights", base)
    result = command("--run", moved, *more)
    assert result.returncode == 1, "a case was left out"
    assert (tmp_path / "two" / "b.nii.gz").is_file()
    assert "(1 written, 1 left out)" in result.stdout


@pytest.mark.skipif("SAMJAX_REAL_DATA" not in os.environ, reason="needs SAMJAX_REAL_DATA")
def test_a_real_scan_without_a_label(run: Path, tmp_path: Path):
    folder = Path(os.environ["SAMJAX_REAL_DATA"]) / "unlabelled"
    assert predict(PredictOptions((folder,), tmp_path, run=(run,))).written == 1
    (file,) = tmp_path.glob("*.nii.gz")
    source = nib.load(next(folder.rglob(f"{file.name.removesuffix('.nii.gz')}-t1c.nii.gz")))
    image = nib.load(file)
    assert image.get_data_dtype() == np.uint8
    assert image.shape == source.shape
    np.testing.assert_array_equal(image.affine, source.affine)
    assert set(np.unique(image.dataobj)) <= {0, 2}
