"""A predictor in a notebook: a widget with the volume and the newest prediction, or words without ipyniivue."""

import gzip
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax import Predictor
from samjax.errors import UserError
from samjax.inference import notebook
from tests.data.trees import example, save_brats
from tests.made_runs import write_base, write_run

ipyniivue = pytest.importorskip("ipyniivue")

NAME = "BraTS-GLI-00001-000"
BOX = (3, 5, 5, 5, 14, 12)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case") / NAME
    return save_brats(folder, NAME, example(), "brats2023", orientation="RAS", spacing=(3.0, 1.0, 1.0))


def predictor_of(place: Path, roi: str) -> Predictor:
    base = write_base(place / "base.safetensors")
    return Predictor.from_run(write_run(place / "run", base, place, strategy="full", prompt="mixed", roi=roi))


@pytest.fixture
def predictor(tmp_path: Path, case: Path) -> Predictor:
    predictor = predictor_of(tmp_path, "whole-tumor")
    predictor.set_volume(case)
    return predictor


def read(volume: object) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(volume.data))


def test_the_widget_holds_the_volume_where_the_file_lies(predictor: Predictor, case: Path):
    volumes = predictor.show().volumes
    assert [volume.name for volume in volumes] == ["flair.nii.gz", "t1.nii.gz", "t1gd.nii.gz", "t2.nii.gz"]
    assert [volume.opacity for volume in volumes] == [1, 0, 0, 0]
    image, source = read(volumes[0]), nib.load(case / f"{NAME}-t2f.nii.gz")
    canonical, expected = nib.as_closest_canonical(image), nib.as_closest_canonical(source)
    np.testing.assert_allclose(canonical.affine, expected.affine)
    there = expected.get_fdata()
    assert np.corrcoef(canonical.get_fdata().ravel(), there.ravel())[0, 1] > 0.99


def test_the_newest_prediction_lies_over_it(predictor: Predictor):
    found = predictor.segment(boxes=[BOX])
    overlay = predictor.show("t1gd").volumes[-1]
    mask = np.asanyarray(read(overlay).dataobj).T
    assert found.mask.any()
    np.testing.assert_array_equal(mask, found.mask.astype(np.uint8))
    assert overlay.colormap_label.lut[:8] == [0, 0, 0, 0, 0x56, 0xB4, 0xE9, 255]
    assert predictor.show("t1gd").volumes[0].name == "t1gd.nii.gz"
    predictor.undo()
    assert len(predictor.show().volumes) == 4


def test_several_regions_have_their_codes(tmp_path: Path, case: Path):
    predictor = predictor_of(tmp_path, "all")
    predictor.set_volume(case)
    found = predictor.segment(boxes=[BOX])
    overlay = predictor.show().volumes[-1]
    np.testing.assert_array_equal(np.asanyarray(read(overlay).dataobj).T, found.mask)
    assert len(overlay.colormap_label.lut) == 16


def test_an_array_lies_by_its_spacing(predictor: Predictor):
    images = np.random.default_rng(0).integers(1, 255, (3, 20, 16, 4), np.uint8)
    predictor.set_volume(images, (3.0, 1.0, 2.0))
    image = read(predictor.show().volumes[0])
    np.testing.assert_allclose(np.abs(np.diag(image.affine)), [2, 1, 3, 1])
    np.testing.assert_array_equal(np.asanyarray(image.dataobj).T, images[..., 3])


def test_a_cell_shows_the_widget(predictor: Predictor):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.push({"predictor": predictor})
    data, _ = shell.display_formatter.format(shell.ev("predictor"))
    assert "application/vnd.jupyter.widget-view+json" in data


def test_words_where_there_is_no_volume_or_package(tmp_path: Path, case: Path, monkeypatch: pytest.MonkeyPatch):
    predictor = predictor_of(tmp_path, "whole-tumor")
    assert predictor._repr_mimebundle_() == {"text/plain": "<Predictor run, no volume>"}
    with pytest.raises(UserError, match="set_volume first"):
        predictor.show()
    predictor.set_volume(case)
    with pytest.raises(UserError, match="the volume has t1, t1gd, t2, flair"):
        predictor.show("pd")
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    words = predictor._repr_mimebundle_()["text/plain"]
    assert words.startswith("<Predictor run, volume of 9 x 20 x 16 voxels, no prediction>; pip install")
    with pytest.raises(UserError, match=r"samjax\[notebook\]"):
        predictor.show()
    predictor.segment(boxes=[BOX])
    assert "predicted" in repr(predictor)
