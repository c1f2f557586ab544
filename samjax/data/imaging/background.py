"""Finds the value of the voxels outside the brain."""

import numpy as np

EDGE_SHARE = 0.5
"""Share of the voxels at the edge from which on their commonest value counts as a constant background."""
_FEW, _OFTENER = 0.1, 10
"""Where the head reaches the edge, the first is enough as a share if it is the second times the next value's share."""


def background_of(array: np.ndarray) -> float:
    """The value outside the brain.

    It is the commonest value at the edge if that is constant and more frequent than 0 (scans with an offset, z-scores
    with an added constant); else the lowest value if that is negative and more frequent than 0; else 0.

    Args:
      array: (slice, row, column) of any real type.
    """
    value = _constant(edge(array))
    if value:
        count = np.count_nonzero(array == value)
        if array.size > count > np.count_nonzero(array == 0):
            return value
    lowest = array.min()
    if lowest < 0 and np.count_nonzero(array == lowest) > np.count_nonzero(array == 0):
        return lowest.item()
    return 0


def edge(array: np.ndarray) -> np.ndarray:
    """The voxels of (slice, row, column) in the first and last row and column: outside of the head in any slice.

    The first and last slice are left out, since a brain that is not covered whole fills them.
    """
    return np.concatenate([array[:, [0, -1]].ravel(), array[:, 1:-1, [0, -1]].ravel()])


def _constant(values: np.ndarray) -> float | None:
    """The value of a constant background among the voxels at the edge; None if there is none."""
    value, share = commonest(values)
    rest = values[values != value]
    next_share = commonest(rest)[1] * rest.size / values.size if rest.size else 0
    return value if share >= EDGE_SHARE or share >= max(_FEW, _OFTENER * next_share) else None


def commonest(values: np.ndarray) -> tuple[float, float]:
    """The most frequent value, and its share of all values."""
    found, counts = np.unique(values, return_counts=True)
    return found[counts.argmax()].item(), float(counts.max() / values.size)
