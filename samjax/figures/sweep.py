"""Draws the sweep of the learning-rate finder."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samjax.figures.canvas import SCREEN, drawn
from samjax.figures.palette import COLOURS, FAINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_sweep(
    path: Path, rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggestion: float | None
) -> None:
    """Writes the losses of a sweep over its learning rates (logarithmic) with the rate suggested, as a PNG.

    Args:
        rates, losses, smoothed: (S,) float64; S may be 0.
        suggestion: the suggested rate; None if there is none.
    """
    with drawn(path, 3.6, suffixes=SCREEN) as figure:
        axis = figure.subplots()
        if len(losses):
            axis.plot(rates, losses, ".", color=FAINT, alpha=0.6, markersize=5, label="loss of a batch")
            axis.plot(rates, smoothed, color=COLOURS[0], linewidth=1.6, label="smoothed")
            axis.set_xscale("log")
            _limit(axis, losses, smoothed)
        if suggestion is None:
            axis.set_title("no suggestion")
        else:
            axis.axvline(suggestion, color=COLOURS[1], linestyle="--", label=f"suggestion {suggestion:.1e}")
            axis.legend()
        axis.set(xlabel="learning rate", ylabel="loss")


def _limit(axis: "Axes", losses: np.ndarray, smoothed: np.ndarray) -> None:
    """Limits the axis to the losses down to the lowest one and to the beginning of the divergence after it."""
    shown = losses[: smoothed.argmin() + 1]
    low, high = losses.min(), max(shown.max(), smoothed.max())
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    axis.set_ylim(low - margin, high + margin)
