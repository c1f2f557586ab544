"""A scan as its files have it, which a model segments on its run's grid: the one place where the two grids meet."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from samjax.data.cases import MODALITIES
from samjax.data.imaging.grids import Shape
from samjax.data.imaging.resampling import nearest_slices, resample_images, resample_region, steps_between
from samjax.data.labels import IGNORED, roi_mask
from samjax.inference.encoded import SLICES, ReadEmbedding
from samjax.inference.grids import logits_to_source, prediction_to_source, prompt_to_run, region_to_run
from samjax.inference.ground_truth import GroundTruthPrompts, segment_by_truth
from samjax.inference.model import SegmentationModel
from samjax.inference.planes import encoded_volume
from samjax.inference.predictions import (
    SlicePrediction,
    VolumePrediction,
    codes_of,
    from_classes,
    not_run,
)
from samjax.inference.prompts import Region, SlicePrompt
from samjax.inference.propagation import BOTH_WAYS, Course, box_around, click_inside, propagate_prompts
from samjax.inference.rotations import TurnedVolume

Watch = Callable[[SlicePrediction], None]


class SourceVolume:
    """A scan and the model that segments it; prompts and masks are on the scan's grid.

    Attributes:
        images: (Z, rows, columns, 4) uint8, t1, t1gd, t2, flair, on the scan's grid.
        encoded: the same on the run's grid, where the model works; in several rotations if the model has them.
        resampled: whether the two grids differ. If not, they share their voxels, and nothing is resampled.
    """

    def __init__(
        self,
        model: SegmentationModel,
        images: np.ndarray,
        spacing: Sequence[float] | None = None,
        slices: int = SLICES,
        *,
        modalities: Collection[str] = MODALITIES,
        stored: ReadEmbedding | None = None,
    ):
        """
        Args:
            images: the four modalities of a scan.
            spacing: mm between its slices, rows and columns; None: that of the run's grid.
            slices: number of slices that go through the model together on each device.
            modalities: those that the scan has; the others are 0.
            stored: reads embeddings of the run's slices that were computed before; see `EncodedVolume`. Not for a model
                with rotations.
        """
        self.images, shape = images, images.shape[:3]
        if spacing is not None and model.grid is not None:
            shape = model.grid.shape_of(shape, spacing)
        self.resampled = shape != self.shape
        if self.resampled:
            images = resample_images(images, steps_between(shape, self.shape))
        if model.turns:
            self.encoded = TurnedVolume(model, images, slices, modalities=modalities)
        else:
            self.encoded = encoded_volume(model, images, slices, modalities=modalities, stored=stored)

    @property
    def shape(self) -> Shape:
        """The scan's slices, rows and columns."""
        return self.images.shape[:3]

    def run_slices(self, slices: Sequence[int]) -> list[int]:
        """The slices of the run's grid that hold the centres of slices of the scan."""
        return nearest_slices(self.shape[0], self.encoded.shape[0])[list(slices)].tolist()

    def segment(self, logits: bool = False) -> VolumePrediction:
        """Segments every slice without any prompt. `logits`: with the regions' logits."""
        if not self.resampled:
            return self.encoded.segment(logits)
        if self.encoded.model.is_unet:
            classes = logits_to_source(self.encoded.class_logits(), self.shape)
            return from_classes(classes, self.encoded.model.rois) if logits else not_run(codes_of(classes))
        return self._on_source(self.encoded.segment(logits=True), None, logits)

    def segment_regions(
        self,
        regions: Sequence[Region],
        propagate: bool = False,
        initial: np.ndarray | None = None,
        logits: bool = False,
        course: Course = BOTH_WAYS,
        watch: Watch | None = None,
    ) -> VolumePrediction:
        """Segments the slices that are prompted, and with `propagate` those that their masks reach on the run's grid.

        Args:
            regions: each object's prompts, on slices and in pixels of the scan.
            initial: (Z, rows, columns) of the scan, the mask of the slices that are not segmented; None: background.
            course: the slices of the scan to propagate from, and the directions.
            watch: called with each slice that propagation has segmented.
        """
        found = self._segment_regions(regions, propagate, logits, course, watch)
        if initial is None:
            return found
        segmented = ~np.isnan(found.iou)[:, None, None]
        return replace(found, mask=np.where(segmented, found.mask, initial))

    def _segment_regions(
        self, regions: Sequence[Region], propagate: bool, logits: bool, course: Course, watch: Watch | None
    ) -> VolumePrediction:
        run, shape, asked = self.encoded, self.encoded.shape, logits or self.resampled
        moved = [region_to_run(region, self.shape, shape) for region in regions] if self.resampled else regions

        def predict_slices(prompts: Sequence[SlicePrompt]) -> list[SlicePrediction]:
            return run.predict_slices(prompts, asked)

        if propagate:
            around = box_around if "box" in run.model.prompts else click_inside
            if self.resampled and course.starts is not None:
                starts = region_to_run({z: SlicePrompt(z) for z in course.starts}, self.shape, shape)
                course = replace(course, starts=frozenset(starts))
            predictions = _watched(propagate_prompts(predict_slices, moved, shape[0], around, course), watch)
        else:
            predictions = predict_slices([prompt for region in moved for prompt in region.values()])
        found = run.united(predictions, asked)
        if not self.resampled:
            return found
        prompted = np.isin(np.arange(self.shape[0]), [z for region in regions for z in region])
        return self._on_source(found, None if propagate else prompted, logits)

    def predict_slices(self, prompts: Sequence[SlicePrompt]) -> list[SlicePrediction]:
        """Segments slices of the scan, each by its own prompt on the nearest slice of the run's grid."""
        if not self.resampled:
            return self.encoded.predict_slices(prompts)
        numbers = self.run_slices([prompt.slice for prompt in prompts])
        placed = [
            prompt_to_run(prompt, number, self.shape, self.encoded.shape)
            for prompt, number in zip(prompts, numbers, strict=True)
        ]
        found = []
        for prompt, one in zip(prompts, self.encoded.predict_slices(placed, logits=True), strict=True):
            logits = logits_to_source(one.logits[:, None], (1, *self.shape[1:]))[:, 0]
            found.append(SlicePrediction(prompt.slice, logits > 0, one.ious))
        return found

    def segment_by_truth(
        self, labels: np.ndarray, prompts: GroundTruthPrompts, identity: int, logits: bool = False
    ) -> VolumePrediction:
        """Segments the slices that show the model's region by prompts drawn from it on the run's grid.

        A model with rotations, or several models, get theirs from `averaged_cases`.

        Args:
            labels: (Z, rows, columns) uint8 canonical codes of the scan.
            identity: identity of the case, on which the clicks depend.
        """
        truth, ignored = roi_mask(labels, self.encoded.model.rois[0]), labels == IGNORED
        shown = truth.any((1, 2))
        if self.resampled:
            truth, ignored = (resample_region(region, self.encoded.shape) for region in (truth, ignored))
        labelled = truth | ~ignored
        found = segment_by_truth(self.encoded, truth, labelled, prompts, identity, logits or self.resampled)
        return self._on_source(found, shown, logits) if self.resampled else found

    def _on_source(self, found: VolumePrediction, kept: np.ndarray | None, logits: bool) -> VolumePrediction:
        """A prediction of the run's grid on the scan's, see `prediction_to_source`; its logits only if asked for."""
        model = self.encoded.model
        found = prediction_to_source(found, self.shape, model.rois, model.nested, kept)
        return found if logits else replace(found, logits=None)


def _watched(predictions: Iterator[SlicePrediction], watch: Watch | None) -> Iterator[SlicePrediction]:
    for found in predictions:
        if watch is not None:
            watch(found)
        yield found
