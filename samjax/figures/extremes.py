"""Draws each run's worst, median and best slice."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

from samjax.figures.canvas import WIDTH, drawn
from samjax.figures.captions import plural, prompts_text
from samjax.figures.overlays import PredictedSlice, brain_box, clear, draw_overlay, overlay_legend, tallness


def draw_extremes(shown: Sequence[PredictedSlice], prompts: Mapping[str, str], path: Path) -> None:
    """Writes each run's worst, median and best slice by Dice, one row per run, in the colours of paper A.

    The median of an even number is the lower of the two in the middle; fewer than three slices are all shown.

    Args:
        shown: slices of all runs, usually one per case.
        prompts: the prompt of each run, as in its rows.
        path: the PNG; the PDF is written beside it.
    """
    runs = list(dict.fromkeys(item.run for item in shown))
    width = 0.8 * WIDTH
    tall = max(tallness(brain_box(item.picture)) for item in shown)
    with drawn(path, 0.4 + (tall * (width - 0.5) / 3 + 0.45) * len(runs), width) as figure:
        axes = figure.subplots(len(runs), 3, squeeze=False)
        for row, run in zip(axes, runs, strict=True):
            own = [item for item in shown if item.run == run]
            for axis in row:
                clear(axis)
            for axis, (name, item) in zip(row, ranked(own).items(), strict=False):
                draw_overlay(axis, item, brain_box(item.picture))
                axis.set_title(f"{name}: Dice {item.dice:.2f}\n{item.case}, slice {item.slice}", fontsize=6.5)
            about = f"{run}, {plural(len(own), 'slice')}\n{prompts_text([prompts[run]])}"
            row[0].set_ylabel("\n".join(fill(line, 30) for line in about.splitlines()), fontsize=7.5)
        figure.legend(handles=overlay_legend(), loc="outside lower center", ncols=4)


def ranked(shown: Sequence[PredictedSlice]) -> dict[str, PredictedSlice]:
    """The worst, median and best slice of one run by Dice; the worst and the best of two, or the only one."""
    order = sorted(shown, key=lambda item: item.dice)
    if len(order) < 3:
        return dict(zip(("worst", "best") if len(order) == 2 else ("the only one",), order, strict=True))
    return {"worst": order[0], "median": order[(len(order) - 1) // 2], "best": order[-1]}
