"""Slices with predictions over them: worst, median and best; and four modalities beside several runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from samjax.data.cases import MODALITIES
from samjax.figures.canvas import WIDTH, drawn, prompts_text
from samjax.figures.overlays import BORDER, FALSE_NEGATIVE, FALSE_POSITIVE, SHOWN, TRUE_POSITIVE, Shown, overlay
from samjax.figures.panels import plural
from samjax.metrics.boxes import bounding_box

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {"t1": "T1", "t1gd": "T1-Gd", "t2": "T2", "flair": "FLAIR"}
MARGIN = 4
"""Pixels left around the brain."""
COLUMN = 1.15
"""Inches that a picture is wide; less where that many would not fit a page."""


@dataclass(frozen=True)
class Panel:
    """One slice of a case with the predictions of several runs."""

    case: str
    slice: int
    images: np.ndarray
    """(rows, columns, 4) uint8: t1, t1gd, t2, flair."""
    truth: np.ndarray
    """(rows, columns) bool."""
    predicted: Mapping[str, np.ndarray]
    """Of each run (rows, columns) bool."""


def extremes(shown: Sequence[Shown], prompts: Mapping[str, str], path: Path) -> None:
    """Writes each run's worst, median and best slice by Dice, one row a run, in the colours of paper A.

    Of an even number the median is the lower of the two in the middle; of fewer than three slices all are shown.

    Args:
        shown: slices of all runs, usually one a case.
        prompts: how each run was asked, as in its rows.
        path: of the PNG; the PDF lies beside it.
    """
    runs = list(dict.fromkeys(item.run for item in shown))
    width = 0.8 * WIDTH
    tall = max(_tallness(_brain(item.picture)) for item in shown)
    with drawn(path, 0.4 + (tall * (width - 0.5) / 3 + 0.45) * len(runs), width) as figure:
        axes = figure.subplots(len(runs), 3, squeeze=False)
        for row, run in zip(axes, runs, strict=True):
            own = [item for item in shown if item.run == run]
            for axis in row:
                _clear(axis)
            for axis, (name, item) in zip(row, ranked(own).items(), strict=False):
                _overlay(axis, item)
                axis.set_title(f"{name}: Dice {item.dice:.2f}\n{item.case}, slice {item.slice}", fontsize=6.5)
            about = f"{run}, {plural(len(own), 'slice')}\n{prompts_text([prompts[run]])}"
            row[0].set_ylabel("\n".join(fill(line, 30) for line in about.splitlines()), fontsize=7.5)
        figure.legend(handles=_legend(), loc="outside lower center", ncols=4)


def ranked(shown: Sequence[Shown]) -> dict[str, Shown]:
    """The worst, median and best of one run by Dice; of two slices the worst and the best, of one that slice."""
    order = sorted(shown, key=lambda item: item.dice)
    if len(order) < 3:
        return dict(zip(("worst", "best") if len(order) == 2 else ("the only one",), order, strict=True))
    return {"worst": order[0], "median": order[(len(order) - 1) // 2], "best": order[-1]}


def modality_panel(panels: Sequence[Panel], prompts: Mapping[str, str], path: Path) -> None:
    """Writes the four modalities, the label, and each run's prediction (paper B, fig. 7), a row a slice.

    Args:
        panels: slices, all with predictions of the same runs.
        prompts: how each run was asked, as in its rows.
        path: of the PNG; the PDF lies beside it.
    """
    runs = list(panels[0].predicted)
    columns = len(MODALITIES) + 1 + len(runs)
    width = max(WIDTH, COLUMN * columns)
    tall = max(_tallness(_brain(panel.images.max(-1))) for panel in panels)
    with drawn(path, 0.9 + (tall * (width - 0.4) / columns + 0.3) * len(panels), width) as figure:
        axes = figure.subplots(len(panels), columns, squeeze=False)
        for row, panel in zip(axes, panels, strict=True):
            _row(row, panel)
        titles = [*(TITLES[name] for name in MODALITIES), "label", *(fill(run, 17) for run in runs)]
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title)
        figure.suptitle(fill(f"{plural(len(panels), 'slice')}; {_sources(runs, prompts)}", int(12 * width)))
        figure.legend(handles=_legend(), loc="outside lower center", ncols=4)


def _sources(runs: Sequence[str], prompts: Mapping[str, str]) -> str:
    """Whose prompts came from where."""
    by_source: dict[str, list[str]] = {}
    for run in runs:
        by_source.setdefault(prompts_text([prompts[run]]), []).append(run)
    return "; ".join(f"{', '.join(names)}: {source}" for source, names in by_source.items())


def _row(row: Sequence["Axes"], panel: Panel) -> None:
    inside = _brain(panel.images.max(-1))
    for axis in row:
        _clear(axis)
    for axis, picture in zip(row, np.moveaxis(panel.images, -1, 0), strict=False):
        axis.imshow(picture[inside], cmap="gray", vmin=0, vmax=255)
    picture = panel.images[..., MODALITIES.index(SHOWN)]
    label, *others = row[len(MODALITIES) :]
    label.imshow(picture[inside], cmap="gray", vmin=0, vmax=255)
    _border(label, panel.truth[inside])
    for axis, (run, predicted) in zip(others, panel.predicted.items(), strict=True):
        item = Shown(run, panel.case, panel.slice, picture, panel.truth, predicted)
        _overlay(axis, item, inside)
        axis.set_xlabel(f"Dice {item.dice:.2f}", fontsize=7.5)
    row[0].set_ylabel(f"{panel.case}\nslice {panel.slice}", fontsize=7)


def _overlay(axis: "Axes", item: Shown, inside: tuple[slice, slice] | None = None) -> None:
    inside = inside or _brain(item.picture)
    axis.imshow(overlay(item)[inside])
    _border(axis, item.truth[inside])


def _border(axis: "Axes", truth: np.ndarray) -> None:
    if truth.any():
        axis.contour(truth, levels=[0.5], colors=BORDER, linewidths=0.7)


def _clear(axis: "Axes") -> None:
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _brain(picture: np.ndarray) -> tuple[slice, slice]:
    """The bounding box of what is not background, with a margin; all of an empty picture."""
    box = bounding_box(picture != 0)
    if box is None:
        return tuple(slice(0, size) for size in picture.shape)
    return tuple(slice(max(0, side.start - MARGIN), side.stop + MARGIN) for side in box)


def _tallness(box: tuple[slice, slice]) -> float:
    """Height over width."""
    return (box[0].stop - box[0].start) / (box[1].stop - box[1].start)


def _legend() -> list:
    from matplotlib.patches import Patch

    names = ("true positive", "false positive", "false negative")
    fills = (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE)
    patches = [Patch(color=np.array(fill) / 255, label=name) for name, fill in zip(names, fills, strict=True)]
    return [*patches, Patch(facecolor="none", edgecolor=BORDER, label="border of the label")]
