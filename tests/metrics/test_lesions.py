"""Lesion-wise scores on small cases whose numbers follow from the 2023 definition by hand."""

import numpy as np
import pytest

from samjax.metrics.lesions import RULES, LesionScores, lesion_scores
from tests.metrics.masks import block, empty

SHAPE = (30, 30, 30)
MM = (1.0, 1.0, 1.0)


def cube(z, y, x, side=4):
    """A cube of `side`^3 voxels; one of 4 mm (64 mm3) is above every challenge's threshold."""
    return block(SHAPE, (z, z + side), (y, y + side), (x, x + side))


def voxel(z, y, x):
    return cube(z, y, x, side=1)


def test_perfect():
    true = cube(2, 2, 2) | cube(20, 20, 20)
    assert lesion_scores(true, true, MM, "GLI") == LesionScores(1.0, 0.0, found=2, missed=0, false_positives=0)


def test_missed_lesion():
    true, pred = cube(2, 2, 2) | cube(20, 20, 20), cube(2, 2, 2)
    expected = LesionScores((1 + 0) / 2, (0 + 374) / 2, found=1, missed=1, false_positives=0)
    assert lesion_scores(pred, true, MM, "GLI") == expected


def test_false_positives_count_whatever_their_size():
    true = cube(2, 2, 2)
    pred = true | voxel(20, 20, 20) | cube(2, 2, 20)
    expected = LesionScores((1 + 0 + 0) / 3, (0 + 374 + 374) / 3, found=1, missed=0, false_positives=2)
    assert lesion_scores(pred, true, MM, "GLI") == expected


@pytest.mark.parametrize(
    ("pred", "true", "dice", "hd95"),
    [
        (empty(*SHAPE), empty(*SHAPE), 1.0, 0.0),
        (empty(*SHAPE), cube(2, 2, 2), 0.0, 374.0),
        (cube(2, 2, 2), empty(*SHAPE), 0.0, 374.0),
        (empty(*SHAPE), cube(2, 2, 2, side=3), 1.0, 0.0),  # 27 mm3: too small to be missed
    ],
)
def test_empty_masks(pred, true, dice, hd95):
    scores = lesion_scores(pred, true, MM, "GLI")
    assert (scores.dice, scores.hd95) == (dice, hd95)


def test_dice_and_distance_of_one_lesion():
    # A cube of 4 against the same with one more layer: 64 of 64 and 80. The 95 % of surface: of the larger
    # body's, the added end (4 corners, 12 edge elements, 9 of face: 18.35 of its 95.19 mm2) is 1 mm away.
    true, pred = cube(10, 10, 10), block(SHAPE, (10, 15), (10, 14), (10, 14))
    scores = lesion_scores(pred, true, MM, "GLI")
    assert scores.dice == pytest.approx(2 * 64 / (64 + 80))
    assert scores.hd95 == 1.0
    assert lesion_scores(pred, true, (2.5, 1.0, 1.0), "GLI").hd95 == 2.5


def test_near_prediction_matches_without_overlap():
    # Three dilations reach the voxel after a gap of 2. The surfaces are the same but 6 mm apart: the far end
    # of each (18.35 of its 81.19 mm2) is 6 mm from the other.
    true = cube(5, 5, 5)
    assert lesion_scores(cube(5, 5, 11), true, MM, "GLI") == LesionScores(0.0, 6.0, 1, 0, 0)
    assert lesion_scores(cube(5, 5, 12), true, MM, "GLI") == LesionScores(0.0, 374.0, 0, 1, 1)
    # One dilation reaches the neighbour only.
    assert lesion_scores(cube(5, 5, 9), true, MM, "MEN") == LesionScores(0.0, 4.0, 1, 0, 0)
    assert lesion_scores(cube(5, 5, 10), true, MM, "MEN") == LesionScores(0.0, 374.0, 0, 1, 1)


@pytest.mark.parametrize(
    ("step", "touched"),
    [((3, 0, 0), True), ((2, 2, 2), True), ((3, 3, 0), True), ((3, 3, 1), False), ((3, 2, 2), False)],
)
def test_dilation_grows_across_faces_and_edges_not_corners(step, touched):
    # A step moves along at most two axes: three of them make at most 3 along one axis and 6 in sum.
    true = cube(5, 5, 5)
    pred = voxel(*(8 + along for along in step))
    assert lesion_scores(pred, true, MM, "GLI").found == touched
    assert lesion_scores(pred, true, MM, "GLI").false_positives == (not touched)


