"""Scores one model on all cases, and collects its rows and the parts of its predictions for figures and the report."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import roi_mask
from samjax.data.loading.pools import Pool
from samjax.evaluation.baselines import FLAIR_ROI, median_area
from samjax.evaluation.case_scores import OraclePrompts, Scored, ScoringJob
from samjax.evaluation.prompted import PromptedModel
from samjax.evaluation.saved import SavedPredictions
from samjax.evaluation.slice_rule import SliceRule
from samjax.figures.overlays import PredictedSlice, shown_picture
from samjax.inference.predictions import PromptRounds, VolumePrediction
from samjax.metrics.rows import CaseScores
from samjax.metrics.summary import Summary, summarise

Model = PromptedModel | SavedPredictions
Predicted = tuple[CachedCase, VolumePrediction]
"""A case and a model's prediction of it."""
WHOLE = "whole-tumor"
VIEWED = 3
"""Number of cases that the report shows slice by slice."""
GOALS = (0.85, 0.90)
"""Dice goals for which clicks are counted."""


@dataclass
class Collected:
    """The collected scores of one model's predictions, and the data for figures and the report."""

    model: Model
    scores: list[CaseScores] = field(default_factory=list)
    baselines: dict[str, list[CaseScores]] = field(default_factory=dict)
    """Scores of masks drawn from the prompts alone, or from FLAIR without a model, by the baseline's name."""
    shown: list[PredictedSlice] = field(default_factory=list)
    """The slice of each case with most of the region that pictures show."""
    viewed: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    """The regions predicted in each of the first cases, by the case's name."""
    predicted_iou: list[np.ndarray] = field(default_factory=list)
    """The IoU that the model predicts after the last click, for each case (prompted slices,)."""
    actual_iou: list[np.ndarray] = field(default_factory=list)
    """The true IoU of the masks, in the shape of `predicted_iou`."""
    slice_dice: list[np.ndarray] = field(default_factory=list)
    """Dice after each of K clicks, for each case (K, prompted slices)."""
    patients: list[str] = field(default_factory=list)
    """The patient of each column of `slice_dice`, as domain/patient."""

    @property
    def roi(self) -> str:
        """The region that pictures show."""
        return WHOLE if WHOLE in self.model.rois else self.model.rois[0]

    def job(
        self, case: CachedCase, prediction: VolumePrediction, rule: SliceRule, area: float, flair: bool = False
    ) -> ScoringJob:
        """The job that scores one case, with the FLAIR threshold if `flair`; `area`: see `OraclePrompts`."""
        model, prompts = self.model, None
        if prediction.rounds is not None:
            prompts = OraclePrompts(model.rois[0], None if model.prompt == "box" else prediction.rounds.click, area)
        masks = {roi: prediction.region(roi) for roi in model.rois}
        return ScoringJob(case, masks, model.name, model.prompt_text, rule, prompts, flair)

    def see(self, case: CachedCase, prediction: VolumePrediction) -> None:
        """Keeps the data of a case for pictures and the curves of clicks."""
        model = self.model
        self.shown.append(largest_slice(case, prediction.region(self.roi), model.name, self.roi))
        if len(self.viewed) < VIEWED:
            self.viewed[case.case.id] = {roi: prediction.region(roi) for roi in model.rois}
        if prediction.rounds is not None:
            self._add_rounds(case, prediction.rounds)

    def add(self, scored: Scored) -> None:
        """Keeps the scores of a case."""
        self.scores += scored.scores
        for name, scores in scored.baselines.items():
            self.baselines.setdefault(name, []).append(scores)

    def _add_rounds(self, case: CachedCase, rounds: PromptRounds) -> None:
        if not rounds.prompted.any():  # none of its slices shows the region
            return
        both, pred, true = (rounds.counts[:, rounds.prompted, i].astype(float) for i in range(3))
        self.predicted_iou.append(rounds.iou[-1, rounds.prompted])
        self.actual_iou.append(both[-1] / np.maximum(pred[-1] + true[-1] - both[-1], 1))
        self.slice_dice.append(2 * both / np.maximum(pred + true, 1))
        self.patients += [f"{case.case.domain}/{case.case.patient}"] * both.shape[1]

    def dice_by_clicks(self) -> list[Summary]:
        """Dice over the prompted slices, after 1, 2, ... clicks."""
        dice = np.concatenate(self.slice_dice, axis=1)
        return [summarise(row, np.ones(row.size, bool), self.patients) for row in dice]

    def clicks_needed(self) -> dict[str, dict[str, float]]:
        """The mean number of clicks until each of `GOALS` is reached, and the share of slices that reach it.

        A slice that never reaches a goal counts with all the clicks it had.
        """
        dice = np.concatenate(self.slice_dice, axis=1)
        found = {}
        for goal in GOALS:
            reached = dice >= goal
            needed = np.where(reached.any(axis=0), reached.argmax(axis=0) + 1, len(dice))
            found[f"{goal:.2f}"] = {"clicks": float(needed.mean()), "reached": float(reached.any(axis=0).mean())}
        return found


def beside_flair(models: Sequence[Model]) -> Model | None:
    """The model with which the FLAIR threshold is scored, once for all: the first that takes no prompts and predicts
    the threshold's region."""
    return next((model for model in models if model.prompt_source == "none" and FLAIR_ROI in model.rois), None)


def collect(
    model: Model,
    predictions: Iterator[Predicted],
    cases: Sequence[CachedCase],
    rule: SliceRule,
    pool: Pool,
    flair: bool = False,
) -> Iterator[tuple[Predicted, Collected]]:
    """Yields each case and prediction with everything collected so far; all scores are complete when it ends.

    `pool` calls `score_job`: it may score cases while the next ones are predicted. With `flair` the FLAIR threshold is
    scored too.
    """
    area = median_area(cases, model.rois[0]) if model.prompt == "point" else 0.0
    collected = Collected(model)
    pending = 0
    for case, prediction in predictions:
        collected.see(case, prediction)
        if pending == pool.capacity:
            collected.add(pool.receive())
            pending -= 1
        pool.request(collected.job(case, prediction, rule, area, flair))
        pending += 1
        yield (case, prediction), collected
    for _ in range(pending):
        collected.add(pool.receive())


def largest_slice(case: CachedCase, predicted: np.ndarray, run: str, roi: str) -> PredictedSlice:
    """The slice that shows most of the ROI; predicted (Z, rows, columns) bool."""
    truth = roi_mask(case.whole_labels(), roi)
    z = int(truth.sum((1, 2)).argmax())
    images, _ = case.read(z, z + 1)
    return PredictedSlice(run, case.case.id, z, shown_picture(images[0]), truth[z], predicted[z])
