"""Predictions read from a folder: what is accepted, and what is refused in one line."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.cache.cases import CachedCase, build_cache
from samjax.data.formats.layouts import survey
from samjax.data.labels import roi_mask
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
