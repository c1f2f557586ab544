"""Draws the four modalities of a slice and the predictions of several runs (paper B, fig. 7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from samjax.data.cases import MODALITIES
from samjax.figures.canvas import WIDTH, drawn
from samjax.figures.captions import plural, prompts_text
from samjax.figures.overlays import (
    PredictedSlice,
    brain_box,
    clear,
    draw_border,
    draw_overlay,
    overlay_legend,
    shown_picture,
    tallness,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {"t1": "T1", "t1gd": "T1-Gd", "t2": "T2", "flair": "FLAIR"}
COLUMN = 1.15
"""Least width of a picture in inches; fewer columns fill the page."""


@dataclass(frozen=True)
class ComparedSlice:
    """One slice of a case with the predictions of several runs."""

    case: str
    slice: int
    images: np.ndarray
    """The image, (rows, columns, 4) uint8: t1, t1gd, t2, flair; a missing modality is 0."""
    truth: np.ndarray
    """The label's region, (rows, columns) bool."""
    predicted: Mapping[str, np.ndarray]
    """The prediction of each run, (rows, columns) bool."""


def draw_modalities(slices: Sequence[ComparedSlice], prompts: Mapping[str, str], path: Path) -> None:
    """Writes the four modalities, the label and each run's prediction, one row per slice.

    Args:
        slices: slices that all have predictions of the same runs.
        prompts: the prompt of each run, as in its rows.
        path: the PNG; the PDF is written beside it.
    """
    runs = list(slices[0].predicted)
    columns = len(MODALITIES) + 1 + len(runs)
    width = max(WIDTH, COLUMN * columns)
    tall = max(tallness(brain_box(item.images.max(-1))) for item in slices)
    with drawn(path, 0.9 + (tall * (width - 0.4) / columns + 0.3) * len(slices), width) as figure:
        axes = figure.subplots(len(slices), columns, squeeze=False)
        for row, item in zip(axes, slices, strict=True):
            _row(row, item)
        titles = [*(TITLES[name] for name in MODALITIES), "label", *(fill(run, 17) for run in runs)]
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title)
        figure.suptitle(fill(f"{plural(len(slices), 'slice')}; {_sources(runs, prompts)}", int(12 * width)))
        figure.legend(handles=overlay_legend(), loc="outside lower center", ncols=4)


def _sources(runs: Sequence[str], prompts: Mapping[str, str]) -> str:
    """The runs of each source of prompts, in words."""
    by_source: dict[str, list[str]] = {}
    for run in runs:
        by_source.setdefault(prompts_text([prompts[run]]), []).append(run)
    return "; ".join(f"{', '.join(names)}: {source}" for source, names in by_source.items())


def _row(row: Sequence["Axes"], item: ComparedSlice) -> None:
    inside = brain_box(item.images.max(-1))
    for axis in row:
        clear(axis)
    for axis, picture in zip(row, np.moveaxis(item.images, -1, 0), strict=False):
        axis.imshow(picture[inside], cmap="gray", vmin=0, vmax=255)
    picture = shown_picture(item.images)
    label, *others = row[len(MODALITIES) :]
    label.imshow(picture[inside], cmap="gray", vmin=0, vmax=255)
    draw_border(label, item.truth[inside])
    for axis, (run, predicted) in zip(others, item.predicted.items(), strict=True):
        shown = PredictedSlice(run, item.case, item.slice, picture, item.truth, predicted)
        draw_overlay(axis, shown, inside)
        axis.set_xlabel(f"Dice {shown.dice:.2f}", fontsize=7.5)
    row[0].set_ylabel(f"{item.case}\nslice {item.slice}", fontsize=7)
