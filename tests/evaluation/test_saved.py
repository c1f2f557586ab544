"""Predictions read from a folder: what is accepted, and what is refused in one line."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.cache.cases import CachedCase, build_cache
from samjax.data.formats.layouts import survey
from samjax.data.labels import NON_ENHANCING, ROIS, roi_mask
from samjax.errors import UserError
from samjax.evaluation.saved import SavedPredictions
from tests.data.trees import example, save_brats

ID = "BraTS-GLI-00001-000"


@pytest.fixture
def case(tmp_path: Path) -> CachedCase:
    save_brats(tmp_path / "BraTS2023" / ID, ID, example(), "brats2023", orientation="RAS", turn=20.0)
    found, _ = build_cache(survey(tmp_path / "BraTS2023", "demo").cases, None, workers=1, progress=False)
    return found[0]


def written(case: CachedCase, folder: Path, change=lambda values, affine: (values, affine), name: str | None = None):
    """The case's own label as somebody's prediction."""
    label = nib.load(case.case.label)
    values, affine = change(np.asanyarray(label.dataobj).copy(), label.affine.copy())
    folder.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), folder / (name or f"{ID}.nii.gz"))
    return SavedPredictions("mine", folder, ("whole-tumor",))


def refused(saved: SavedPredictions, case: CachedCase, *words: str) -> None:
    with pytest.raises(UserError) as error:
        list(saved.predict([case]))
    assert "\n" not in str(error.value)
    for word in (str(saved.folder), *words):
        assert word in str(error.value)


@pytest.mark.parametrize("name", [f"{ID}.nii.gz", f"{ID}.nii"])
def test_a_label_reads_back_in_our_axes_and_codes(case: CachedCase, tmp_path: Path, name: str):
    ((_, found),) = written(case, tmp_path / "mine", name=name).predict([case])
    np.testing.assert_array_equal(found.mask, case.read(0, case.shape[0])[1])
    assert found.mask.max() == 3
    assert found.rounds is None
    assert roi_mask(found.mask, "edema").any()


def test_a_missing_file(case: CachedCase, tmp_path: Path):
    refused(written(case, tmp_path / "mine", name="other.nii.gz"), case, f"no {ID}.nii.gz", "one file for each")


def test_another_grid(case: CachedCase, tmp_path: Path):
    for number, change in enumerate((
        lambda values, affine: (values[:-1], affine),
        lambda values, affine: (values, affine + np.diag([0.3, 0, 0, 0])),
        lambda values, affine: (values[::-1].copy(), affine @ np.diag([-1, 1, 1, 1])),
    )):  # fmt: skip
        refused(written(case, tmp_path / str(number), change), case, f"{ID}.nii.gz", "grid")


def test_alien_values(case: CachedCase, tmp_path: Path):
    def change(values, affine):
        values[values == 3] = 7
        return values, affine

    refused(written(case, tmp_path / "mine", change), case, f"{ID}.nii.gz", "7", "brats2023")


def described(saved: SavedPredictions, labels: dict, **more) -> None:
    (saved.folder / "dataset.json").write_text(json.dumps({"labels": labels, **more}))


def predicted(saved: SavedPredictions, case: CachedCase) -> np.ndarray:
    ((_, found),) = saved.predict([case])
    return found.mask


def truth(case: CachedCase) -> np.ndarray:
    return case.read(0, case.shape[0])[1]


def test_regions_are_read_by_the_values_they_are_written_with(case: CachedCase, tmp_path: Path):
    """The case has edema 2, non-enhancing 1 and enhancing 3; the prediction edema 1, non-enhancing 2, enhancing 3."""
    swapped = written(
        case, tmp_path / "mine", lambda values, affine: (np.array([0, 2, 1, 3], np.uint8)[values], affine)
    )
    assert not np.array_equal(predicted(swapped, case), truth(case))
    labels = {"background": 0, "whole_tumor": [1, 2, 3, 4], "tumor_core": [1, 2, 3], "enhancing_tumor": 1}
    described(swapped, labels, regions_class_order=[1, 2, 3])
    np.testing.assert_array_equal(predicted(swapped, case), truth(case))
    described(swapped, labels)
    refused(swapped, case, "dataset.json", "regions_class_order")


@pytest.mark.parametrize("roi", ROIS)
@pytest.mark.parametrize("value", [1, 255])
def test_a_binary_mask_is_of_the_one_region_and_says_so(case, tmp_path, roi, value, capsys):
    def mask(values, affine):
        codes = np.array([0, 2, 1, 3])[values]
        return (roi_mask(codes, roi) * value).astype(np.uint8), affine

    saved = replace(written(case, tmp_path / "mine", mask), rois=(roi,))
    np.testing.assert_array_equal(predicted(saved, case), roi_mask(truth(case), roi))
    assert f"mine: read as masks of {roi}, since its files hold 0 and {value} alone" in capsys.readouterr().err
    for name in ("lesion", roi):
        described(saved, {"background": 0, name: value} if value < 255 else {"background": 0, name: 2})
        if value == 1:
            np.testing.assert_array_equal(predicted(saved, case), roi_mask(truth(case), roi))


def test_masks_that_are_scored_for_all_regions_are_labels_and_say_so(case, tmp_path, capsys):
    saved = written(case, tmp_path / "mine", lambda values, affine: ((values > 0).astype(np.uint8), affine))
    ((_, found),) = replace(saved, rois=("edema", "whole-tumor")).predict([case])
    assert set(np.unique(found.mask)) == {0, NON_ENHANCING}
    assert "mine: its files hold 0 and 1 alone; they are read as label values" in capsys.readouterr().err


def test_values_are_those_of_the_scans_where_any_file_holds_more(case, tmp_path, capsys):
    saved = replace(written(case, tmp_path / "mine"), rois=("enhancing",))
    assert predicted(saved, case).max() == 3
    assert capsys.readouterr().err == ""


def test_a_mask_of_another_region_is_refused(case, tmp_path):
    saved = written(case, tmp_path / "mine", lambda values, affine: ((values > 0).astype(np.uint8), affine))
    described(saved, {"background": 0, "tumor core": 1})
    refused(saved, case, "dataset.json", "whole-tumor")


def test_a_region_that_several_values_make_up(case, tmp_path):
    saved = written(case, tmp_path / "mine", lambda values, affine: (np.array([0, 1, 2, 1], np.uint8)[values], affine))
    described(saved, {"background": 0, "tumor core": 1, "edema": 2})
    np.testing.assert_array_equal(predicted(saved, case), truth(case) > 0)


def test_two_files_of_one_case(case, tmp_path):
    saved = written(case, tmp_path / "mine")
    (saved.folder / f"{ID}.nii").touch()
    refused(saved, case, f"both {ID}.nii and {ID}.nii.gz are there")


def test_all_missing_files_are_found_before_the_first_is_read(case, tmp_path):
    saved = written(case, tmp_path / "mine")
    other = replace(case, case=replace(case.case, id="other"))
    with pytest.raises(UserError, match=r"no other\.nii\.gz there"):
        next(saved.predict([case, other]))


def test_a_prediction_may_not_hold_what_is_ignored(case, tmp_path):
    saved = written(case, tmp_path / "mine")
    scheme = "edema=2,non-enhancing=1,enhancing=9,ignore=3"
    refused(saved, replace(case, case=replace(case.case, scheme=scheme)), "ignored; a prediction must not")
