"""From an uploaded array to an open case on whose voxels a model works, and the way between the two."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from samjax.data.cases import MODALITIES
from samjax.data.imaging.background import background_of
from samjax.data.imaging.geometry import Geometry, geometry_of, points_to_ours, to_ours, to_source
from samjax.data.imaging.normalise import normalise
from samjax.errors import UserError
from samjax.inference.given import spacing_of
from samjax.inference.model import SegmentationModel
from samjax.serve.nninteractive.matching import Matcher, NoMatch
from samjax.serve.opened import OpenedCase

LARGEST_VALUE = 2.0**53
"""Largest value of a voxel: up to it, float64 has every whole number."""
LONGEST_SIDE = 1024
"""Voxels of the longest side of an array that is no served scan: it is encoded slice by slice."""
THICKER = 1.2
"""Times by which the distance between slices exceeds the others where an array's slices can be told by it."""


class Placed(NamedTuple):
    """An open case, and the geometry of the client's array, whose axes are (x, y, z) by the protocol."""

    case: OpenedCase
    geometry: Geometry

    @property
    def shape(self) -> tuple[int, int, int]:
        """The array's sides."""
        return self.geometry.source_shape

    def point(self, place: Sequence[int]) -> tuple[int, int, int]:
        """The (slice, row, column) of a voxel of the array."""
        slice_, row, column = points_to_ours(np.array(place), self.geometry).tolist()
        return slice_, row, column

    def mask(self, array: np.ndarray) -> np.ndarray:
        """An array of the client's as (slice, row, column); a view."""
        return to_ours(array, self.geometry)

    def array(self, mask: np.ndarray) -> np.ndarray:
        """A mask (slice, row, column) on the client's axes; a view."""
        return to_source(mask, self.geometry)


class Placing:
    """Finds the case of an uploaded array: a served one, or, for a model of one modality, the array itself."""

    def __init__(self, model: SegmentationModel, matcher: Matcher, opened: Callable[[str], OpenedCase]):
        """
        Args:
            opened: opens a served case by its id.
        """
        self._model, self._matcher, self._opened = model, matcher, opened

    def __call__(self, image: np.ndarray, properties: Any) -> Placed:
        """The place of an image (1, x, y, z).

        Args:
            properties: what the client says of the image; `spacing` are the mm between its voxels along x, y and z.

        Raises:
            UserError: the array has several channels, one value alone or values that no scan has, equals a served scan
                in several orientations or, where the model needs other modalities, none, or the case cannot be opened.
        """
        if image.shape[0] != 1:
            raise UserError(f"image of shape {image.shape}: expected one channel; its first side must be 1")
        array = image[0].view(np.uint8) if image.dtype == bool else image[0]
        low, high = array.min().item(), array.max().item()
        if not (abs(low) <= LARGEST_VALUE and abs(high) <= LARGEST_VALUE):
            raise UserError(f"image: has voxels that are NaN, infinite or beyond {LARGEST_VALUE:g}; repair the file")
        if low == high:
            raise UserError(f"image: every voxel is {low:g}; expected a scan")
        try:
            match = self._matcher.find(array)
        except NoMatch:
            if len(set(self._model.needs.modalities)) != 1:
                raise
            return self._alone(array, properties)
        return Placed(self._opened(match.case.id), match.geometry)

    def _alone(self, array: np.ndarray, properties: Any) -> Placed:
        """An array that is no served scan, as a scan of the model's one modality."""
        if max(array.shape) > LONGEST_SIDE:
            raise UserError(f"image of shape {array.shape}: expected sides of at most {LONGEST_SIDE} voxels")
        spacing = spacing_of(properties.get("spacing") if isinstance(properties, dict) else None)
        geometry = assumed_geometry(array.shape, spacing)
        scan = to_ours(array, geometry)
        images = np.zeros((*scan.shape, len(MODALITIES)), np.uint8)
        modality = MODALITIES.index(self._model.needs.modalities[0])
        images[..., modality] = normalise(scan, background_of(scan), "image")
        return Placed(OpenedCase.from_array(self._model, images, geometry.spacing), geometry)


def assumed_geometry(shape: Sequence[int], spacing: Sequence[float]) -> Geometry:
    """The geometry of an array of which nothing but the mm between its voxels is known.

    Its slices lie along the axis whose voxels are clearly the farthest apart, else along the first one; the others are
    rows and columns, or columns and rows before slices, from front to back and from the patient's right to the left.
    """
    farthest = int(np.argmax(spacing))
    others = max(length for axis, length in enumerate(spacing) if axis != farthest)
    slices = farthest if spacing[farthest] > THICKER * others else 0
    axes = {0: (0, 1, 2), 1: (1, 0, 2), 2: (2, 1, 0)}[slices]
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (anatomical, sign) in zip(axes, ((2, 1), (1, -1), (0, -1)), strict=True):
        affine[anatomical, axis] = sign * spacing[axis]
    return geometry_of(tuple(shape), affine, "image")
