"""A model that is scored with prompts from the labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from samjax.data.cache.cases import CachedCase
from samjax.data.needs import Needs
from samjax.inference.averaged_cases import segment_averaged
from samjax.inference.fitting.predictions import postprocessed
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.model import SegmentationModel
from samjax.inference.postprocess import RAW, Postprocess
from samjax.inference.predictions import VolumePrediction
from samjax.inference.volumes import segment_cases


def shown_suffix(shown: Sequence[str] | None) -> str:
    """The end of the names of models that are shown some modalities or planes only, "-t2+flair"; empty for None."""
    return "" if shown is None else "-" + "+".join(shown)


@dataclass(frozen=True)
class PromptedModel:
    """A model, or several as an ensemble, with the prompts, drawn from the labels, that it is scored with."""

    model: SegmentationModel
    prompts: GroundTruthPrompts
    postprocess: Postprocess = RAW
    """The rule by which its masks are cleaned."""
    shown: tuple[str, ...] | None = None
    """The modalities that it is shown; None: all that a case has."""
    others: tuple[SegmentationModel, ...] = ()
    """The other members of an ensemble, of the same regions, with whose probabilities its own are averaged."""
    planes: tuple[str, ...] | None = None
    """The planes of its prompt-free masks, where they are not the run's own; None: these."""

    @property
    def members(self) -> tuple[SegmentationModel, ...]:
        """All models whose mean it is."""
        return (self.model, *self.others)

    @property
    def rotations(self) -> int:
        """The number of rotations in which it sees each slice."""
        return len(self.model.angles)

    @property
    def is_mean(self) -> bool:
        """Whether its predictions are means of several models or rotations."""
        return bool(self.others) or self.model.turns

    @property
    def members_text(self) -> str:
        """The model's name or, of an ensemble, those of its members."""
        names = ", ".join(model.name for model in self.members)
        return f"ensemble of {len(self.members)} ({names})" if self.others else names

    @property
    def name(self) -> str:
        """The model's name; an ensemble is called by its members.

        Modalities, planes, rotations, clipped regions and the rule stand beside it, so that results never pass for
        others.
        """
        name = self.members_text + shown_suffix(self.shown) + shown_suffix(self.planes)
        if self.rotations > 1:
            name += f"+rotations={self.rotations}"
        if self.model.nested and self.prompted_roi:
            name += "+nested"
        return name if self.postprocess == RAW else f"{name}+{self.postprocess}"

    @property
    def needs(self) -> tuple[Needs, ...]:
        """The modalities that each of its members looks at."""
        return tuple(model.needs for model in self.members)

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
        """Each case with its prediction, in order, see `segment_cases`; masks are cleaned, rounds of clicks are not."""
        rule = self.postprocess
        if self.is_mean:
            segmented = segment_averaged(self.members, cases, self.prompts, slices=slices, workers=workers)
        else:
            segmented = segment_cases(self.model, cases, self.prompts, slices=slices, workers=workers, logits=rule.fit)
        for case, found in segmented:
            if rule != RAW:
                images = case.read(0, case.shape[0])[0] if rule.fit else None
                found = replace(postprocessed(found, images, case.geometry.spacing, self.model, rule), logits=None)
            yield case, found
