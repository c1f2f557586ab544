"""Mixtures of normal distributions, fitted to weighted samples by expectation maximisation (Dempster et al. 1977)."""

from dataclasses import dataclass

import numpy as np

_SPREAD = 2e-3
"""Added to every variance, so that no component shrinks onto a single value."""
_FIRST_ROUNDS = 8


@dataclass(frozen=True)
class Mixture:
    """A mixture of K normal distributions of D features."""

    shares: np.ndarray
    """(K,) float64; their sum is 1."""
    means: np.ndarray
    """(K, D) float64."""
    covariances: np.ndarray
    """(K, D, D) float64."""

    def log_density(self, samples: np.ndarray) -> np.ndarray:
        """The logarithm of the density at samples (n, D) float32: (n,) float32."""
        return np.logaddexp.reduce(self._log_parts(samples), axis=0)

    def updated(self, samples: np.ndarray, weights: np.ndarray) -> "Mixture":
        """The mixture after one round of expectation maximisation.

        Args:
            samples: (n, D) float32.
            weights: how much each sample counts, (n,) float32, from 0 to 1.
        """
        parts = self._log_parts(samples)
        belongs = np.exp(parts - np.logaddexp.reduce(parts, axis=0)) * weights
        totals = belongs.sum(axis=1, dtype=np.float64) + 1e-3
        means = (belongs @ samples) / totals[:, None]
        covariances = np.stack(
            [_covariance(samples, one, mean, total) for one, mean, total in zip(belongs, means, totals, strict=True)]
        )
        return Mixture(totals / totals.sum(), means.astype(np.float64), covariances)

    def _log_parts(self, samples: np.ndarray) -> np.ndarray:
        """The logarithm of each component's part in the density, (K, n) float32."""
        parts = []
        for share, mean, covariance in zip(self.shares, self.means, self.covariances, strict=True):
            whiten = np.linalg.inv(np.linalg.cholesky(covariance)).T
            scaled = samples @ whiten.astype(np.float32) - (mean @ whiten).astype(np.float32)
            constant = np.log(share) + np.log(np.diag(whiten)).sum() - len(mean) / 2 * np.log(2 * np.pi)
            parts.append(np.float32(constant) - np.einsum("nd,nd->n", scaled, scaled) / 2)
        return np.stack(parts)


def fitted_mixture(samples: np.ndarray, weights: np.ndarray, count: int, rng: np.random.Generator) -> Mixture:
    """A mixture of `count` components, begun at samples drawn by their weights.

    Args:
        samples: (n, D) float32.
        weights: (n,) float32, from 0 to 1, not all 0.
    """
    weights = weights + np.float32(1e-6)
    drawn = rng.choice(len(samples), count, p=weights / weights.sum(dtype=np.float64))
    mean = np.average(samples, axis=0, weights=weights)
    covariance = _covariance(samples, weights, mean, weights.sum(dtype=np.float64))
    found = Mixture(np.full(count, 1 / count), samples[drawn].astype(np.float64), np.stack([covariance] * count))
    for _ in range(_FIRST_ROUNDS):
        found = found.updated(samples, weights)
    return found


def _covariance(samples: np.ndarray, weights: np.ndarray, mean: np.ndarray, total: float) -> np.ndarray:
    """The weighted covariance (D, D) float64 of samples around a mean, with `_SPREAD`."""
    centred = samples - mean.astype(np.float32)
    return ((centred * weights[:, None]).T @ centred / total).astype(np.float64) + _SPREAD * np.eye(samples.shape[1])
