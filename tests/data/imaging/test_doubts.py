"""What makes a scan unlike the training data is said, with its value and the range."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.cases import Case
from samjax.data.check import check
from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.doubts import (
    RANGES,
    USUAL,
    Ranges,
    case_doubts,
    geometry_doubts,
    header_doubts,
    image_doubts,
    ranges_of,
    read_ranges,
)
from samjax.data.imaging.geometry import Geometry, geometry_of
from samjax.data.imaging.grids import RunGrid
from samjax.errors import UserError
from samjax.inference.predictor import read_images
from tests.data.imaging.test_background import head
from tests.data.trees import Example, example, save_brats


def grid(spacing=(1.0, 1.0, 1.0), shape=(155, 240, 240)) -> Geometry:
    """Of slices, rows, columns."""
    return geometry_of(shape[::-1], np.diag([-spacing[2], -spacing[1], spacing[0], 1]), "here")


BRATS = ranges_of([grid(), grid((1.0, 1.0, 1.0), (150, 240, 240))])


def test_ranges_are_of_all_scans_and_are_kept(tmp_path: Path):
    found = ranges_of([grid(), grid((5.0, 0.9, 1.0), (20, 256, 200))])
    assert found == Ranges((0.9, 1.0), (1.0, 5.0), (230.4, 240.0), (100.0, 155.0))
    assert read_ranges(tmp_path) is None
    (tmp_path / RANGES).write_text(found.to_json())
    assert read_ranges(tmp_path) == found
    (tmp_path / RANGES).write_text(json.dumps({"spacing": [1]}))
    with pytest.raises(UserError, match=RANGES):
        read_ranges(tmp_path)


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        (grid((6.0, 1.0, 1.0), (26, 240, 240)), ["slice thickness (distance between slices) 6 mm; these have 1 mm"]),
        (grid((1.0, 0.5, 0.5), (155, 480, 480)), ["voxel spacing in the slice 0.5 mm; these have 1 mm"]),
        (grid((1.0, 1.0, 1.3)), ["voxel spacing in the slice 1 x 1.3 mm", "field of view in the slice 312 mm"]),
        (grid((1.0, 1.0, 1.0), (80, 240, 240)), ["field of view across the slices 80 mm; these have 150 to 155 mm"]),
        (grid((1.0, 1.0, 1.0), (155, 120, 140)), ["field of view in the slice 140 mm; these have 240 mm"]),
        (grid((1.05, 0.95, 1.0), (145, 250, 240)), []),
    ],
)
def test_what_lies_outside_of_the_ranges_is_said_with_its_value(geometry: Geometry, words: list[str]):
    doubts = geometry_doubts(geometry, BRATS, "these have")
    assert len(doubts) == len(words), doubts
    for doubt, part in zip(doubts, words, strict=True):
        assert part in doubt


def test_spacings_that_are_resampled_are_doubted_only_where_they_are_too_coarse():
    plane, all_three = RunGrid(1, 1), RunGrid(1, 1, 1)
    fine, coarse = grid((1.0, 0.5, 0.5), (155, 480, 480)), grid((1.0, 2.0, 2.0), (155, 120, 120))
    assert geometry_doubts(fine, BRATS, "these have", plane) == []
    assert geometry_doubts(coarse, BRATS, "these have", plane) == [
        "voxel spacing in the slice 2 mm; these have 1 mm; it is resampled to 1 x 1 mm, which adds no detail"
    ]
    thin, thick = grid((0.5, 1.0, 1.0), (310, 240, 240)), grid((5.0, 1.0, 1.0), (31, 240, 240))
    assert geometry_doubts(thin, BRATS, "these have", plane) == geometry_doubts(thin, BRATS, "these have") != []
    assert geometry_doubts(thin, BRATS, "these have", all_three) == []
    (doubt,) = geometry_doubts(thick, BRATS, "these have", all_three)
    assert doubt.endswith("5 mm; these have 1 mm; it is resampled to 1 x 1 x 1 mm, which adds no detail")


def looked_at(array: np.ndarray, background: float = 0, spacing=(1.0, 1.0, 1.0)) -> list[str]:
    return image_doubts({"t1": (array, background)}, grid(spacing, array.shape))


def test_scans_with_skull_or_air_are_named():
    assert looked_at(head()) == []
    air = np.where(head() == 0, np.random.default_rng(1).integers(1, 30, head().shape), head())
    assert "t1: only 0 % of the voxels at the edge are background" in looked_at(air)[0]
    mostly = np.where(head() == 0, np.random.default_rng(1).choice([0, 0, 0, 1, 2], head().shape), head())
    assert re.match(r"t1: only (59|60|61) % of the voxels at the edge", looked_at(mostly)[0])
    large = head((100, 60, 60), radius=25)  # 1963 slices' pixels: 0.196 million voxels
    assert looked_at(large, spacing=(2.0, 2.0, 2.0)) == []
    (doubt,) = looked_at(large, spacing=(2.5, 2.4, 2.4))
    assert re.fullmatch(r"t1: 28\d\d ml are not background, a brain has at most 2200; is it skull-stripped\?", doubt)


def test_a_second_background_is_named():
    padded = np.pad(head() + 10, ((0, 0), (30, 30), (30, 30)))
    (doubt,) = looked_at(padded)
    assert re.match(r"t1: 6\d % of what is not background \(0\) has one and the same value \(10\)", doubt)


def changed_header(path: Path, change) -> None:
    image = nib.load(path)
    array = np.asanyarray(image.dataobj)
    header = image.header.copy()
    change(header)
    nib.save(nib.Nifti1Image(array, None, header), path)


def shifted_qform(header: nib.Nifti1Header) -> None:
    moved = header.get_sform() + np.array([[0, 0, 0, 7.0], [0] * 4, [0] * 4, [0] * 4])
    header.set_sform(header.get_sform(), code=1)
    header.set_qform(moved, code=1)


def same_forms(header: nib.Nifti1Header) -> None:
    header.set_qform(header.get_sform(), code=1)
    header.set_sform(header.get_sform(), code=2)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    save_brats(tmp_path / "data", "BraTS2021_00001", example())
    return find_cases(tmp_path / "data")[0]


def test_a_qform_that_disagrees_with_the_sform_is_named(case: Case):
    assert header_doubts(case) == []
    path = case.images["t2"].path
    changed_header(path, same_forms)
    assert header_doubts(case) == []
    changed_header(path, shifted_qform)
    assert header_doubts(case) == [(path, "its qform and sform put the voxels up to 7 mm apart; the sform is used")]


def no_forms(header: nib.Nifti1Header) -> None:
    header["qform_code"] = header["sform_code"] = 0


def test_headers_that_give_no_place_are_counted(case: Case):
    for modality in ("t1", "flair"):
        changed_header(case.images[modality].path, no_forms)
    (doubt,) = header_doubts(case)
    assert doubt == (
        case.images["t1"].path,
        "2 of 4 headers give no orientation (neither qform nor sform): left and right are assumed",
    )


def test_check_and_predict_say_the_same(case: Case, tmp_path: Path):
    changed_header(case.images["t2"].path, shifted_qform)
    folder = tmp_path / "thick"
    save_brats(folder, "BraTS2021_00002", example(1), spacing=(6.0, 1.0, 1.0))
    (thick,) = find_cases(folder)
    ranges = ranges_of([read_images(case)[1]])
    assert case_doubts(case, *read_images(case), ranges) == [
        "BraTS2021_00001_t2.nii.gz: its qform and sform put the voxels up to 7 mm apart; the sform is used"
    ]
    said = case_doubts(thick, *read_images(thick), ranges)
    assert said[0] == "slice thickness (distance between slices) 6 mm; the training data have 1 mm"
    assert case_doubts(thick, *read_images(thick), None) == []

    report = check(folder, workers=1, progress=False, ranges=ranges)
    assert report.unusable == []
    assert [problem.message for problem in report.problems] == said
    (usual,) = check(folder, workers=1, progress=False).problems
    assert usual.message == "slice thickness (distance between slices) 6 mm; usual is 0.4 to 2.5 mm"
    assert check(tmp_path / "data", workers=1, progress=False).problems[0].path.name == "BraTS2021_00001_t2.nii.gz"
    assert geometry_doubts(grid(), USUAL, "usual is") == []


def test_a_scan_without_a_constant_background_is_said_by_the_check(tmp_path: Path):
    scan = example()
    air = np.random.default_rng(3).integers(1, 40, scan.label.shape).astype(np.int16)
    loose = Example({m: np.where(image == 0, air, image) for m, image in scan.images.items()}, scan.label)
    save_brats(tmp_path, "BraTS2021_00001", loose)
    (problem,) = check(tmp_path, workers=1, progress=False).problems
    assert not problem.unusable
    assert problem.message.startswith("t1, t1gd, t2, flair: only 0 % of the voxels at the edge are background")


def test_a_modality_that_lies_elsewhere_is_named(tmp_path: Path):
    brain = head()
    moved = np.roll(brain, brain.shape[2] // 3, axis=2)
    here = grid(shape=brain.shape)
    images = dict.fromkeys(("t1", "t1gd", "flair"), (brain, 0.0))
    assert not any("overlaps" in doubt for doubt in image_doubts(images, here))
    (doubt,) = image_doubts(images | {"t2": (moved, 0.0)}, here)
    assert re.match(r"t2: what it shows overlaps with the other modalities by a Dice of 0\.\d\d at most", doubt)
    slab = brain.copy()
    slab[: brain.shape[0] // 3] = 0  # a third of the slices is lacking, as in a case of BraTS
    assert not any("overlaps" in doubt for doubt in image_doubts(images | {"t2": (slab, 0.0)}, here))
    one = {"t1": (brain, 0.0)}
    assert not any("overlaps" in doubt for doubt in image_doubts(one, here))
