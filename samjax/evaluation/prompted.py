"""A model that is scored with prompts from the labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from samjax.data.cache.cases import CachedCase
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.model import SegmentationModel
from samjax.inference.postprocess import RAW, Postprocess, cleaned
from samjax.inference.predictions import VolumePrediction
from samjax.inference.volumes import segment_cases


@dataclass(frozen=True)
class PromptedModel:
    """A model with the prompts, drawn from the labels, that it is scored with."""

    model: SegmentationModel
    prompts: GroundTruthPrompts
    postprocess: Postprocess = RAW
    """The rule by which its masks are cleaned."""

    @property
    def name(self) -> str:
        """The model's name; with a rule it stands beside it, so that cleaned masks never pass for others."""
        return self.model.name if self.postprocess == RAW else f"{self.model.name}+{self.postprocess}"

    @property
    def rois(self) -> tuple[str, ...]:
        """The regions that it predicts."""
        return self.model.rois

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
        """Each case with its prediction, in order, see `segment_cases`; masks are cleaned, rounds of clicks are not."""
        for case, found in segment_cases(self.model, cases, self.prompts, slices=slices, workers=workers):
            if self.postprocess != RAW:
                mask = cleaned(found.mask, case.geometry.spacing, self.postprocess, self.rois)
                found = replace(found, mask=mask)
            yield case, found
