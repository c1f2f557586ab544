"""A soft edge of the brain, as resampling leaves it, changes nothing of the brain's brightness."""

import numpy as np
import pytest
from scipy import ndimage

from samjax.data.imaging.normalise import PERCENTILES, normalise
from samjax.data.imaging.soft_edge import brain_within_soft_edge

BACKGROUND = 0.0


@pytest.fixture(scope="module")
def brain() -> np.ndarray:
    """Tissue between 100 and 200 with dark fluid in a fifteenth of it, on background 0: (slices, rows, columns)."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices((40, 96, 96))
    away = np.sqrt(((z - 20) / 16) ** 2 + ((y - 48) / 40) ** 2 + ((x - 47) / 36) ** 2)
    texture = ndimage.gaussian_filter(rng.normal(size=away.shape), 2)
    tissue = 150 + 50 * texture / np.abs(texture).max()
    tissue[texture < np.quantile(texture, 1 / 15)] = 60
    return np.where(away < 1, tissue, 0).astype(np.float32)


def softened(brain: np.ndarray, how: str) -> np.ndarray:
    if how == "blurred":
        return ndimage.gaussian_filter(brain, 0.6)
    if how == "turned":
        return ndimage.rotate(brain, 7.0, axes=(1, 2), reshape=False, order=1)
    if how == "coarser":
        return ndimage.zoom(brain, 1 / 1.4, order=1)
    return np.rint(np.maximum(ndimage.shift(brain, 0.5, order=3), 0)).astype(np.int16)


def test_a_hard_edge_is_left_alone(brain: np.ndarray):
    assert brain_within_soft_edge(brain, BACKGROUND) is None
    low, high = np.percentile(brain[brain > 0], PERCENTILES)
    scaled = np.rint((np.clip(brain.astype(float), low, high) - low) / (high - low) * 255)
    np.testing.assert_array_equal(normalise(brain, BACKGROUND, "scan"), np.where(brain > 0, scaled, 0))


@pytest.mark.parametrize("how", ["blurred", "turned", "coarser", "moved"])
@pytest.mark.parametrize("offset", [0, 1000])
def test_a_soft_edge_leaves_the_brain_as_bright_as_it_was(brain: np.ndarray, how: str, offset: int):
    expected = np.median(normalise(brain, BACKGROUND, "scan")[brain > 90])
    soft = softened(brain, how)
    middle = soft > 90
    counted = brain_within_soft_edge(soft + offset, BACKGROUND + offset)
    assert counted is not None
    assert not counted[soft == 0].any()
    assert counted[middle].all()
    found = np.median(normalise(soft + offset, BACKGROUND + offset, "scan")[middle])
    low, high = np.percentile(soft[soft != 0], PERCENTILES)
    plain = (np.median(soft[middle]) - low) / (high - low) * 255
    assert abs(found - expected) < 12
    assert plain - found > 7, "the rim would brighten it"


def test_a_stack_that_is_brain_to_its_ends_and_a_speck_are_hard(brain: np.ndarray):
    assert brain_within_soft_edge(brain[18:22, 36:60, 36:60], BACKGROUND) is None
    assert brain_within_soft_edge(ndimage.gaussian_filter(brain, 0.6)[18:20, 4:10, 44:52], BACKGROUND) is None
    assert brain_within_soft_edge(np.zeros((4, 8, 8)), BACKGROUND) is None
