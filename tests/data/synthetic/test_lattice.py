"""Smooth fields on a lattice."""

import numpy as np

from samjax.data.synthetic.lattice import Lattice, smooth_field

STEPS = np.array([[2.0, 0.1, 0.0], [0.0, 1.0, 0.2], [0.1, 0.0, -1.0]])


def field(lattice, wavelength=12.0, seed=1):
    return smooth_field(np.random.default_rng(seed), lattice, wavelength)


def test_points_lie_at_the_origin_and_the_steps():
    points = Lattice(np.array([5.0, 6.0, 7.0]), STEPS, (3, 4, 5)).points()
    np.testing.assert_allclose(points[:, 2, 3, 4], [5, 6, 7] + np.array([2, 3, 4]) @ STEPS, rtol=1e-6)


def test_a_part_of_a_lattice_shows_that_part_of_the_field():
    whole = Lattice(np.array([5.0, 6.0, 7.0]), STEPS, (6, 20, 30))
    part = whole.part((1, 4, 5), (4, 18, 22))
    np.testing.assert_allclose(part.points(), whole.points()[:, 1:4, 4:18, 5:22], rtol=1e-5)
    np.testing.assert_allclose(field(part), field(whole)[1:4, 4:18, 5:22], atol=1e-4)


def test_a_field_has_unit_variance_and_its_wavelength():
    lattice = Lattice(np.zeros(3), np.eye(3), (20, 120, 120))
    values = np.stack([field(lattice, seed=seed) for seed in range(8)])
    assert abs(values.mean()) < 0.1
    assert abs(values.std() - 1) < 0.15
    # Half a wavelength on, waves of all directions are mostly against themselves; a hundredth on, the same.
    near, far = ((values[..., :100] * values[..., shift : shift + 100]).mean() for shift in (1, 8))
    assert near > 0.75 > 0.3 > far
