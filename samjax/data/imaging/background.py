"""The value of the voxels outside of the brain."""

import numpy as np

EDGE_SHARE = 0.5
"""A value that at least so many of the voxels at the edge share is constant there."""
_FEW, _OFTENER = 0.1, 10
"""So is one that fewer share, where the head reaches the edge: so many at least, and so many times the next value's."""


def background_of(array: np.ndarray) -> float:
    """The value outside the brain.

    It is the commonest at the edge, where that is constant and more frequent than 0 (scans with an offset, z-scores
    with whatever was added to them); else the lowest, where that is negative and more frequent than 0; else 0.

    Args:
      array: (slice, row, column) of any real type.
    """
    value = _constant(edge(array))
    if (
        value is not None
        and value != 0
        and array.size > np.count_nonzero(array == value) > np.count_nonzero(array == 0)
    ):
        return value
    lowest = array.min()
    if lowest < 0 and np.count_nonzero(array == lowest) > np.count_nonzero(array == 0):
        return lowest.item()
    return 0


def edge(array: np.ndarray) -> np.ndarray:
    """The voxels of (slice, row, column) in the first and last row and column: outside of the head in any slice.

    The first and last slice are not looked at, since a brain that is not covered whole fills them.
    """
    return np.concatenate([array[:, [0, -1]].ravel(), array[:, 1:-1, [0, -1]].ravel()])


def _constant(values: np.ndarray) -> float | None:
    """The value of a constant background among those at the edge; None where there is none."""
    value, share = commonest(values)
    rest = values[values != value]
    next_share = commonest(rest)[1] * rest.size / values.size if rest.size else 0
    return value if share >= EDGE_SHARE or share >= max(_FEW, _OFTENER * next_share) else None


def commonest(values: np.ndarray) -> tuple[float, float]:
    """The most frequent value, and the share of all that have it."""
    found, counts = np.unique(values, return_counts=True)
    return found[counts.argmax()].item(), float(counts.max() / values.size)
