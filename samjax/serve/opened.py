"""A case that is open: its images, its place in space, and its embeddings as far as they are computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jax
import numpy as np

from samjax.data.cases import MODALITIES, Case
from samjax.data.fingerprint import scan_digest
from samjax.data.imaging.doubts import case_doubts, read_ranges
from samjax.data.imaging.geometry import Geometry
from samjax.data.imaging.volumes import read_scan
from samjax.data.labels import roi_codes
from samjax.inference.given import modalities_of
from samjax.inference.model import SegmentationModel
from samjax.inference.predictor import read_images
from samjax.inference.prompts import Region
from samjax.inference.regions import region_codes
from samjax.inference.source import SourceVolume
from samjax.serve.stamps import Stamp, require_unchanged, stamps_of


@dataclass(frozen=True, eq=False)
class OpenedCase:
    """A scan with the model that segments it.

    Attributes:
        model: the model.
        volume: the scan, on whose grid prompts and masks are.
        spacing: mm between its slices, rows and columns.
        case, geometry: of a scan from files; None for an array.
        doubts: signs that the files are not what the model was trained on, a sentence each.
        stamps: of its files, as they were read.
    """

    model: SegmentationModel
    volume: SourceVolume
    spacing: tuple[float, float, float]
    case: Case | None = None
    geometry: Geometry | None = None
    doubts: tuple[str, ...] = ()
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)
    _scans: dict[str, np.ndarray] = field(default_factory=dict, init=False)

    @classmethod
    def from_files(cls, model: SegmentationModel, case: Case, run: Path | None = None) -> "OpenedCase":
        """Reads a case; its label is not opened.

        Raises:
            UserError: a file is damaged, the files' grids differ, or the model needs a modality that is missing.
        """
        stamps = stamps_of({source.path for source in case.images.values()})
        images, geometry = read_images(case)
        volume = SourceVolume(model, images, geometry.spacing, modalities=modalities_of(images))
        ranges = None if run is None else read_ranges(run)
        doubts = tuple(case_doubts(case, images, geometry, ranges, model.grid))
        return cls(model, volume, geometry.spacing, case, geometry, doubts, stamps)

    @classmethod
    def from_array(
        cls, model: SegmentationModel, images: np.ndarray, spacing: tuple[float, float, float]
    ) -> "OpenedCase":
        """A scan (slices, rows, columns, 4) uint8 in memory, prepared as for training.

        Raises:
            UserError: the model needs a modality that is missing.
        """
        return cls(model, SourceVolume(model, images, spacing, modalities=modalities_of(images)), spacing)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The scan's slices, rows and columns."""
        return self.volume.shape

    @property
    def images(self) -> np.ndarray:
        """The four modalities (slices, rows, columns, 4) uint8 as the model takes them; background is 0."""
        return self.volume.images

    @cached_property
    def digest(self) -> str:
        """A digest of the images and their grid; of an array "" ."""
        return "" if self.geometry is None else scan_digest(self.images, self.geometry)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the scan has."""
        return self.case.modalities if self.case else modalities_of(self.images)

    @property
    def missing(self) -> tuple[str, ...]:
        """The modalities that the model looks at and that the scan lacks."""
        return tuple(self.model.needs.lacking(self.modalities))

    def scan(self, modality: str) -> np.ndarray:
        """The numbers of a file (slices, rows, columns), read when first asked for and kept; a float64 file as float32.

        Raises:
            UserError: the file cannot be read any more, or is another one by now.
        """
        if self.case is None:
            return self.images[..., MODALITIES.index(modality)]
        if modality not in self._scans:
            self.require_unchanged()
            array = read_scan(self.case.images[modality], {}).array
            whole = array.dtype.kind in "iu" and array.dtype.itemsize <= 4
            self._scans[modality] = array if whole else array.astype(np.float32, copy=False)
        return self._scans[modality]

    def require_unchanged(self) -> None:
        """Raises a `UserError` if one of its files is not as it was read."""
        require_unchanged(self.stamps)

    @property
    def memory(self) -> int:
        """The bytes that the case takes now: images, two masks, what was read, and the embeddings that are there."""
        encoded = self.volume.encoded
        run = 0 if encoded.images is self.images else encoded.images.nbytes
        scans = sum(scan.nbytes for scan in tuple(self._scans.values()))
        return self.images.nbytes + run + 2 * self.images[..., 0].size + scans + encoded.embedding_bytes

    @property
    def encoded_slices(self) -> int:
        """The number of slices of the scan whose embeddings are there, as a share of all."""
        encoded = self.volume.encoded
        if self.model.is_unet:
            return self.shape[0]
        return round(encoded.encoded_slices * self.shape[0] / encoded.shape[0])

    def encode_next(self, slice_: int) -> jax.Array | None:
        """Begins to encode the window nearest to a slice of the scan that has no embeddings.

        Returns:
            Its embeddings, which JAX computes while the caller goes on; None if all slices have theirs.
        """
        missing = None if self.model.is_unet else self.next_missing(slice_)
        return None if missing is None else self.volume.encoded.window(missing // self.model.depth)

    def next_missing(self, slice_: int) -> int | None:
        """The slice of the run's grid nearest to a slice of the scan that has no embedding; None if all have theirs."""
        return self.volume.encoded.nearest_unencoded(self.volume.run_slices([slice_])[0])

    @property
    def mixes_slices(self) -> bool:
        """Whether slices of the scan share slices of the run's grid, or have several: all are answered together."""
        return self.shape[0] != self.volume.encoded.shape[0]

    def segmented_slices(self, regions: Sequence[Region]) -> dict[int, np.ndarray]:
        """The canonical codes (rows, columns) uint8 of every prompted slice, as `SourceVolume.segment_regions`."""
        if self.mixes_slices:
            mask = self.codes(self.volume.segment_regions(regions).mask)
            return {z: mask[z] for region in regions for z in region}
        masks: dict[int, np.ndarray] = {}
        prompts = [prompt for region in regions for prompt in region.values()]
        for found in self.volume.predict_slices(prompts):
            before = masks.get(found.slice)
            masks[found.slice] = found.masks if before is None else before | found.masks
        rois, nested = self.model.rois, self.model.nested
        return {z: region_codes(dict(zip(rois, planes, strict=True)), nested) for z, planes in masks.items()}

    def codes(self, mask: np.ndarray) -> np.ndarray:
        """A predicted mask as canonical codes: of one region, bool, those of its outermost compartment."""
        return mask.astype(np.uint8) * roi_codes(self.model.rois[0])[0] if mask.dtype == bool else mask
