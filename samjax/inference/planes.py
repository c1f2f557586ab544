"""Prompt-free masks from several planes: each voxel by the mean of its probabilities in the slices that cross there."""

from collections.abc import Iterable, Sequence

import numpy as np

from samjax.data.cases import MODALITIES
from samjax.data.imaging.planes import AXIAL, PLANES, Plane
from samjax.inference.encoded import SLICES, EncodedVolume, ReadEmbedding
from samjax.inference.model import SegmentationModel
from samjax.inference.predictions import NOT_RUN, VolumePrediction, codes_of, from_classes, not_run, volume_prediction

_LARGEST = 80.0  # the exponential of larger logits leaves the range of float32


class PlanesVolume(EncodedVolume):
    """A volume whose prompt-free masks are made in the model's planes, and all else in the axial one.

    Slices of the other planes are encoded anew in each call, and only where they show anything but background. Their
    embeddings are not kept, since nothing else asks for them.
    """

    def __init__(
        self,
        model: SegmentationModel,
        images: np.ndarray,
        slices: int = SLICES,
        *,
        modalities: Sequence[str] = MODALITIES,
    ):
        """
        Args:
            images: (Z, rows, columns, 4) uint8, the four modalities of a scan of about cubic voxels.
            slices: number of slices that go through the model together on each device.
            modalities: those that the scan has.
        """
        super().__init__(model, images, slices, modalities=modalities)
        self._modalities, self._together = modalities, slices

    def segment(self, logits: bool = False) -> VolumePrediction:
        """Segments the whole volume without any prompt; the predicted IoU are those of the axial slices.

        They are NaN where the axial plane is not among the model's. `logits`: with the regions' logits.
        """
        if self.model.is_unet:
            classes = self.class_logits()
            return from_classes(classes, self.model.rois) if logits else not_run(codes_of(classes))
        rois, ious = self.model.rois, np.full((len(self.model.rois), self.shape[0]), np.nan, np.float32)

        def of_plane(name: str) -> np.ndarray:
            if name != AXIAL:
                return self._logits(PLANES[name])
            axial = EncodedVolume.segment(self, logits=True)
            ious[:] = axial.region_iou
            return axial.logits

        fused = mean_regions(map(of_plane, self.model.planes))
        return volume_prediction(fused > 0, ious, rois, self.model.nested, logits=fused if logits else None)

    def class_logits(self) -> np.ndarray:
        """A U-Net's logits (classes, Z, rows, columns) float32, by canonical code: of the planes' mean probability."""
        axial = EncodedVolume.class_logits
        return mean_classes(axial(self) if name == AXIAL else self._logits(PLANES[name]) for name in self.model.planes)

    def _logits(self, plane: Plane) -> np.ndarray:
        """The logits (R or classes, Z, rows, columns) of a plane; slices without content are background."""
        images = plane.seen(self.images)
        shown = np.flatnonzero(images.any(axis=(1, 2, 3)))
        first, last = (int(shown[0]), int(shown[-1]) + 1) if shown.size else (0, 1)
        inside = np.ascontiguousarray(images[first:last])
        volume = EncodedVolume(self.model, inside, self._together, modalities=self._modalities)
        found = volume.class_logits() if self.model.is_unet else volume.segment(logits=True).logits
        whole = np.full((len(found), *images.shape[:3]), NOT_RUN, np.float32)
        if self.model.is_unet:
            whole[0] = 0  # the code of background
        whole[:, first:last] = found
        return plane.back(whole)


def encoded_volume(
    model: SegmentationModel,
    images: np.ndarray,
    slices: int = SLICES,
    *,
    modalities: Sequence[str] = MODALITIES,
    stored: ReadEmbedding | None = None,
) -> EncodedVolume:
    """A scan with a model, see `EncodedVolume`, whose prompt-free masks are made in the model's planes."""
    if model.planes == (AXIAL,):
        return EncodedVolume(model, images, slices, modalities=modalities, stored=stored)
    return PlanesVolume(model, images, slices, modalities=modalities)


def mean_regions(found: Iterable[np.ndarray]) -> np.ndarray:
    """The logits of the mean probability of regions, from logits of one shape, float32; between -80 and 80."""
    inside = outside = np.float32(0)
    for logits in found:
        small = np.exp(-np.clip(logits, -_LARGEST, _LARGEST))
        share = 1 / (1 + small)
        inside, outside = inside + share, outside + small * share
    return np.log(inside) - np.log(outside)


def mean_classes(found: Iterable[np.ndarray]) -> np.ndarray:
    """The logarithm of the mean probability of classes, from logits (classes, ...) of one shape, float32."""
    total, count = np.float32(0), 0
    for logits in found:
        powers = np.exp(np.maximum(logits - logits.max(axis=0), -_LARGEST))
        total, count = total + powers / powers.sum(axis=0), count + 1
    return np.log(total / count)
