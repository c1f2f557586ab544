"""Draws all figures of an evaluation into its folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import roi_mask
from samjax.evaluation.collected import Collected
from samjax.evaluation.reporting.report import ReportedFigure
from samjax.figures.box_plots import draw_boxes
from samjax.figures.calibration import draw_calibration
from samjax.figures.clicks import draw_clicks
from samjax.figures.extremes import draw_extremes
from samjax.figures.modalities import ComparedSlice, draw_modalities
from samjax.figures.overlays import draw_overlays
from samjax.figures.sizes import draw_sizes
from samjax.metrics.rows import SCOPE_NAMES, of_scope

MOST_COMPARED = 4
"""Number of cases whose slices are shown in all modalities, the first ones."""


def draw_gallery(folder: Path, collected: Sequence[Collected], cases: Sequence[CachedCase]) -> list[ReportedFigure]:
    """Draws every figure that the scores allow; returns the figures with their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[str, str]] = []

    def path(name: str, caption: str) -> Path:
        drawn.append((name, caption))
        return folder / f"{name}.png"

    prompts = {found.model.name: found.model.prompt_text for found in collected}
    shown = [item for found in collected for item in found.shown]
    regions = ", ".join(dict.fromkeys(found.roi for found in collected))
    text = f"the slice of each case that shows most of the {regions}"
    draw_overlays(path("overlays", f"Predictions over {text}, in the colours of paper A."), shown)
    draw_extremes(shown, prompts, path("extremes", f"Worst, median and best of {text}."))
    compared = compared_slices(collected, cases)
    caption = f"Modalities, label and predictions; {text}."
    if compared:
        draw_modalities(compared, prompts, path("modalities", caption))
    everything = [case for found in collected for case in found.scores]
    for scope in ("slice", "volume"):
        rows = of_scope(everything, scope)
        if not rows:
            continue
        name = SCOPE_NAMES[scope]
        for metric, title in (("dice", "Dice"), ("hd95", "HD95 (linear up to 1 mm, logarithmic beyond)")):
            draw_boxes(rows, metric, path(f"{metric}_{scope}", f"{title} {name}."))
        draw_sizes(rows, path(f"size_{scope}", f"Size of the region against Dice, {name}."))
    for found in collected:
        if found.predicted_iou:
            name = found.model.name
            draw_calibration(
                np.concatenate(found.predicted_iou), np.concatenate(found.actual_iou),
                path(f"calibration_{name}", f"Predicted against actual IoU of {name}, slices with the region."),
                run=name, prompt=found.model.prompt_text,
            )  # fmt: skip
    curves = {f.model.name: f.dice_by_clicks() for f in collected if f.model.clicks > 1 and f.slice_dice}
    if curves:
        draw_clicks(curves, path("clicks", "Dice after each click."))
    return [ReportedFigure(name, caption, (folder / f"{name}.png").read_bytes()) for name, caption in drawn]


def compared_slices(collected: Sequence[Collected], cases: Sequence[CachedCase]) -> list[ComparedSlice]:
    """Slices of the first cases with the predictions of every model that shows the first one's region.

    The slice is the one that shows most of the region; a case whose models show different slices is left out.
    """
    found = []
    collected = [one for one in collected if one.roi == collected[0].roi]
    for number, case in enumerate(cases[:MOST_COMPARED]):
        items = [one.shown[number] for one in collected]
        z = items[0].slice
        images, labels = case.read(z, z + 1)
        truth = roi_mask(labels[0], collected[0].roi)
        predicted = {item.run: item.predicted for item in items if item.slice == z}
        if len(predicted) == len(items):
            found.append(ComparedSlice(case.case.id, z, images[0], truth, predicted))
    return found
