"""The reliability diagram of predicted IoU."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from samjax.figures.canvas import WIDTH, colour, drawn
from samjax.figures.captions import plural, prompts_text
from samjax.figures.palette import FAINT
from samjax.metrics.calibration import BINS, calibrate


def draw_calibration(predicted_iou: ArrayLike, actual_iou: ArrayLike, path: Path, *, run: str, prompt: str) -> None:
    """Writes the reliability diagram of a run's predicted IoU, the counts of its bins beneath.

    Args:
        predicted_iou, actual_iou: (n,) of slices, as `calibrate` takes them.
        path: the PNG; the PDF is written beside it.
        prompt: the prompt of the run, as in its rows.
    """
    found = calibrate(predicted_iou, actual_iou)
    used = found.counts > 0
    with drawn(path, 4.4, 0.58 * WIDTH) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        above.plot((0, 1), (0, 1), "--", color=FAINT, linewidth=1, label="as predicted")
        above.vlines(
            found.predicted[used], *found.quartiles[:, used], color=colour(0), linewidth=3, alpha=0.3, label="quartiles"
        )
        above.plot(found.predicted[used], found.actual[used], "-o", color=colour(0), markersize=4.5, label="mean")
        above.set(ylabel="actual IoU", ylim=(-0.02, 1.02))
        above.set_title(
            f"Predicted IoU of {run}\n{plural(int(found.counts.sum()), 'slice')}; {prompts_text([prompt])}\n"
            f"expected calibration error {found.error:.3f}",
            loc="left",
        )
        above.legend(loc="upper left")
        middles = (np.arange(BINS) + 0.5) / BINS
        bars = below.bar(middles, found.counts, 0.9 / BINS, color=colour(0), alpha=0.5)
        below.bar_label(bars, [str(count) if count else "" for count in found.counts], fontsize=7, padding=1)
        below.set(xlabel="predicted IoU", ylabel="slices", ylim=(0, 1.3 * found.counts.max()))
        lowest, highest = min(0.0, float(found.predicted[used][0])), max(1.0, float(found.predicted[used][-1]))
        below.set_xlim(lowest - 0.02, highest + 0.02)
        for axis in (above, below):
            axis.grid()
