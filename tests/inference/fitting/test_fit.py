"""The fit of a model's probabilities to its scan, on scans whose contrasts the model does not know."""

import numpy as np
import pytest
from scipy import ndimage

from samjax.inference.fitting.fit import fit_classes
from samjax.metrics.overlap import dice

SHAPE = (40, 72, 64)
SPACING = (2.0, 2.0, 2.0)


def scan(rng: np.random.Generator, contrast: float = 60.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (Z, rows, columns, 4) uint8 with noise, the tumour and its core, bool."""
    z, y, x = (axis - (n - 1) / 2 for axis, n in zip(np.indices(SHAPE), SHAPE, strict=True))
    brain = (z / 19) ** 2 + (y / 34) ** 2 + (x / 30) ** 2 < 1
    tumour = (z / 7) ** 2 + ((y - 6) / 11) ** 2 + ((x - 14) / 9) ** 2 < 1
    core = (z / 5) ** 2 + ((y - 6) / 8) ** 2 + ((x - 14) / 6) ** 2 < 1
    fluid = (z / 8) ** 2 + (y / 12) ** 2 + (x / 4) ** 2 < 1
    images = []
    for tissue, wet, sick, inner in (
        (140, 40, -30, -20),
        (140, 45, -30, 80),
        (90, 220, 50, 30),
        (110, 30, contrast, 0),
    ):
        image = tissue + (wet - tissue) * fluid + sick * (tumour & ~core) + (sick + inner) * core
        image = ndimage.gaussian_filter(np.where(brain, image, 0), 0.6) + rng.normal(0, 8, SHAPE)
        images.append(np.where(brain, np.clip(np.rint(image), 1, 255), 0))
    return np.stack(images, axis=-1).astype(np.uint8), tumour, core


def rough(region: np.ndarray) -> np.ndarray:
    """The probability of a model that finds a region a third too small, moved by 4 mm, and unsure at its edge."""
    smaller = ndimage.binary_erosion(region, iterations=2)
    return ndimage.gaussian_filter(np.roll(smaller, 2, axis=1).astype(np.float32), 2.0)


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, ...]:
    images, tumour, core = scan(np.random.default_rng(0))
    whole, inner = rough(tumour), np.minimum(rough(tumour), rough(core))
    return images, tumour, core, np.stack([1 - whole, whole - inner, inner])


def test_outlines_follow_the_scan(case):
    images, tumour, core, classes = case
    found = fit_classes(classes, images, SPACING)
    before, after = (dice(one[0] < 0.5, tumour) for one in (classes, found))
    assert before < 0.6
    assert after > 0.8
    assert dice(found[2] > 0.5, core) > dice(classes[2] > 0.5, core) + 0.1
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-4)
    assert found.min() >= 0
    assert found.dtype == np.float32


def test_the_same_scan_gives_the_same_bytes(case):
    images, _, _, classes = case
    np.testing.assert_array_equal(fit_classes(classes, images, SPACING), fit_classes(classes, images, SPACING))


def test_outside_of_the_brain_nothing_changes(case):
    images, _, _, classes = case
    outside = ~images.any(axis=-1)
    np.testing.assert_array_equal(fit_classes(classes, images, SPACING)[:, outside], classes[:, outside])


def test_where_no_tumour_was_found_none_appears(case):
    images, _, _, classes = case
    nothing = np.stack([0.9 + 0 * classes[0], 0.1 + 0 * classes[0]])
    np.testing.assert_array_equal(fit_classes(nothing, images, SPACING), nothing)
    np.testing.assert_array_equal(fit_classes(classes, 0 * images, SPACING), classes)


@pytest.mark.parametrize("missing", [(0,), (3,), (0, 1), (0, 1, 2)])
def test_modalities_may_be_missing(case, missing):
    images, tumour, _, classes = case
    some = images.copy()
    some[..., list(missing)] = 0
    assert dice(fit_classes(classes, some, SPACING)[0] < 0.5, tumour) > 0.8


def test_thick_slices_and_fine_pixels(case):
    """The same scan in slices of 6 mm and pixels of 1 mm."""
    images, tumour, _, classes = (np.asarray(one) for one in case)

    def other(volume: np.ndarray) -> np.ndarray:
        return volume[1::3].repeat(2, axis=1).repeat(2, axis=2)

    classes = np.stack([other(one) for one in classes])
    found = fit_classes(classes, other(images), (6.0, 1.0, 1.0))
    assert found.shape == classes.shape
    assert dice(found[0] < 0.5, other(tumour)) > 0.8


def test_a_tumour_on_both_sides_stays(case):
    """Two foci that mirror each other: their asymmetry is none."""
    images, tumour, _, _ = case
    both = images.copy()
    mirrored = tumour[:, :, ::-1]
    both[mirrored] = images[:, :, ::-1][mirrored]
    whole = np.maximum(rough(tumour), rough(mirrored))
    found = fit_classes(np.stack([1 - whole, whole]), both, SPACING)[0] < 0.5
    assert dice(found, tumour | mirrored) > dice(whole > 0.5, tumour | mirrored)
