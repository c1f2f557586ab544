"""Resampling: it moves nothing, averages where it becomes coarser, and keeps labels, also there and back."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from samjax.data.imaging.geometry import geometry_of
from samjax.data.imaging.resampling import (
    axis_weights,
    nearest_slices,
    resample_images,
    resample_labels,
    resample_region,
    resampled,
    steps_between,
)
from samjax.data.imaging.volumes import Box, Volume, count_codes, resample_volume
from samjax.data.labels import IGNORED
from samjax.metrics.overlap import dice
from samjax.models.resizing import resize_matrix

REAL = os.environ.get("SAMJAX_REAL_DATA")
SPACINGS = (0.5, 0.6, 0.75, 0.9375, 1.2, 1.5, 2.0)
"""In-plane spacings in mm; runs work on 1 mm."""


@pytest.mark.parametrize(("target", "source"), [(9, 5), (240, 218), (31, 30), (7, 1), (6, 6)])
def test_finer_is_linear_interpolation_with_half_pixels(target: int, source: int):
    np.testing.assert_allclose(axis_weights(target, source), resize_matrix(target, source), atol=1e-6)


def test_coarser_is_the_mean_over_the_new_voxel():
    values = np.arange(12.0)
    np.testing.assert_allclose(axis_weights(4, 12) @ values, values.reshape(4, 3).mean(axis=1))
    np.testing.assert_allclose(axis_weights(2, 3), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 21, 30), (20, 15, 60), (3, 40, 11)])
def test_nothing_moves_and_a_plane_stays_flat(shape: tuple[int, int, int]):
    """The centre of mass, as a share of the field of view (half a voxel is 0.008 and more), and a constant."""
    z, y, x = np.meshgrid(*((np.arange(n) + 0.5) / n for n in (9, 30, 24)), indexing="ij")
    blob = np.exp(-(((z - 0.45) / 0.2) ** 2 + ((y - 0.6) / 0.1) ** 2 + ((x - 0.35) / 0.12) ** 2))
    found = resampled(blob, steps_between(shape, blob.shape))
    assert found.dtype == np.float32
    for axis in range(3):
        rest = tuple(other for other in range(3) if other != axis)
        centres = [
            (array.sum(rest) * (np.arange(array.shape[axis]) + 0.5) / array.shape[axis]).sum() / array.sum()
            for array in (blob, found)
        ]
        assert abs(centres[0] - centres[1]) < 4e-3
    np.testing.assert_allclose(resampled(np.full(blob.shape, 7.0), steps_between(shape, blob.shape)), 7, rtol=1e-6)


def test_a_volume_cropped_to_its_box_gives_the_same_bytes():
    rng = np.random.default_rng(0)
    box, geometry = Box((1, 3, 5), (5, 15, 20)), geometry_of((24, 20, 6), np.diag([-0.5, -0.5, 5, 1]), "here")
    images, labels = np.zeros((6, 20, 24, 4), np.uint8), np.zeros((6, 20, 24), np.uint8)
    images[box.index], labels[box.index] = rng.integers(0, 256, (4, 12, 15, 4)), rng.integers(0, 5, (4, 12, 15))
    counts = count_codes(labels[box.index], box, geometry.shape)
    own = Volume(images[box.index], labels[box.index], counts, box, geometry)
    for shape in ((6, 10, 12), (9, 25, 33), (3, 20, 24)):
        steps = steps_between(shape, geometry.shape)
        whole, codes = resample_images(images, steps), resample_labels(labels, steps)
        found = resample_volume(own, shape)
        assert found.geometry.shape == shape
        np.testing.assert_array_equal(found.images, whole[found.box.index])
        np.testing.assert_array_equal(found.labels, codes[found.box.index])
        assert found.images.sum(dtype=int) == whole.sum(dtype=int)
        for code in range(4):
            np.testing.assert_array_equal(found.counts[:, code], (codes == code).sum((1, 2)))


def test_labels_take_the_largest_share_and_ignored_voxels_are_one_of_them():
    labels = np.zeros((1, 6, 2), np.uint8)
    labels[0, :2] = [[1, 1], [1, 2]]
    labels[0, 2:4] = [[IGNORED, IGNORED], [IGNORED, 3]]
    labels[0, 4:] = [[0, 3], [0, 3]]  # as much of one as of the other
    np.testing.assert_array_equal(
        resample_labels(labels, steps_between((1, 3, 1), labels.shape)), [[[1], [IGNORED], [0]]]
    )
    assert not resample_labels(np.zeros((2, 4, 4), np.uint8), steps_between((3, 2, 2), (2, 4, 4))).any()


def test_a_region_keeps_its_slices():
    region = np.zeros((4, 8, 8), bool)
    region[0, 2:6, 2:6], region[1, 7, 7], region[3, 0, 0] = True, True, True
    in_plane = resample_region(region, (4, 4, 4))
    assert in_plane.any((1, 2)).tolist() == [True, True, False, True]
    assert np.argwhere(in_plane[1]).tolist() == [[3, 3]]
    thicker = resample_region(region, (2, 4, 4))
    assert thicker.any((1, 2)).tolist() == [True, True]
    assert np.argwhere(thicker[1]).tolist() == [[0, 0]]
    assert nearest_slices(4, 2).tolist() == [0, 0, 1, 1]
    assert nearest_slices(2, 6).tolist() == [1, 4]


def there_and_back(mask: np.ndarray, shape: tuple[int, int, int]) -> tuple[float, float]:
    """Dice of a mask that went to a grid of `shape` and back as logits, and as the best mask of that grid would."""
    logits = resampled(np.where(mask, 10.0, -10.0), steps_between(shape, mask.shape))
    back = steps_between(mask.shape, shape)
    return tuple(dice(resampled(x, back) > 0, mask) for x in (logits, np.where(logits > 0, 10.0, -10.0)))


def tumour(spacing: float, thickness: float = 5.0) -> np.ndarray:
    """A generated tumour of about 5 cm with an uneven edge, in a field of view of 120 x 120 x 90 mm."""
    sides = [round(length / step) for length, step in zip((90, 120, 120), (thickness, spacing, spacing), strict=True)]
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, 2 * n + 1)[1::2] for n in sides), indexing="ij")
    z, y, x = 45 * z - 3, 60 * y + 5, 60 * x - 8
    radius, round_, high = np.sqrt(z**2 + y**2 + x**2), np.arctan2(y, x), np.arctan2(z, np.hypot(y, x))
    edge = 24 + 4 * np.sin(3 * round_ + 1) * np.cos(high) + 2.5 * np.cos(7 * round_ - 2 * high) + 2 * np.sin(5 * high)
    return radius < edge


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_whole_tumour_there_and_back_as_logits_keeps_its_dice(spacing: float):
    mask = tumour(spacing)
    assert 30 < mask.sum() * 5 * spacing**2 / 1000 < 120  # ml
    in_plane = there_and_back(mask, (18, 120, 120))
    assert min(in_plane) >= 0.98
    assert there_and_back(mask, (30, 120, 120))[0] >= 0.98  # slices of 3 mm


@pytest.mark.skipif(REAL is None, reason="SAMJAX_REAL_DATA is not set")
def test_real_tumours_there_and_back_keep_their_dice():
    """The mean over cases, at all spacings; small ragged ones lose most where their grid is the coarser one."""
    labels = []
    for path in sorted(Path(REAL).glob("brats18/*/*_seg.nii*"))[:4]:
        label = np.asarray(nib.load(path).dataobj).T > 0
        labels.append(label[label.any((1, 2))][::8])
    for spacing in SPACINGS[::2]:
        kept = []
        for label in labels:
            slices, rows, columns = label.shape
            own = resample_region(label, (slices, round(rows / spacing), round(columns / spacing)))
            kept.append(there_and_back(own, (slices, rows, columns)))
        assert np.mean(kept, axis=0).min() >= 0.98, (spacing, kept)
