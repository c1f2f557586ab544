"""Figures of an evaluation, each from rows or arrays to a PNG and a PDF."""

from samjax.evaluation.figures.boxes import box_plots
from samjax.evaluation.figures.calibration import calibration
from samjax.evaluation.figures.clicks import clicks_curve
from samjax.evaluation.figures.pictures import Panel, extremes, modality_panel
from samjax.evaluation.figures.sizes import size_against_dice

__all__ = ["Panel", "box_plots", "calibration", "clicks_curve", "extremes", "modality_panel", "size_against_dice"]
