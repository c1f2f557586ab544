"""Dice on the validation patients after each epoch, and a picture of input, label and prediction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from flax import nnx

from samjax.data.cache.cases import CachedCase
from samjax.data.cache.embeddings import EmbeddingStore
from samjax.data.labels import IGNORED, ROIS, roi_mask
from samjax.data.on_device.channels import Channels
from samjax.data.samples import scored_slices
from samjax.data.slices import enough_pixels
from samjax.figures.first_validation import draw_first_validation
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.model import SegmentationModel
from samjax.inference.postprocess_choice import PostprocessChoice
from samjax.inference.postprocess_search import FEW, LabelledCase, Predicted, choose
from samjax.inference.predictions import VolumePrediction
from samjax.inference.volumes import segment_cases
from samjax.training.parameter_vector import ParameterVector
from samjax.training.session import Session
from samjax.training.step import States, unreplicate
from samjax.training.tasks.task import Scores

WHOLE = "whole-tumor"
VALIDATION_SEED = 1
"""The seed of the validation prompts: one for all runs, so that runs are compared on the same clicks."""


@dataclass(frozen=True)
class Example:
    """The scored slice with the largest ROI: channels (N, N, 3) uint8, label and prediction (N, N) bool."""

    title: str
    picture: np.ndarray
    label: np.ndarray
    predicted: np.ndarray


@dataclass(frozen=True)
class Validator:
    """Segments a run's validation cases as `eval.py` does, with one kind of prompt.

    With prompts from the labels, slices without ROI are not run and stay background; prompt-free, every slice is run.
    """

    session: Session
    graphdef: nnx.GraphDef
    kind: str
    """The kind of prompt."""
    embeddings: EmbeddingStore | None = None
    """Store of the embeddings of the scored slices, if the encoder is not to run."""

    @property
    def prompts(self) -> GroundTruthPrompts:
        return GroundTruthPrompts(self.kind, self.session.options.clicks, VALIDATION_SEED)

    def score(self, states: States) -> Scores:
        """Scores a model given as replicated states: mean Dice over the cases, in 3-D and over the scored slices."""
        session, roi = self.session, self.session.options.roi
        scored = scored_slices(session.val, roi, self.kind)
        totals, slice_dice = [], []
        largest, example = -1, None
        predictions = self._segment(states, self.prompts, session.val, self.embeddings)
        for (case, prediction), chosen in zip(predictions, scored, strict=True):
            labels = case.whole_labels()
            truth, ignored = roi_mask(labels, roi), labels == IGNORED
            predicted = prediction.region(roi) & ~ignored
            counts = np.stack([x.sum((1, 2)) for x in (predicted & truth, predicted, truth)])
            totals.append(counts.sum(axis=1))
            slice_dice.append(_dice(*counts[:, chosen & ~ignored.all((1, 2))]))
            z = int(counts[2].argmax())
            if counts[2, z] > largest:
                largest, example = counts[2, z], _example(case, z, truth[z], predicted[z])
        dice, dice_slice = _dice(*np.transpose(totals)).mean(), np.concatenate(slice_dice).mean()
        return self._scores(float(dice), float(dice_slice), example)

    def choose_postprocess(self, states: States, weights: str, step: int) -> PostprocessChoice:
        """Chooses the post-processing of the prompt-free predictions of a model given as replicated states.

        Args:
            weights: the name of these weights: average or last.
            step: the number of their steps.
        """
        options = self.session.options
        roi = WHOLE if self.session.config.architecture is None else options.roi
        shown = self.session.val if shows_roi(self.session.val, roi) else ()
        train = self.session.train

        def predicted(cases: Sequence[CachedCase]) -> Iterator[Predicted]:
            for case, found in self._segment(states, GroundTruthPrompts("none"), cases):
                yield _labelled(case), found.mask

        seen = predicted(train[: max(0, FEW - len(shown))])
        return choose(predicted(shown), map(_labelled, train), roi, weights, step, seen)

    def _segment(
        self,
        states: States,
        prompts: GroundTruthPrompts,
        cases: Sequence[CachedCase],
        embeddings: EmbeddingStore | None = None,
    ) -> Iterator[tuple[CachedCase, VolumePrediction]]:
        options = self.session.options
        return segment_cases(
            self._model(states), cases, prompts, slices=options.batch_size * options.depth,
            workers=min(1, options.workers), embeddings=embeddings,
        )  # fmt: skip

    def _model(self, states: States) -> SegmentationModel:
        """The model in training, from one device's copy of its state."""
        options, config = self.session.options, self.session.config
        copies = (unreplicate(state) for state in states)
        trees = (copy.tree() if isinstance(copy, ParameterVector) else copy for copy in copies)
        return SegmentationModel.on_local_devices(
            self.graphdef,
            *trees,
            name=self.session.folder.name,
            rois=(options.roi,) if config.architecture else tuple(ROIS),
            channels=self.session.channels,
            depth=options.depth,
            image_size=options.image_size if config.architecture else None,
            native=config.native,
            compute=config.compute,
            prompts=config.prompts_seen,
        )

    def _scores(self, dice: float, dice_slice: float, example: Example) -> Scores:
        number = len(self.session.val)
        return Scores(
            values={
                "dice": dice, "dice_slice": dice_slice, "cases": number, "prompt": self.kind,
                "prompt_source": self.prompts.source,
            },
            text=(
                f"validation Dice {dice:.3f} by volume, {dice_slice:.3f} by slice (n = {number}, "
                f"prompt {self.kind} from {self.prompts.source})"
            ),
            best=dice,
            draw=partial(save_example, example=example, channels=self.session.channels),
        )  # fmt: skip


def shows_roi(cases: Sequence[CachedCase], roi: str) -> bool:
    """Whether a slice of any case shows the ROI."""
    return any(enough_pixels(case.counts, roi, 1).any() for case in cases)


def _labelled(case: CachedCase) -> LabelledCase:
    return LabelledCase(case.case.patient, case.whole_labels(), case.geometry.spacing)


def _dice(both: np.ndarray, pred: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Dice from pixel counts; 1 where both are empty."""
    total = pred + true
    return np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)


def _example(case: CachedCase, z: int, truth: np.ndarray, predicted: np.ndarray) -> Example:
    return Example(f"{case.case.id}, slice {z}", case.read(z, z + 1)[0][0], truth, predicted)


def save_example(path: Path, example: Example, channels: Channels) -> None:
    """Draws input channels, label and prediction of one slice side by side."""
    names = channels.modalities if channels.pca is None else ("component 1", "component 2", "component 3")
    shown = channels(example.picture.astype(np.float32))
    draw_first_validation(path, example.title, np.asarray(shown), names, example.label, example.predicted)
