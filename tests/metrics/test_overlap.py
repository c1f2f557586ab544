"""Overlaps and boundary distances: by hand, against plain loops, and the policy for empty masks."""

import subprocess
import sys
from math import hypot, sqrt

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.metrics import overlap as metrics
from tests.metrics.masks import SPACINGS, block, empty, pairs, plain_boundary, plain_distances

OVERLAPS = {
    "dice": metrics.dice,
    "volume_similarity": metrics.volume_similarity,
    "sensitivity": metrics.sensitivity,
    "precision": metrics.precision,
    "surface_dice": lambda p, t: metrics.surface_dice(p, t, (1.0,) * p.ndim, 1.0),
}
DISTANCES = {"hd95": metrics.hd95, "pooled": metrics.hd95_pooled, "by area": metrics.hd95_by_area}
CASES = [(ndim, name) for ndim in (2, 3) for name in pairs(ndim)]


def pixels(*places, shape=(9, 9)):
    mask = empty(*shape)
    for place in places:
        mask[place] = True
    return mask


def test_overlaps_by_hand():
    # Rows of 2 and of 4 pixels of which 2 are shared.
    pred, true = block((4, 8), (1, 2), (2, 4)), block((4, 8), (1, 2), (2, 6))
    assert metrics.dice(pred, true) == pytest.approx(2 * 2 / (2 + 4))
    assert metrics.volume_similarity(pred, true) == pytest.approx(1 - 2 / 6)
    assert metrics.sensitivity(pred, true) == 0.5
    assert metrics.precision(pred, true) == 1.0
    assert metrics.sensitivity(true, pred) == 1.0
    assert metrics.precision(true, pred) == 0.5


def test_overlaps_of_disjoint_masks():
    pred, true = block((4, 8), (0, 1), (0, 4)), block((4, 8), (3, 4), (0, 4))
    assert [metrics.dice(pred, true), metrics.sensitivity(pred, true), metrics.precision(pred, true)] == [
        0,
        0,
        0,
    ]
    assert metrics.volume_similarity(pred, true) == 1.0


def test_distances_of_single_voxels():
    pred, true = pixels((0, 0, 0), shape=(4, 4, 4)), pixels((1, 2, 3), shape=(4, 4, 4))
    assert metrics.hd95(pred, true, (3.0, 2.0, 1.0)) == pytest.approx(sqrt(3**2 + 4**2 + 3**2))
    assert metrics.hd95_pooled(pred, true, (3.0, 2.0, 1.0)) == pytest.approx(sqrt(3**2 + 4**2 + 3**2))


def test_percentiles_by_hand():
    # From the prediction 0 and hypot(2 * 2, 4 * 0.5); from the truth 0. The 95th percentile of two values
    # lies at 0.95 between them; of all three, at 0.9 between the second and the third.
    pred, true = pixels((1, 1), (3, 5)), pixels((1, 1))
    assert metrics.hd95(pred, true, (2.0, 0.5)) == pytest.approx(0.95 * hypot(4, 2))
    assert metrics.hd95(true, pred, (2.0, 0.5)) == pytest.approx(0.95 * hypot(4, 2))
    assert metrics.hd95_pooled(pred, true, (2.0, 0.5)) == pytest.approx(0.9 * hypot(4, 2))


def test_distances_between_boundaries_not_bodies():
    # A pixel amid a 7 x 7 square: 3 to its boundary though it lies inside. From the 24 boundary pixels:
    # 4 corners at 3 sqrt(2), 8 at sqrt(13), the rest nearer; the rank 0.95 * 23 = 21.85 is among the corners.
    pred, true = pixels((4, 4)), block((9, 9), (1, 8), (1, 8))
    assert metrics.hd95(pred, true, (1.0, 1.0)) == pytest.approx(3 * sqrt(2))


def test_a_few_outliers_do_not_count():
    # 60 boundary pixels and a far one: rank 0.95 * 60 = 57 is still at distance 0.
    true = block((40, 20), (0, 16), (0, 16))
    pred = true | block((40, 20), (39, 40), (19, 20))
    assert metrics.hd95(pred, true, (1.0, 1.0)) == 0
    # With four far ones rank 0.95 * 63 = 59.85 lies between the last 0 and the nearest far, at hypot(20, 4).
    pred |= block((40, 20), (35, 39), (19, 20))
    pred[39, 19] = False
    assert metrics.hd95(pred, true, (1.0, 1.0)) == pytest.approx(0.85 * hypot(20, 4))


def test_surface_dice_by_hand():
    # Two pixels 3 apart. Each has four surface elements of equal length; two of them are 2 from the other's,
    # two are 3 from it.
    pred, true = pixels((2, 1)), pixels((2, 4))
    for tolerance, near in ((1.999, 0), (2.0, 0.5), (2.999, 0.5), (3.0, 1.0)):
        assert metrics.surface_dice(pred, true, (1.0, 1.0), tolerance) == near
    assert metrics.hd95_by_area(pred, true, (1.0, 1.0)) == 3


