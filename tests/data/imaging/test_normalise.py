import numpy as np
import pytest

from samjax.data.imaging.normalise import PERCENTILES, normalise
from samjax.errors import UserError


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_equal_values_give_equal_bytes(dtype, seed):
    """Also where a value lies half-way between two bytes: 510 levels over 255 bytes have many of these."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 511 + 7 * seed, (6, 40, 40)).astype(np.int16)
    stored, other = (normalise(x, 0, "scan") for x in (values, values.astype(dtype)))
    np.testing.assert_array_equal(other, stored)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_the_percentiles_of_the_foreground_become_the_ends(dtype):
    values = np.arange(-7, 24 * 30 * 4 - 7).reshape(24, 30, 4).astype(dtype)
    low, high = np.percentile(values[values != -7], PERCENTILES)
    picture = normalise(values[::-1], -7, "scan")[::-1]
    scaled = (np.clip(values.astype(float), low, high) - low) / (high - low) * 255
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.where(values != -7, np.rint(scaled), 0))


def test_a_constant_image_is_refused_by_its_name():
    with pytest.raises(UserError, match=r"^a/b\.nii \(channel 2\): constant, all of the brain is 5"):
        normalise(np.array([[[0, 5, 5]]]), 0, "a/b.nii (channel 2)")
