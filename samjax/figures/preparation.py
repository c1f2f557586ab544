"""The picture by which a person judges how a case was prepared."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samjax.figures.canvas import SCREEN, drawn
from samjax.figures.modalities import TITLES
from samjax.figures.overlays import clear
from samjax.figures.palette import PREDICTION_OUTLINE

ROWS = ("as scanned", "registered", "checkerboard", "from the side", "from the front")
SQUARES = 8
"""Squares of the checkerboard along each side."""
COLUMN = 1.9
"""Width of a slice in inches."""


def draw_preparation(
    path: Path,
    case: str,
    reference: str,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    brain: np.ndarray,
) -> None:
    """Writes a column for each modality, before and after registration, with the outline of the brain.

    The outline is that of the reference: before registration it shows how far a scan was off. The checkerboard changes
    between the reference and the registered scan: edges must go on from square to square.

    Args:
      path: the PNG.
      case: name of the case.
      reference: the modality that the others are registered to; its column comes first.
      before, after: by modality, (slice, row, column) on one isotropic grid, NaN where a scan does not reach.
      brain: bool mask on that grid.
    """
    names = [reference, *(name for name in after if name != reference)]
    middle = np.argwhere(brain).mean(axis=0).round().astype(int)
    axial, side, front = ((middle[0],), (slice(None), slice(None), middle[2]), (slice(None), middle[1]))
    grey = {name: (_grey(before[name], brain), _grey(after[name], brain)) for name in names}
    with drawn(path, COLUMN * len(ROWS), COLUMN * len(names) + 0.2, suffixes=SCREEN, dark=True) as figure:
        axes = figure.subplots(len(ROWS), len(names), squeeze=False)
        for column, name in enumerate(names):
            first, second = grey[name]
            pictures = (
                (first[axial], brain[axial]),
                (second[axial], brain[axial]),
                (_checkerboard(grey[reference][1][axial], second[axial]), None),
                (second[side][::-1], brain[side][::-1]),
                (second[front][::-1], brain[front][::-1]),
            )
            for axis, (picture, outline) in zip(axes[:, column], pictures, strict=True):
                clear(axis)
                axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
                if outline is not None and outline.any() and not outline.all():
                    axis.contour(outline, levels=[0.5], colors=PREDICTION_OUTLINE, linewidths=0.7)
            axes[0, column].set_title(TITLES[name] + (" (reference)" if name == reference else ""), fontsize=7.5)
        for row, title in enumerate(ROWS):
            axes[row, 0].set_ylabel(title, fontsize=7)
        figure.suptitle(f"{case}: the outline is the brain of the reference", fontsize=8)


def _grey(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """An image in [0, 1], scaled by what it shows in the brain; 0 where it does not reach."""
    inside = image[brain & np.isfinite(image)]
    low, high = np.percentile(inside, (0.5, 99.5)) if inside.size else (0.0, 1.0)
    return np.clip((np.nan_to_num(image, nan=low) - low) / max(high - low, 1e-9), 0, 1)


def _checkerboard(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two pictures (rows, columns) in turn, in squares."""
    size = max(1, max(first.shape) // SQUARES)
    rows, columns = np.indices(first.shape) // size
    return np.where((rows + columns) % 2 == 0, first, second)
