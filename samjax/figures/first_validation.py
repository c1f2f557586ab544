"""One validation slice: the channels that enter the model, the label and the prediction."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samjax.figures.canvas import SCREEN, drawn
from samjax.figures.overlays import clear
from samjax.figures.palette import LABEL_OUTLINE, PREDICTION_OUTLINE


def draw_first_validation(
    path: Path, title: str, channels: np.ndarray, names: Sequence[str], label: np.ndarray, predicted: np.ndarray
) -> None:
    """Writes the input channels side by side and, over the last of them, the outlines of label and prediction.

    Args:
        path: the PNG.
        title: name of the slice.
        channels: (rows, columns, C) float32 in [0, 255], as they enter the model.
        names: the name of each channel.
        label, predicted: (rows, columns) bool.
    """
    columns = len(names) + 1
    with drawn(path, 2.3, 1.8 * columns, suffixes=SCREEN, dark=True) as figure:
        axes = figure.subplots(1, columns)
        for axis, index in zip(axes, [*range(len(names)), -1], strict=True):
            clear(axis)
            axis.imshow(channels[..., index], cmap="gray", vmin=0, vmax=255)
        for axis, name in zip(axes, [*names, "label blue, prediction orange"], strict=True):
            axis.set_title(name, fontsize=7.5)
        # A mask of nothing or of everything has no outline, and Matplotlib would warn of it.
        for mask, outline in ((predicted, PREDICTION_OUTLINE), (label, LABEL_OUTLINE)):
            if mask.any() and not mask.all():
                axes[-1].contour(mask, levels=[0.5], colors=outline, linewidths=1)
        figure.suptitle(title, fontsize=8)
