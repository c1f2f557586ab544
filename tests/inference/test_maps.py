"""Files of probabilities and uncertainty."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.geometry import to_source
from samjax.data.imaging.volumes import header_geometry
from samjax.inference.maps import Maps, entropy, outermost, probability_file, remove_maps, uncertainty_file, write_maps
from tests.data.trees import example, save_brats

ID = "BraTS2021_00001"


def test_the_entropy_is_in_bits():
    found = entropy(np.array([0, 0.25, 0.5, 0.75, 1], np.float32))
    np.testing.assert_allclose(found, [0, 0.8112781, 1, 0.8112781, 0], atol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_maps_are_written_in_the_space_of_the_scan(tmp_path: Path, kind: str):
    (case,) = find_cases(save_brats(tmp_path / "in" / ID, ID, example(), None, orientation="LPS", turn=20.0))
    geometry = header_geometry(case)
    values = np.random.default_rng(0).random(geometry.shape, dtype=np.float32)
    rois = {"enhancing": values**2, "whole-tumor": values}
    write_maps(tmp_path, Maps(kind, True), rois, case, geometry)
    source = nib.load(case.reference.path)
    for path, expected, tolerance in (
        (probability_file(tmp_path, ID, "enhancing"), values**2, 0.5 / 255),
        (probability_file(tmp_path, ID, "whole-tumor"), values, 0.5 / 255),
        (uncertainty_file(tmp_path, ID), entropy(values), 1e-6),
    ):
        image = nib.load(path)
        np.testing.assert_array_equal(image.affine, source.affine)
        assert image.header["qform_code"] == source.header["qform_code"]
        assert image.header["cal_max"] == 1
        exact = path.parent.name == "uncertainty" or kind == "float32"
        assert image.get_data_dtype() == (np.float32 if exact else np.uint8)
        tolerance = 1e-6 if exact else tolerance + 1e-6
        np.testing.assert_allclose(image.get_fdata(), to_source(expected, geometry), atol=tolerance)
    assert outermost(tuple(rois)) == "whole-tumor"
    remove_maps(tmp_path, ID)
    assert not [path for path in tmp_path.rglob("*.nii.gz") if "in" not in path.relative_to(tmp_path).parts]


def test_maps_hold_what_is_asked_for():
    both = Maps("uint8", True)
    assert both.hold(Maps()) and both.hold(Maps("uint8")) and both.hold(both)  # noqa: PT018
    assert not both.hold(Maps("float32"))
    assert not Maps("uint8").hold(both)
    assert (bool(Maps()), bool(Maps("", True))) == (False, True)
