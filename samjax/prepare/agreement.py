"""How well two registered scans agree inside the brain, and signs that a registration is wrong."""

from dataclasses import dataclass

import numpy as np

BINS = 32
MOVED = 6.0
"""Millimetres by which one scan is moved to see whether the agreement is lost."""
LEAST_PEAK = 1.6
"""Mutual information over that after moving below which a registration is doubtful.

Generated heads: at least 1.85 for two scans of one head, however thick and noisy; at most 1.4 for two heads.
"""
LEAST_COVERED = 0.9
"""Share of the brain that a scan must show."""
_FEWEST = 1000
"""Voxels that two scans must share for any agreement to be computed."""


@dataclass(frozen=True)
class Agreement:
    """Mutual information (nats) of two scans within the brain, before and after registration.

    `peak` is that after it over its mean when one scan is moved by `MOVED` along each axis; `covered` the share of the
    brain that the registered scan shows.
    """

    before: float
    after: float
    peak: float
    covered: float

    def doubts(self, modality: str, reference: str) -> list[str]:
        """Sentences on what is unusual."""
        doubts = []
        if self.peak < LEAST_PEAK:
            doubts.append(
                f"{modality} may be badly registered, or not of the same head: moved by {MOVED:g} mm it would agree "
                f"with {reference} nearly as well (mutual information {self.after:.2f}, and {self.moved:.2f}); look "
                "at the picture"
            )
        if self.covered < LEAST_COVERED:
            doubts.append(f"{modality} shows only {100 * self.covered:.0f} % of the brain; it is background elsewhere")
        return doubts

    @property
    def moved(self) -> float:
        """The mean mutual information when one scan is moved."""
        return self.after / self.peak if self.peak else self.after


def agreement(
    reference: np.ndarray, before: np.ndarray, after: np.ndarray, brain: np.ndarray, spacing: float
) -> Agreement:
    """Compares a scan, before and after registration, with the reference.

    Args:
      reference: (slice, row, column) float32 on an isotropic grid.
      before, after: the other scan on that grid, NaN where it does not reach.
      brain: bool mask.
      spacing: millimetres between voxels.
    """
    step = max(1, round(MOVED / spacing))
    moved = [
        mutual_information(reference, np.roll(after, sign * step, axis), brain) for axis in range(3) for sign in (-1, 1)
    ]
    value = mutual_information(reference, after, brain)
    mean = float(np.mean(moved))
    return Agreement(
        before=mutual_information(reference, before, brain),
        after=value,
        peak=value / mean if mean > 0 else 0.0,
        covered=float(np.isfinite(after[brain]).mean()),
    )


def mutual_information(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Mutual information in nats of two images within a mask, where both are finite; 0 if that is nearly nowhere."""
    both = mask & np.isfinite(first) & np.isfinite(second)
    if np.count_nonzero(both) < _FEWEST:
        return 0.0
    values = [image[both].astype(np.float64) for image in (first, second)]
    clipped = [np.clip(value, *np.percentile(value, (1, 99))) for value in values]
    if any(value.min() == value.max() for value in clipped):
        return 0.0
    joint = np.histogram2d(*clipped, BINS)[0]
    joint /= joint.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return float(np.sum(joint[there] * np.log(joint[there] / apart[there])))
