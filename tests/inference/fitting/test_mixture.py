"""Mixtures of normal distributions: densities by scipy, and components that are found again."""

import numpy as np
from scipy.stats import multivariate_normal

from samjax.inference.fitting.mixture import Mixture, fitted_mixture


def drawn(rng: np.random.Generator) -> np.ndarray:
    """3,000 samples around (0, 0), 1,000 around (3, -2)."""
    return np.concatenate([rng.normal((0, 0), (0.5, 1.0), (3000, 2)), rng.normal((3, -2), 0.3, (1000, 2))]).astype(
        np.float32
    )


def test_the_density_is_scipys():
    rng = np.random.default_rng(0)
    spread = np.array([[0.5, 0.2], [0.2, 0.3]])
    mixture = Mixture(np.array([0.25, 0.75]), np.array([[0.0, 1.0], [2.0, 0.0]]), np.stack([spread, 2 * spread]))
    samples = rng.normal(0, 2, (50, 2)).astype(np.float32)
    expected = 0.25 * multivariate_normal([0, 1], spread).pdf(samples)
    expected += 0.75 * multivariate_normal([2, 0], 2 * spread).pdf(samples)
    np.testing.assert_allclose(mixture.log_density(samples), np.log(expected), rtol=1e-4, atol=1e-4)


def test_components_are_found_with_their_shares():
    rng = np.random.default_rng(1)
    samples = drawn(rng)
    found = fitted_mixture(samples, np.ones(len(samples), np.float32), 2, rng)
    for _ in range(30):
        found = found.updated(samples, np.ones(len(samples), np.float32))
    order = np.argsort(found.shares)
    np.testing.assert_allclose(found.shares[order], [0.25, 0.75], atol=0.02)
    np.testing.assert_allclose(found.means[order], [[3, -2], [0, 0]], atol=0.1)
    np.testing.assert_allclose(np.sqrt(found.covariances[order[0]].diagonal()), 0.3, atol=0.03)


def test_samples_without_weight_do_not_count():
    rng = np.random.default_rng(2)
    samples = drawn(rng)
    weights = (np.arange(len(samples)) < 3000).astype(np.float32)
    found = fitted_mixture(samples, weights, 1, rng)
    np.testing.assert_allclose(found.means[0], samples[:3000].mean(0), atol=1e-2)


def test_a_component_of_equal_samples_keeps_some_spread():
    samples = np.ones((100, 3), np.float32)
    found = fitted_mixture(samples, np.ones(100, np.float32), 2, np.random.default_rng(0))
    assert np.isfinite(found.log_density(samples)).all()
