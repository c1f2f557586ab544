"""Figures of an evaluation, each from rows or arrays to a PNG and a PDF."""

from samjax.figures.boxes import box_plots
from samjax.figures.calibration import calibration
from samjax.figures.clicks import clicks_curve
from samjax.figures.pictures import Panel, extremes, modality_panel
from samjax.figures.sizes import size_against_dice

__all__ = ["Panel", "box_plots", "calibration", "clicks_curve", "extremes", "modality_panel", "size_against_dice"]
