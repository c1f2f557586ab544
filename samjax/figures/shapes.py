"""Draws pictures of pretraining with the outlines of the target shapes."""

from pathlib import Path

import numpy as np

from samjax.figures.canvas import SCREEN, WIDTH, drawn
from samjax.figures.overlays import clear

COLUMNS = 3


def draw_shapes(path: Path, pictures: np.ndarray, ids: np.ndarray, targets: np.ndarray) -> None:
    """Writes pictures with the outlines of their targets, three in a row, as a PNG.

    Args:
        path: the PNG.
        pictures: (n, S, S, 3) uint8.
        ids: (n, S, S) the number of the shape at each pixel.
        targets: (n, T) the numbers of the target shapes; 0 stands for none.
    """
    rows = -(-len(pictures) // COLUMNS)
    with drawn(path, WIDTH / COLUMNS * rows, suffixes=SCREEN) as figure:
        axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axis in axes:
            clear(axis)
        for axis, picture, own, wanted in zip(axes, pictures, ids, targets, strict=False):
            axis.imshow(picture)
            for target in wanted[wanted > 0]:
                axis.contour(own == target, levels=[0.5], colors="white", linewidths=0.8)