def test_surface_elements_weigh_by_area():
    # A 14 x 14 square has 52 whole edge elements and 4 corners of sqrt(1/2); a far pixel adds 4 such corners:
    # 4 of 60 elements, but 2.83 of 57.66 in length, less than a twentieth.
    true = block((40, 40), (0, 14), (0, 14))
    pred = true | block((40, 40), (39, 40), (39, 40))
    assert metrics.hd95_by_area(pred, true, (1.0, 1.0)) == 0
    length = 52 + 4 * sqrt(1 / 2)
    expected = 2 * length / (2 * length + 4 * sqrt(1 / 2))
    assert metrics.surface_dice(pred, true, (1.0, 1.0), 1.0) == pytest.approx(expected)
    # A 13 x 13 square leaves the pixel more than a twentieth; its nearest corner elements are 26 away.
    true = block((40, 40), (0, 13), (0, 13))
    pred = true | block((40, 40), (39, 40), (39, 40))
    assert metrics.hd95_by_area(pred, true, (1.0, 1.0)) == pytest.approx(hypot(26, 26))


@pytest.mark.parametrize(("ndim", "name"), CASES)
def test_distances_against_plain_loops(ndim, name):
    pred, true = pairs(ndim)[name]
    p, t = plain_boundary(pred), plain_boundary(true)
    for spacing in SPACINGS[ndim]:
        there, back = plain_distances(p, t, spacing), plain_distances(t, p, spacing)
        assert metrics.hd95(pred, true, spacing) == pytest.approx(
            max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-12
        )
        assert metrics.hd95_pooled(pred, true, spacing) == pytest.approx(
            np.percentile(np.concatenate([there, back]), 95), rel=1e-12
        )


@pytest.mark.parametrize("shape", [(30, 40), (2, 30, 40)])
def test_both_empty(shape):
    none, spacing = empty(*shape), (2.0, 3.0, 4.0)[-len(shape) :]
    assert [overlap(none, none) for overlap in OVERLAPS.values()] == [1.0] * 5
    assert [distance(none, none, spacing) for distance in DISTANCES.values()] == [0.0] * 3
    assert metrics.score(none, none, spacing) == {
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
        row = metrics.score(pred, true, spacing)
        assert (row["dice"], row["hd95"]) == (0.0, pytest.approx(diagonal))
        assert (row["pred_pixels"], row["true_pixels"]) == (pred.sum(), true.sum())


def test_score_row():
    pred, true = pairs(3)["balls"]
    assert metrics.score(pred, true, (3.0, 0.9, 0.9)) == {
        "true_pixels": true.sum(),
        "pred_pixels": pred.sum(),
        "dice": metrics.dice(pred, true),
        "hd95": metrics.hd95(pred, true, (3.0, 0.9, 0.9)),
    }


@pytest.mark.parametrize("spacing", SPACINGS[3])
@pytest.mark.parametrize("name", pairs(3))
def test_slices_score_as_one_by_one(name, spacing):
    pred, true = (mask.copy() for mask in pairs(3)[name])
    pred[0], true[0] = False, False
    pred[4] = False
    true[7] = False
    columns = metrics.score_slices(pred, true, spacing)
    rows = [metrics.score(p, t, spacing[1:]) for p, t in zip(pred, true, strict=True)]
    for name, column in columns.items():
        np.testing.assert_allclose(column, [row[name] for row in rows], rtol=1e-12)


def test_slices_of_an_empty_volume():
    columns = metrics.score_slices(empty(4, 3, 4), empty(4, 3, 4), (1.0, 1.0, 1.0))
    assert {name: column.tolist() for name, column in columns.items()} == {
        "true_pixels": [0] * 4,
        "pred_pixels": [0] * 4,
        "dice": [1.0] * 4,
        "hd95": [0.0] * 4,
    }


def test_masks_are_only_read():
    pred, true = pairs(3)["full"]
    for mask in (pred, true):
        mask.flags.writeable = False
    before = pred.copy(), true.copy()
    metrics.score(pred, true, (1.0, 1.0, 1.0))
    metrics.score_slices(pred, true, (1.0, 1.0, 1.0))
    metrics.surface_dice(pred, true, (1.0, 1.0, 1.0), 1.0)
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
    with pytest.raises(UserError, match=message):
        metrics.dice(pred, true)


def test_slices_need_a_volume():
    with pytest.raises(UserError, match="expected a 3-D boolean mask"):
        metrics.score_slices(empty(3, 4), empty(3, 4), (1.0, 1.0))


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 1.0, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, np.nan)])
def test_refuses_other_spacing(spacing):
    for measure in (*DISTANCES.values(), metrics.score):
        with pytest.raises(UserError, match="expected one positive number per axis"):
            measure(empty(3, 4), empty(3, 4), spacing)


@pytest.mark.parametrize("tolerance", [-1.0, np.nan])
def test_refuses_other_tolerance(tolerance):
    with pytest.raises(UserError, match="expected 0 or more"):
        metrics.surface_dice(empty(3, 4), empty(3, 4), (1.0, 1.0), tolerance)


def test_imports_are_light():
    code = (
        "import sys, samjax.metrics.overlap, samjax.metrics.lesions, samjax.evaluation.summary\n"
        "print([name for name in ('jax', 'flax', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
