"""Dice on the validation patients after each epoch, and a picture of input, label and prediction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from flax import nnx

from samjax.data.cache.cases import CachedCase
from samjax.data.cache.embeddings import EmbeddingStore
from samjax.data.imaging.planes import AXIAL
from samjax.data.labels import IGNORED, roi_mask, rois_of
from samjax.data.on_device.channels import Channels
from samjax.data.samples import scored_slices
from samjax.data.slices import enough_pixels
from samjax.figures.first_validation import draw_first_validation
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.model import SegmentationModel
from samjax.inference.postprocess_choice import PostprocessChoice
from samjax.inference.postprocess_search import FEW, Predicted, choose, labelled_case, predicted_case
from samjax.inference.predictions import VolumePrediction
from samjax.inference.volumes import segment_cases
from samjax.training.parameter_vector import ParameterVector
from samjax.training.session import Session
from samjax.training.step import States, unreplicate
from samjax.training.tasks.task import Scores

WHOLE = "whole-tumor"
MOST_FITTED = 40
"""The largest number of validation cases whose predictions are also fitted to their scans: each takes seconds."""
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

    @property
    def rois(self) -> tuple[str, ...]:
        """The regions that are scored, the prompted one first; of the U-Net the one that the options name."""
        return rois_of(self.session.options.roi)

    def score(self, states: States) -> Scores:
        """Scores a model given as replicated states: mean Dice over the cases, in 3-D and over the scored slices.

        Of several regions, the mean is over them too, and each region's is given beside it.
        """
        session, rois = self.session, self.rois
        scored = scored_slices(session.val, rois[0], self.kind)
        totals: dict[str, list[np.ndarray]] = {roi: [] for roi in rois}
        slice_dice: dict[str, list[np.ndarray]] = {roi: [] for roi in rois}
        largest, example = -1, None
        predictions = self._segment(self._model(states), self.prompts, session.val, self.embeddings)
        for (case, prediction), chosen in zip(predictions, scored, strict=True):
            labels = case.whole_labels()
            ignored = labels == IGNORED
            for roi in rois:
                truth, predicted = roi_mask(labels, roi), prediction.region(roi) & ~ignored
                counts = np.stack([x.sum((1, 2)) for x in (predicted & truth, predicted, truth)])
                totals[roi].append(counts.sum(axis=1))
                slice_dice[roi].append(_dice(*counts[:, chosen & ~ignored.all((1, 2))]))
                z = int(counts[2].argmax())
                if roi == rois[0] and counts[2, z] > largest:
                    largest, example = counts[2, z], _example(case, z, truth[z], predicted[z])
        by_volume = {roi: float(_dice(*np.transpose(totals[roi])).mean()) for roi in rois}
        by_slice = {roi: float(np.concatenate(slice_dice[roi]).mean()) for roi in rois}
        return self._scores(by_volume, by_slice, example)

    def choose_postprocess(self, states: States, weights: str, step: int) -> PostprocessChoice:
        """Chooses the post-processing of the prompt-free predictions of a model given as replicated states.

        Args:
            weights: the name of these weights: average or last.
            step: the number of their steps.
        """
        options = self.session.options
        roi = WHOLE if len(self.session.config.rois) > 1 else options.roi
        shown = self.session.val if shows_roi(self.session.val, roi) else ()
        train, planes = self.session.train, self.session.config.planes

        fits = len(shown) <= MOST_FITTED

        def predicted(cases: Sequence[CachedCase]) -> Iterator[Predicted]:
            model = self._model(states, planes)
            for case, found in self._segment(model, GroundTruthPrompts("none"), cases, logits=fits):
                yield predicted_case(case, found, model if fits else None)

        seen = predicted(train[: max(0, FEW - len(shown))])
        return choose(predicted(shown), map(labelled_case, train), roi, weights, step, seen, fits)

    def _segment(
        self,
        model: SegmentationModel,
        prompts: GroundTruthPrompts,
        cases: Sequence[CachedCase],
        embeddings: EmbeddingStore | None = None,
        logits: bool = False,
    ) -> Iterator[tuple[CachedCase, VolumePrediction]]:
        options = self.session.options
        return segment_cases(
            model, cases, prompts, slices=options.batch_size * options.depth,
            workers=min(1, options.workers), embeddings=embeddings, logits=logits,
        )  # fmt: skip

    def _model(self, states: States, planes: tuple[str, ...] = (AXIAL,)) -> SegmentationModel:
        """The model in training, from one device's copy of its state."""
        options, config = self.session.options, self.session.config
        copies = (unreplicate(state) for state in states)
        trees = (copy.tree() if isinstance(copy, ParameterVector) else copy for copy in copies)
        return SegmentationModel.on_local_devices(
            self.graphdef,
            *trees,
            name=self.session.folder.name,
            rois=config.rois,
            channels=self.session.channels,
            depth=options.depth,
            image_size=options.image_size if config.architecture else None,
            native=config.native,
            cropped=config.cropped,
            grid=config.grid,
            compute=config.compute,
            prompts=config.prompts_seen,
            modality_dropout=options.modality_dropout,
            planes=planes,
        )

    def _scores(self, by_volume: dict[str, float], by_slice: dict[str, float], example: Example) -> Scores:
        """The scores as the run's log and the terminal show them."""
        number = len(self.session.val)
        dice, dice_slice = (sum(values.values()) / len(values) for values in (by_volume, by_slice))
        each = by_volume if len(by_volume) > 1 else {}
        regions = ", ".join(f"{roi} {value:.3f}" for roi, value in each.items())
        of_each = f" ({regions})" if each else ""
        return Scores(
            values={
                "dice": dice, "dice_slice": dice_slice, **{f"dice_{roi}": value for roi, value in each.items()},
                "cases": number, "prompt": self.kind, "prompt_source": self.prompts.source,
            },
            text=(
                f"validation Dice {dice:.3f} by volume{of_each}, {dice_slice:.3f} by slice (n = {number}, "
                f"prompt {self.kind} from {self.prompts.source})"
            ),
            best=dice,
            draw=partial(save_example, example=example, channels=self.session.channels),
        )  # fmt: skip


def shows_roi(cases: Sequence[CachedCase], roi: str) -> bool:
    """Whether a slice of any case shows the ROI."""
    return any(enough_pixels(case.counts, roi, 1).any() for case in cases)


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
