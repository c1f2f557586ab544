"""One metric over many cases: mean, spread, bootstrap interval, and the mean without the empty cases."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_RESAMPLES = 2000


@dataclass(frozen=True)
class Summary:
    """Statistics of one metric over cases; None where there are too few cases to tell."""

    mean: float | None
    sd: float | None
    """Standard deviation of the sample (n - 1)."""
    ci95: tuple[float, float] | None
    """95 % interval of the mean."""
    n: int
    mean_nonempty: float | None
    """Mean over the cases whose truth is not empty."""
    n_nonempty: int


def summarise(values: ArrayLike, nonempty: ArrayLike, patients: Sequence[str] | None = None, seed: int = 0) -> Summary:
    """Mean, spread and uncertainty of one metric over cases, and the mean without the empty ones.

    The interval is a percentile bootstrap: the 2.5th and 97.5th percentile of the means of 2000 samples, each drawn
    with replacement from the patients. All cases of a patient are drawn together, since slices of one volume are not
    independent. The same input and seed give the same interval.

    Args:
        values: (n,) one value per case.
        nonempty: (n,) bool, whether the truth of the case has any voxel of the region.
        patients: (n,) the patient of each case; every case is its own patient if None.
        seed: seed of the bootstrap.

    Raises:
        ValueError: the lists differ in length, or a value is not finite.
    """
    values, nonempty = np.asarray(values, float), np.asarray(nonempty, bool)
    if values.ndim != 1 or nonempty.shape != values.shape or not np.isfinite(values).all():
        raise ValueError(
            f"summary of values of shape {values.shape} and nonempty of shape {nonempty.shape}: "
            "expected two lists of equal length, the values finite"
        )
    groups = np.arange(values.size) if patients is None else np.unique(patients, return_inverse=True)[1]
    if groups.size != values.size:
        raise ValueError(f"summary of {values.size} values with {groups.size} patients: expected one for each")
    return Summary(
        mean=_mean(values),
        sd=float(values.std(ddof=1)) if values.size > 1 else None,
        ci95=_bootstrap(values, groups, seed),
        n=values.size,
        mean_nonempty=_mean(values[nonempty]),
        n_nonempty=int(nonempty.sum()),
    )


def _mean(values: NDArray) -> float | None:
    return float(values.mean()) if values.size else None


def _bootstrap(values: NDArray, groups: NDArray, seed: int) -> tuple[float, float] | None:
    """The 95 % interval of the mean when whole groups (0 ..) are resampled; None for fewer than two."""
    sizes = np.bincount(groups)
    if sizes.size < 2:
        return None
    sums = np.bincount(groups, weights=values)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(_RESAMPLES):
        drawn = rng.integers(sizes.size, size=sizes.size)
        means.append(sums[drawn].sum() / sizes[drawn].sum())
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
