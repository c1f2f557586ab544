"""All figures of an evaluation, into its folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import roi_mask
from samjax.evaluation.collected import Collected
from samjax.evaluation.reporting.report import ReportedFigure
from samjax.evaluation.scoring import SCOPE_NAMES, of_scope
from samjax.figures import (
    Panel,
    box_plots,
    calibration,
    clicks_curve,
    extremes,
    modality_panel,
    size_against_dice,
)
from samjax.figures.overlays import draw_overlays

MOST_PANELS = 4


def draw_gallery(folder: Path, collected: Sequence[Collected], cases: Sequence[CachedCase]) -> list[ReportedFigure]:
    """Draws what the scores allow; returns the figures with their captions."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[str, str]] = []

    def path(name: str, caption: str) -> Path:
        drawn.append((name, caption))
        return folder / f"{name}.png"

    prompts = {found.model.name: found.model.asked for found in collected}
    shown = [item for found in collected for item in found.shown]
    regions = ", ".join(dict.fromkeys(found.roi for found in collected))
    text = f"the slice of each case that shows most of the {regions}"
    draw_overlays(path("overlays", f"Predictions over {text}, in the colours of paper A."), shown)
    extremes(shown, prompts, path("extremes", f"Worst, median and best of {text}."))
    draw_panels(path("modalities", f"Modalities, label and predictions; {text}."), collected, cases, prompts)
    everything = [case for found in collected for case in found.scores]
    for scope in ("slice", "volume"):
        rows = of_scope(everything, scope)
        if not rows:
            continue
        name = SCOPE_NAMES[scope]
        for metric, title in (("dice", "Dice"), ("hd95", "HD95 (linear up to 1 mm, logarithmic beyond)")):
            box_plots(rows, metric, path(f"{metric}_{scope}", f"{title} {name}."))
        size_against_dice(rows, path(f"size_{scope}", f"Size of the region against Dice, {name}."))
    for found in collected:
        if found.predicted_iou:
            name = found.model.name
            calibration(
                np.concatenate(found.predicted_iou), np.concatenate(found.actual_iou),
                path(f"calibration_{name}", f"Predicted against actual IoU of {name}, slices with the region."),
                run=name, prompt=found.model.asked,
            )  # fmt: skip
    curves = {f.model.name: f.dice_by_clicks() for f in collected if f.model.clicks > 1 and f.slice_dice}
    if curves:
        clicks_curve(curves, path("clicks", "Dice after each click."))
    return [ReportedFigure(name, caption, (folder / f"{name}.png").read_bytes()) for name, caption in drawn]


def draw_panels(path: Path, collected: Sequence[Collected], cases: Sequence[CachedCase], prompts: dict) -> None:
    """Paper B, figure 7: the four modalities of a slice, its label and every model's prediction."""
    panels = []
    collected = [found for found in collected if found.roi == collected[0].roi]
    for number, case in enumerate(cases[:MOST_PANELS]):
        items = [found.shown[number] for found in collected]
        z = items[0].slice
        images, labels = case.read(z, z + 1)
        truth = roi_mask(labels[0], collected[0].roi)
        predicted = {item.run: item.predicted for item in items if item.slice == z}
        if len(predicted) == len(items):
            panels.append(Panel(case.case.id, z, images[0], truth, predicted))
    if panels:
        modality_panel(panels, prompts, path)
