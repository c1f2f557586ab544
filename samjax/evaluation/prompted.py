"""A model that is scored with prompts from the labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from samjax.data.cache.cases import CachedCase
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.model import SegmentationModel
from samjax.inference.predictions import VolumePrediction
from samjax.inference.volumes import segment_cases


@dataclass(frozen=True)
class PromptedModel:
    """A model with the prompts, drawn from the labels, that it is scored with."""

    model: SegmentationModel
    prompts: GroundTruthPrompts

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def rois(self) -> tuple[str, ...]:
        """The regions that it predicts."""
        return self.model.rois

    @property
    def prompted_roi(self) -> str | None:
        """Of several regions of a SAM the one that the prompts are of; None for one region and for the U-Net."""
        return self.rois[0] if len(self.rois) > 1 and not self.model.is_unet else None

    @property
    def prompt(self) -> str:
        """The kind of prompt: box, point or none."""
        return self.prompts.kind

    @property
    def clicks(self) -> int:
        """Clicks on each slice; 1 if the prompt is not a click."""
        return self.prompts.rounds

    @property
    def prompt_text(self) -> str:
        """The prompt in words, for rows and tables."""
        return str(self.prompts)

    @property
    def prompt_source(self) -> str:
        return self.prompts.source

    def predict(
        self, cases: Sequence[CachedCase], slices: int, workers: int
    ) -> Iterator[tuple[CachedCase, VolumePrediction]]:
        """Each case with its prediction, in order, see `segment_cases`."""
        return segment_cases(self.model, cases, self.prompts, slices=slices, workers=workers)
