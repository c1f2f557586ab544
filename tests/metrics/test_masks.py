"""What pairs of masks are accepted, and what empty ones score in every metric."""

import subprocess
import sys

import numpy as np
import pytest

from samjax.metrics.hausdorff import hd95, hd95_by_area, hd95_pooled
from samjax.metrics.masks import crop_to_union
from samjax.metrics.overlap import dice, precision, sensitivity, volume_similarity
from samjax.metrics.scores import score, score_slices
from samjax.metrics.surfaces import surface_dice
from tests.metrics.masks import block, empty, pairs

OVERLAPS = {
    "dice": dice,
    "volume_similarity": volume_similarity,
    "sensitivity": sensitivity,
    "precision": precision,
    "surface_dice": lambda p, t: surface_dice(p, t, (1.0,) * p.ndim, 1.0),
}
DISTANCES = {"hd95": hd95, "pooled": hd95_pooled, "by area": hd95_by_area}


@pytest.mark.parametrize("shape", [(30, 40), (2, 30, 40)])
def test_both_empty(shape):
    none, spacing = empty(*shape), (2.0, 3.0, 4.0)[-len(shape) :]
    assert [overlap(none, none) for overlap in OVERLAPS.values()] == [1.0] * 5
    assert [distance(none, none, spacing) for distance in DISTANCES.values()] == [0.0] * 3
    assert score(none, none, spacing) == {
        "true_pixels": 0,
        "pred_pixels": 0,
        "dice": 1.0,
        "hd95": 0.0,
    }


@pytest.mark.parametrize(
    ("shape", "spacing", "diagonal"),
    [((30, 40), (2.0, 2.0), 100.0), ((12, 30, 20), (1.0, 0.1, 0.2), 13.0)],  # 60, 80; 12, 3, 4
)
def test_one_empty(shape, spacing, diagonal):
    none, some = empty(*shape), block(shape, *[(3, 5)] * len(shape))
    for pred, true in ((some, none), (none, some)):
        assert [overlap(pred, true) for overlap in OVERLAPS.values()] == [0.0] * 5
        for distance in DISTANCES.values():
            assert distance(pred, true, spacing) == pytest.approx(diagonal)
        row = score(pred, true, spacing)
        assert (row["dice"], row["hd95"]) == (0.0, pytest.approx(diagonal))
        assert (row["pred_pixels"], row["true_pixels"]) == (pred.sum(), true.sum())


def test_masks_are_only_read():
    pred, true = pairs(3)["full"]
    for mask in (pred, true):
        mask.flags.writeable = False
    before = pred.copy(), true.copy()
    score(pred, true, (1.0, 1.0, 1.0))
    score_slices(pred, true, (1.0, 1.0, 1.0))
    surface_dice(pred, true, (1.0, 1.0, 1.0), 1.0)
    np.testing.assert_array_equal((pred, true), before)


@pytest.mark.parametrize(
    ("pred", "true", "message"),
    [
        (
            np.full((3, 4), 0.5),
            empty(3, 4),
            "the prediction is 2-D float64, expected a 2-D or 3-D boolean mask",
        ),
        (empty(3, 4), np.ones((3, 4), np.uint8), "the truth is 2-D uint8"),
        (empty(4), empty(4), "1-D bool"),
        (empty(3, 4), empty(4, 3), r"shape \(3, 4\), the truth \(4, 3\)"),
    ],
)
def test_refuses_other_masks(pred, true, message):
    with pytest.raises(ValueError, match=message):
        dice(pred, true)


def test_slices_need_a_volume():
    with pytest.raises(ValueError, match="expected a 3-D boolean mask"):
        score_slices(empty(3, 4), empty(3, 4), (1.0, 1.0))


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 1.0, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, np.nan)])
def test_refuses_other_spacing(spacing):
    for measure in (*DISTANCES.values(), score):
        with pytest.raises(ValueError, match="expected one positive number per axis"):
            measure(empty(3, 4), empty(3, 4), spacing)


@pytest.mark.parametrize("tolerance", [-1.0, np.nan])
def test_refuses_other_tolerance(tolerance):
    with pytest.raises(ValueError, match="expected 0 or more"):
        surface_dice(empty(3, 4), empty(3, 4), (1.0, 1.0), tolerance)


def test_imports_are_light():
    code = (
        "import sys, samjax.metrics.scores, samjax.metrics.lesions, samjax.metrics.rows\n"
        "print([name for name in ('jax', 'flax', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("order", ["C", "F"])
def test_crop_is_the_box_of_both(order):
    first, second = block((9, 8, 7), (2, 4), (3, 4), (1, 2)), block((9, 8, 7), (3, 6), (1, 2), (6, 7))
    crops = crop_to_union(np.asarray(first, order=order), np.asarray(second, order=order))
    for whole, crop in zip((first, second), crops, strict=True):
        np.testing.assert_array_equal(crop, whole[2:6, 1:4, 1:7])
        assert crop.flags.c_contiguous


def test_crop_with_empty_masks():
    some, none = block((5, 6), (1, 3), (2, 6)), empty(5, 6)
    assert [crop.shape for crop in crop_to_union(some, none)] == [(2, 4)] * 2
    assert [crop.size for crop in crop_to_union(none, none)] == [0, 0]