@pytest.mark.parametrize(("challenge", "gap"), [("GLI", 6), ("SSA", 6), ("PED", 6), ("MEN", 2), ("MET", 2)])
def test_near_parts_of_the_truth_are_one_lesion(challenge, gap):
    # Dilated by n, parts with a gap of 2 n touch. Of 128 voxels 64 are found.
    scores = lesion_scores(cube(5, 5, 5), cube(5, 5, 5) | cube(5, 5, 9 + gap), MM, challenge)
    assert (scores.found, scores.missed, scores.dice) == (1, 0, pytest.approx(2 * 64 / (64 + 128)))
    scores = lesion_scores(cube(5, 5, 5), cube(5, 5, 5) | cube(5, 5, 10 + gap), MM, challenge)
    assert (scores.found, scores.missed, scores.dice) == (1, 1, 0.5)


def test_dilated_parts_that_touch_at_a_corner_are_one_lesion():
    # Dilated once, cubes reach 1 along an axis but not into the corner: with gaps (2, 2, 0) their grown
    # edges meet across an edge or corner, with (2, 2, 2) nothing does.
    first = cube(5, 5, 5)
    assert lesion_scores(first, first | cube(11, 11, 9), MM, "MEN").missed == 0
    assert lesion_scores(first, first | cube(11, 11, 11), MM, "MEN").missed == 1


def test_components_of_the_prediction_connect_across_corners():
    pred = cube(2, 2, 2) | voxel(20, 20, 20) | voxel(21, 21, 21)
    assert lesion_scores(pred, cube(2, 2, 2), MM, "GLI").false_positives == 1


def test_component_over_two_lesions():
    # A bar of 4 x 4 x 22 through two cubes 14 apart: each is scored against the whole bar.
    true = cube(5, 5, 3) | cube(5, 5, 21)
    pred = block(SHAPE, (5, 9), (5, 9), (3, 25))
    scores = lesion_scores(pred, true, MM, "GLI")
    assert scores.dice == pytest.approx(2 * 64 / (64 + 4 * 4 * 22))
    assert (scores.found, scores.missed, scores.false_positives) == (2, 0, 0)


def test_two_components_on_one_lesion():
    true = block(SHAPE, (5, 9), (5, 9), (3, 25))
    pred = cube(5, 5, 3) | cube(5, 5, 21)
    scores = lesion_scores(pred, true, MM, "GLI")
    assert scores == LesionScores(pytest.approx(2 * 128 / (128 + 352)), scores.hd95, 1, 0, 0)
    # The bar's surface is 21 rings of 12 + 4 sqrt(1/2) = 14.83 mm2 and two ends of 18.35, together 348. The
    # middle ring is 7 from both cubes, the two beside it 6: one is less than a twentieth, three are more.
    assert scores.hd95 == 6.0


@pytest.mark.parametrize(
    ("challenge", "sides", "spacing", "counts"),
    [
        ("GLI", (5, 5, 2), MM, False),  # 50 mm3 are not above 50
        ("GLI", (17, 3, 1), MM, True),
        ("MEN", (5, 5, 2), MM, False),
        ("MEN", (17, 3, 1), MM, True),
        ("MET", (1, 1, 2), MM, False),
        ("MET", (1, 1, 3), MM, True),
        ("GLI", (5, 5, 1), (1.0, 1.0, 2.0), False),
        ("GLI", (5, 5, 1), (1.0, 1.0, 2.5), True),
    ],
)
def test_threshold_of_volume(challenge, sides, spacing, counts):
    small = block(SHAPE, *[(2, 2 + side) for side in sides])
    assert lesion_scores(empty(*SHAPE), small, spacing, challenge).missed == counts
    # Ignored or not, what matches it is no false positive.
    scores = lesion_scores(small, small, spacing, challenge)
    assert (scores.found, scores.false_positives, scores.dice, scores.hd95) == (counts, 0, 1.0, 0.0)


def test_ignored_lesion_beside_another():
    true = cube(2, 2, 2) | cube(20, 20, 20, side=3)
    scores = lesion_scores(cube(2, 2, 2), true, MM, "GLI")
    assert scores == LesionScores(1.0, 0.0, found=1, missed=0, false_positives=0)


@pytest.mark.parametrize("corner", [0, 26])
def test_lesions_at_the_border(corner):
    true = cube(corner, corner, corner)
    pred = np.roll(true, 2 if corner == 0 else -2, axis=0)
    assert lesion_scores(pred, true, MM, "GLI") == LesionScores(0.5, 2.0, 1, 0, 0)


def test_rules():
    assert {name: (rule.dilations, rule.ignored_mm3) for name, rule in RULES.items()} == {
        "GLI": (3, 50),
        "SSA": (3, 50),
        "PED": (3, 50),
        "MEN": (1, 50),
        "MET": (1, 2),
    }


def test_refuses_other_input():
    with pytest.raises(ValueError, match="challenge 'ABC', expected one of GLI, SSA, PED, MEN, MET"):
        lesion_scores(empty(*SHAPE), empty(*SHAPE), MM, "ABC")
    with pytest.raises(ValueError, match="expected a 3-D boolean mask"):
        lesion_scores(empty(5, 5), empty(5, 5), (1.0, 1.0), "GLI")
