"""Whole heads as voxels: fractions that sum to one, what lies where, and blocks that fit together."""

import numpy as np
import pytest

from samjax.data.synthetic import anatomy
from samjax.data.synthetic.anatomy import HEAD_TISSUES, INSIDE, SHARE_STEPS, Shell, packed, tissue_shares


@pytest.fixture(scope="module")
def slab():
    subject = anatomy.draw_subject(np.random.default_rng(3))
    return lambda slices: anatomy._slab(subject, Shell(5, 5, 0.4), np.asarray(slices))


def unpacked(voxels):
    """Fractions (n, tissues) of voxels (n, 2)."""
    share = (voxels[:, 1] % INSIDE) / SHARE_STEPS
    fractions = np.zeros((len(voxels), len(HEAD_TISSUES)))
    np.add.at(fractions, (np.arange(len(voxels)), voxels[:, 0] % 16), 1 - share)
    np.add.at(fractions, (np.arange(len(voxels)), voxels[:, 0] // 16), share)
    return fractions


def test_voxels_hold_the_two_largest_fractions():
    rng = np.random.default_rng(0)
    fractions = np.zeros((len(HEAD_TISSUES), 50), np.float32)
    chosen = np.array([rng.permutation(len(HEAD_TISSUES))[:2] for _ in range(50)])
    first = rng.uniform(0.5, 1, 50)
    fractions[chosen[:, 0], np.arange(50)] = first
    fractions[chosen[:, 1], np.arange(50)] = 1 - first
    inside = rng.random(50) < 0.5
    voxels = packed(fractions, inside)
    np.testing.assert_allclose(unpacked(voxels), fractions.T, atol=0.5 / SHARE_STEPS + 1e-6)
    np.testing.assert_array_equal(voxels[:, 1] >= INSIDE, inside)


def test_the_fractions_of_every_voxel_sum_to_one_and_their_totals_agree(slab):
    voxels = slab([100])
    fractions = unpacked(voxels.reshape(-1, 2))
    np.testing.assert_allclose(fractions.sum(axis=1), 1)
    np.testing.assert_allclose(tissue_shares(voxels)[0], fractions.sum(axis=0), rtol=1e-5)
    inside = voxels[..., 1].ravel() >= INSIDE
    np.testing.assert_allclose(tissue_shares(voxels)[1], fractions[inside].sum(axis=0), rtol=1e-5)


def test_a_slice_shows_brain_inside_bone_inside_fat(slab):
    first = slab([110])[0, ..., 0] % 16
    middle = first[:, 100]
    tissues = [HEAD_TISSUES[code] for code in middle]
    assert {"white", "grey", "csf", "bone", "fat"} <= {HEAD_TISSUES[code] for code in np.unique(first)}
    assert tissues[0] == "air"
    assert tissues[-1] == "air"
    assert tissues.index("fat") < tissues.index("bone") < tissues.index("white")


def test_slices_do_not_depend_on_the_block_they_are_made_in(slab):
    np.testing.assert_array_equal(slab([90, 91])[1], slab([91])[0])
