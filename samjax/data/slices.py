"""Selection of the slices of a volume: windows for training, and the test protocols.

All functions use `counts` (Z, 4), the pixels of background and of each compartment in every slice (`volumes.Volume`).
"""

import numpy as np

from samjax.data.labels import roi_codes
from samjax.errors import UserError

# The regions of interest of the decoder fine-tuning paper, and its fewest pixels.
DECATHLON_ROIS = ("edema", "non-enhancing", "enhancing", "whole-tumor")
DECATHLON_PIXELS = 250


def roi_pixels(counts: np.ndarray, roi: str) -> np.ndarray:
    """The pixels of a region in every slice, (Z,)."""
    return counts[:, list(roi_codes(roi))].sum(axis=1)


def windows(counts: np.ndarray, depth: int, roi: str, min_pixels: int, offset: int = 0) -> np.ndarray:
    """The training windows of a volume: the first slices of those that show enough of the region.

    Windows are `depth` neighbouring slices in anatomical order, side by side from slice `offset` on; one
    counts where at least one of its slices has `min_pixels` of the region. Slices before `offset`
    and after the last whole window are left to other offsets. A volume of fewer slices than `depth` is
    one window, the rest of which is background.

    Returns:
      int64 (n,), increasing.
    """
    starts = _starts(len(counts), depth, offset)
    return starts[_most(roi_pixels(counts, roi), starts, depth) >= min_pixels]


def empty_windows(
    counts: np.ndarray,
    depth: int,
    roi: str,
    offset: int,
    share: float,
    rng: np.random.Generator,
    brain: tuple[int, int] | None = None,
    min_pixels: int = 1,
) -> np.ndarray:
    """Windows without the region, drawn so that they make up a `share` of all windows of a volume.

    A window whose pixels are all ignored is not among them.

    Args:
      counts, depth, roi, offset, min_pixels: as for `windows`, whose result these are added to.
      share: their share of the windows of both kinds, in [0, 1); fewer where there are not enough.
      rng: the generator that draws them.
      brain: the slices, from and up to before, that windows must lie in; None: anywhere.

    Returns:
      int64 (n,), increasing.
    """
    if not 0 <= share < 1:
        raise UserError(f"--empty-share {share:g}: expected a share from 0 up to below 1")
    starts = _starts(len(counts), depth, offset)
    most = _most(roi_pixels(counts, roi), starts, depth)
    first, last = brain or (0, len(counts))
    labelled = _most(counts.sum(axis=1), starts, depth) > 0
    empty = starts[(most == 0) & labelled & (starts >= first) & (starts + depth <= last)]
    wanted = round(np.count_nonzero(most >= min_pixels) * share / (1 - share))
    return np.sort(rng.choice(empty, min(wanted, len(empty)), replace=False))


def enough_pixels(counts: np.ndarray, roi: str, min_pixels: int) -> np.ndarray:
    """Bool (Z,): the slices with at least `min_pixels` of the region."""
    return roi_pixels(counts, roi) >= min_pixels


def decathlon_slices(counts: np.ndarray, min_pixels: int = DECATHLON_PIXELS) -> np.ndarray:
    """Bool (Z,): the slices that the paper tests on, in which each of its regions has `min_pixels`."""
    return np.all([enough_pixels(counts, roi, min_pixels) for roi in DECATHLON_ROIS], axis=0)


def _starts(slices: int, depth: int, offset: int) -> np.ndarray:
    if slices <= depth:
        return np.zeros(1, np.int64)
    return np.arange(offset % depth, slices - depth + 1, depth)


def _most(pixels: np.ndarray, starts: np.ndarray, depth: int) -> np.ndarray:
    """The largest number of pixels that any slice of each window has."""
    padded = np.concatenate([pixels, np.zeros(depth, pixels.dtype)])
    return padded[starts[:, None] + np.arange(depth)].max(axis=1)
