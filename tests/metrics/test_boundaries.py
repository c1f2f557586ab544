"""Boundaries and nearest distances against plain loops."""

import numpy as np
import pytest

from samjax.metrics.boundaries import boundary, nearest_distances
from tests.metrics.masks import SPACINGS, block, empty, pairs, plain_boundary, plain_distances

CASES = [(ndim, name) for ndim in (2, 3) for name in pairs(ndim)]


@pytest.mark.parametrize(("ndim", "name"), CASES)
def test_boundary(ndim, name):
    mask = pairs(ndim)[name][0]
    np.testing.assert_array_equal(np.argwhere(boundary(mask)), plain_boundary(mask))


def test_boundary_within_slices():
    # Every slice of this block is inside its neighbours but for the rim.
    mask = block((5, 6, 7), (0, 5), (1, 5), (1, 6))
    slices = boundary(mask, axes=(1, 2))
    for index in range(5):
        np.testing.assert_array_equal(slices[index], boundary(mask[index]))
    assert not slices[2, 2, 3]
    assert boundary(mask)[0, 2, 3]


@pytest.mark.parametrize(("ndim", "name"), CASES)
def test_nearest_distances(ndim, name):
    source, target = pairs(ndim)[name]
    source, target = boundary(source), boundary(target)
    for spacing in SPACINGS[ndim]:
        plain = plain_distances(np.argwhere(source), np.argwhere(target), spacing)
        np.testing.assert_allclose(nearest_distances(source, target, spacing), plain, rtol=1e-14)


@pytest.mark.parametrize("exact", [1, 7, 60, 199, 200])
def test_nearest_distances_up_to_a_rank(exact):
    rng = np.random.default_rng(1)
    source, target = empty(300), empty(300)
    source[rng.choice(300, 200, replace=False)] = True
    target[rng.choice(40, 3, replace=False)] = True
    every = np.sort(nearest_distances(source, target, (1.0,)))
    some = np.sort(nearest_distances(source, target, (1.0,), exact))
    np.testing.assert_array_equal(some[:exact], every[:exact])
