"""The value of the background, which need not be 0."""

import numpy as np
import pytest

from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.background import background_of
from samjax.data.imaging.volumes import read_case
from tests.data.trees import Example, example, save_brats


def head(shape=(8, 40, 40), radius=14.0, seed=0) -> np.ndarray:
    """A brain of noise on 0, int16."""
    _, y, x = np.indices(shape)
    inside = np.hypot(y - shape[1] / 2, x - shape[2] / 2) < radius
    return np.where(inside, np.random.default_rng(seed).integers(50, 900, shape), 0).astype(np.int16)


def z_scores(array: np.ndarray) -> np.ndarray:
    return ((array - array.mean()) / array.std()).astype(np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a + 10,
        lambda a: a - 1024,
        lambda a: a.astype(np.uint16) + 32768,
        lambda a: (a + 0.5).astype(np.float32),
        lambda a: z_scores(a) + 5,
        lambda a: z_scores(a) - 5,
        lambda a: z_scores(a),
        lambda a: 900 - a,
    ],
)
def test_a_constant_background_is_found_whatever_its_value(change):
    array = head()
    changed = change(array)
    assert background_of(changed) == changed[0, 0, 0]
    np.testing.assert_array_equal(changed != background_of(changed), array != 0)


def test_ordinary_scans_have_zero():
    array = head()
    assert background_of(array) == 0
    assert background_of(array.astype(np.float32)) == 0
    frame = array.copy()
    frame[:, [0, -1]] = frame[:, :, [0, -1]] = 3  # a frame drawn around the slices
    assert background_of(frame) == 0
    air = np.where(array == 0, np.random.default_rng(1).integers(0, 30, array.shape), array)
    assert background_of(air) == 0, "noise is no constant"
    scored = np.where(array == 0, 0, z_scores(array))  # the brain alone, which is partly below the background
    assert background_of(scored) == 0


def test_a_brain_that_fills_its_field_of_view():
    array = head((8, 24, 24), radius=13.5)  # cut at all four sides
    assert (array[:, [0, -1]] == 0).mean() < 0.5
    assert background_of(array + 10) == background_of(array) + 10 == 10


@pytest.mark.parametrize("change", [lambda a: a + 10, lambda a: a - 300, lambda a: (a / 7 + 5).astype(np.float32)])
def test_a_shifted_case_is_prepared_as_the_plain_one(tmp_path, change):
    scan = example()
    shifted = Example({m: change(image) for m, image in scan.images.items()}, scan.label)
    volumes = [
        read_case(find_cases(save_brats(tmp_path / name, "BraTS2021_00001", one))[0])
        for name, one in (("plain", scan), ("shifted", shifted))
    ]
    assert volumes[0].box == volumes[1].box
    assert np.abs(volumes[0].images.astype(int) - volumes[1].images).max() <= 1
    np.testing.assert_array_equal(volumes[0].images == 0, volumes[1].images == 0)
