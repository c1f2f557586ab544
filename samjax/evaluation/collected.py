"""Scoring one model on all cases: its rows, and what figures and the report need of its predictions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from samjax.data.cache import CachedCase
from samjax.data.labels import roi_mask
from samjax.evaluation.baselines import median_area, of_boxes, of_clicks
from samjax.evaluation.inference import WHOLE, Segmentation, Segmenter, region
from samjax.evaluation.overlays import Shown, largest_slice
from samjax.evaluation.saved import SavedPredictions
from samjax.evaluation.scoring import CaseScores, SliceRule, score_case
from samjax.evaluation.summary import Summary, summarise

Model = Segmenter | SavedPredictions
VIEWED = 3
"""Cases that the report shows slice by slice."""
GOALS = (0.85, 0.90)
"""Dice for which clicks are counted."""


@dataclass
class Collected:
    """All that one model's predictions gave."""

    model: Model
    scores: list[CaseScores] = field(default_factory=list)
    baselines: dict[str, list[CaseScores]] = field(default_factory=dict)
    """Of what the prompts alone are worth, by name."""
    shown: list[Shown] = field(default_factory=list)
    """The slice of each case with most of the region that pictures show."""
    viewed: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """Of the first cases, the regions predicted."""
    predicted_iou: list[np.ndarray] = field(default_factory=list)
    actual_iou: list[np.ndarray] = field(default_factory=list)
    slice_dice: list[np.ndarray] = field(default_factory=list)
    """Of each case (K, slices asked): Dice after each round of clicks."""
    patients: list[str] = field(default_factory=list)
    """Of each column of `slice_dice`."""

    @property
    def roi(self) -> str:
        """The region that pictures show."""
        return WHOLE if WHOLE in self.model.rois else self.model.rois[0]

    def add(self, prediction: Segmentation, rule: SliceRule, area: float) -> None:
        """Scores one case; `area` is that of the disk at the click."""
        case, model = prediction.case, self.model
        about = {"prompt": model.asked, "rule": rule}
        masks = {roi: region(prediction.predicted, roi) for roi in model.rois}
        for roi, mask in masks.items():
            self.scores.append(score_case(case, mask, run=model.name, roi=roi, **about))
        self.shown.append(largest_slice(case, masks[self.roi], model.name, self.roi))
        if len(self.viewed) < VIEWED:
            self.viewed[case.case.id] = masks
        if prediction.answers is None or model.prompt_source == "none":
            return
        truth = roi_mask(case.read(0, case.shape[0])[1], model.rois[0])
        clicks = prediction.answers.click
        drawn = of_boxes(truth) if model.prompt == "box" else of_clicks(truth, clicks, area)
        for name, mask in drawn.items():
            scores = score_case(case, mask, run=name, roi=model.rois[0], **about)
            self.baselines.setdefault(name, []).append(scores)
        self._add_answers(prediction)

    def _add_answers(self, prediction: Segmentation) -> None:
        answers, case = prediction.answers, prediction.case.case
        both, pred, true = (answers.counts[:, answers.asked, i].astype(float) for i in range(3))
        self.predicted_iou.append(answers.iou[-1, answers.asked])
        self.actual_iou.append(both[-1] / np.maximum(pred[-1] + true[-1] - both[-1], 1))
        self.slice_dice.append(2 * both / np.maximum(pred + true, 1))
        self.patients += [f"{case.domain}/{case.patient}"] * both.shape[1]

    def dice_by_clicks(self) -> list[Summary]:
        """Dice over the slices asked, after 1, 2, ... clicks."""
        dice = np.concatenate(self.slice_dice, axis=1)
        return [summarise(row, np.ones(row.size, bool), self.patients) for row in dice]

    def clicks_needed(self) -> dict[str, dict[str, float]]:
        """For each goal, the mean number of clicks to a Dice so high, and the share of slices that get there.

        A slice that never does counts with all the clicks it had.
        """
        dice = np.concatenate(self.slice_dice, axis=1)
        found = {}
        for goal in GOALS:
            reached = dice >= goal
            needed = np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, len(dice))
            found[f"{goal:.2f}"] = {"clicks": float(needed.mean()), "reached": float(reached.any(axis=0).mean())}
        return found


def collect(
    model: Model, predictions: Iterator[Segmentation], cases: Sequence[CachedCase], rule: SliceRule
) -> Iterator[tuple[Segmentation, Collected]]:
    """Scores case by case; yields each prediction with all that is collected so far."""
    area = median_area(cases, model.rois[0]) if model.prompt == "point" else 0.0
    collected = Collected(model)
    for prediction in predictions:
        collected.add(prediction, rule, area)
        yield prediction, collected
