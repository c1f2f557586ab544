"""Reads one case, oriented, verified, normalised and cropped to the brain, and writes label maps back."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from samjax.data.cases import MODALITIES, Case, Source
from samjax.data.formats.nifti import Nifti, read_header, read_nifti, write_like
from samjax.data.imaging.background import background_of
from samjax.data.imaging.geometry import Geometry, geometry_of, regridded, same_grid, to_ours, to_source
from samjax.data.imaging.grids import Shape
from samjax.data.imaging.normalise import normalise
from samjax.data.imaging.resampling import cropped_steps, resample_images, resample_labels, steps_between
from samjax.data.labels import IGNORED, to_canonical
from samjax.errors import UserError
from samjax.metrics.boxes import bounding_box

# Raised whenever the same files would give other numbers, so that caches of before are not used.
PREPROCESSING_VERSION = 3
THREADS = 2
"""Threads that read and prepare one case; zlib and NumPy, which take most of the time, release Python's lock."""


@dataclass(frozen=True)
class Box:
    """A crop of a whole volume: (slice, row, column) indices, from `start` up to before `stop`."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def index(self) -> tuple[slice, slice, slice]:
        """The index of the box in an array (slice, row, column)."""
        first, second, third = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return first, second, third

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of slices, rows and columns."""
        first, second, third = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return first, second, third

    def union(self, other: "Box") -> "Box":
        """The smallest box that holds both."""
        a, b, c = map(min, self.start, other.start)
        d, e, f = map(max, self.stop, other.stop)
        return Box((a, b, c), (d, e, f))


@dataclass(frozen=True)
class Scan:
    """One image or label as stored: `array` (slice, row, column), a view in the file's own numbers."""

    source: Source
    array: np.ndarray
    geometry: Geometry

    @property
    def name(self) -> str:
        """The path of the file and, in a 4-D file, the channel; for messages."""
        return str(self.source.path) + ("" if self.source.channel is None else f" (channel {self.source.channel})")


@dataclass(frozen=True)
class Volume:
    """A case in memory.

    `images` (z, h, w, 4) uint8, t1, t1gd, t2, flair in [0, 255], and `labels` (z, h, w) uint8 canonical
    codes lie inside `box`; outside of it all is 0, and so is a modality that the case lacks. `counts`
    (Z, 4) int32: pixels of background and of each compartment in every slice of the whole volume, ignored
    ones left out. Without a label all is background.
    """

    images: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    box: Box
    geometry: Geometry


def read_case(case: Case) -> Volume:
    """Reads and prepares all files of a case.

    Raises:
      UserError: a file is damaged, empty, constant or not finite, the files' grids differ, or a label
        value is not of the case's scheme.
    """
    opened = _read_together(case.files)
    images = [read_scan(case.images[modality], opened) for modality in case.modalities]
    label = read_scan(Source(case.label), opened) if case.label else None
    for scan in [*images[1:], *([label] if label else [])]:
        verify_grid(scan, images[0])

    with ThreadPoolExecutor(THREADS) as pool:
        backgrounds = list(pool.map(background_value, images))
        boxes = list(pool.map(foreground_box, images, backgrounds))
        if label and label.array.any():
            boxes.append(foreground_box(label, 0))
        box = reduce(Box.union, boxes)

        pixels = np.zeros((*box.shape, len(MODALITIES)), np.uint8)
        cropped = [scan.array[box.index] for scan in images]
        names = [scan.name for scan in images]
        for modality, prepared in zip(case.modalities, pool.map(normalise, cropped, backgrounds, names), strict=True):
            pixels[..., MODALITIES.index(modality)] = prepared
    labels = canonical_label(label, case, box) if label else np.zeros(box.shape, np.uint8)
    geometry = images[0].geometry
    return Volume(pixels, labels, count_codes(labels, box, geometry.shape), box, geometry)


def _read_together(paths: Sequence[Path]) -> dict[Path, Nifti]:
    """Reads each file once, with several threads, since decompressing releases Python's lock."""
    distinct = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(distinct, pool.map(read_nifti, distinct), strict=True))


def read_scan(source: Source, opened: dict[Path, Nifti]) -> Scan:
    """Reads one image or label; `opened` keeps files already read, since a 4-D one holds several images.

    Raises:
      UserError: the file is damaged or not finite, lacks the volume expected, or has no valid affine.
    """
    path = source.path
    if path not in opened:
        opened[path] = read_nifti(path)
    image = opened[path]
    array = image.array
    if source.channel is None and array.ndim != 3:
        advice = "; split it into one 3-D file for each image" if array.ndim > 3 else ""
        raise UserError(f"{path}: shape {_by(array.shape)}, expected one 3-D volume{advice}")
    if source.channel is not None:
        if array.ndim != 4 or array.shape[3] <= source.channel:
            raise UserError(f"{path}: shape {_by(array.shape)}, expected 4-D with a channel {source.channel}")
        array = array[..., source.channel]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{path}: has NaN or infinite voxels; repair the file")
    geometry = geometry_of(array.shape, image.header.get_best_affine(), path)
    return Scan(source, to_ours(array, geometry), geometry)


def verify_grid(scan: Scan, reference: Scan) -> None:
    """Raises a `UserError` if the scan's voxels are not on the reference's grid."""
    path, name = scan.source.path, reference.source.path.name
    if scan.geometry.shape != reference.geometry.shape:
        raise UserError(
            f"{path}: {_by(scan.geometry.source_shape)} voxels where {name} has "
            f"{_by(reference.geometry.source_shape)}; all files of a case must share one grid "
            "(register or resample them)"
        )
    if not same_grid(scan.geometry, reference.geometry):
        raise UserError(
            f"{path}: its affine puts the voxels elsewhere than {name}'s does; "
            "all files of a case must share one grid (register or resample them)"
        )


def background_value(scan: Scan) -> float:
    """The value outside the brain; see `background`."""
    return background_of(scan.array)


def foreground_box(scan: Scan, background: float) -> Box:
    """The bounding box of all voxels that are not `background`; a `UserError` if there are none."""
    found = bounding_box(scan.array != background)
    if found is None:
        raise UserError(f"{scan.name}: empty, every voxel is {scan.array.flat[0]:g}; repair or leave out the case")
    slices, rows, columns = found
    return Box((slices.start, rows.start, columns.start), (slices.stop, rows.stop, columns.stop))


def canonical_label(scan: Scan, case: Case, box: Box) -> np.ndarray:
    """The label inside `box` as uint8 canonical codes.

    Raises:
      UserError: a value is not of the case's scheme, or the scheme is not known.
    """
    if case.scheme is None:
        raise UserError(f"{scan.source.path}: the scheme of its values is not known; name it with --labels")
    return to_canonical(scan.array[box.index], case.scheme, scan.source.path)


def header_geometry(case: Case) -> Geometry:
    """The geometry of a case by the header of its first image; no voxel is read.

    Raises:
      UserError: the header cannot be read, or gives the voxels no place in space.
    """
    path = case.files[0]
    header = read_header(path)
    return geometry_of(header.get_data_shape()[:3], header.get_best_affine(), path)


def resample_volume(volume: Volume, shape: Shape) -> Volume:
    """A prepared case on the grid of `shape` (slices, rows, columns) with the same field of view."""
    steps, start, stop = cropped_steps(steps_between(shape, volume.geometry.shape), volume.box.start, volume.box.stop)
    box, geometry = Box(start, stop), regridded(volume.geometry, shape)
    labels = resample_labels(volume.labels, steps)
    counts = count_codes(labels, box, geometry.shape)
    return Volume(resample_images(volume.images, steps), labels, counts, box, geometry)


def write_labels(path: Path, values: np.ndarray, case: Case, geometry: Geometry) -> None:
    """Writes a label map beside the case's images: same affine, header and axes, the label's integer type.

    Args:
      path: `.nii` or `.nii.gz`.
      values: (slice, row, column) whole numbers of the source's scheme (see `labels.roi_value`).
      case: the case whose first image (`Case.reference`) gives the header; the type is uint8 if it has no label, or one
        that is not of integers.
      geometry: geometry of the case.
    """
    dtype = read_header(case.label).get_data_dtype() if case.label else np.dtype(np.uint8)
    if dtype.kind not in "iu":
        dtype = np.dtype(np.uint8)
    write_like(path, to_source(values, geometry), case.reference.path, dtype)


def count_codes(labels: np.ndarray, box: Box, shape: Shape) -> np.ndarray:
    """The `counts` of a `Volume` of this shape (slices, rows, columns) from its labels inside `box`."""
    slices, rows, columns = shape
    counts = np.zeros((slices, 4), np.int32)
    for code in (1, 2, 3):
        counts[box.index[0], code] = np.count_nonzero(labels == code, axis=(1, 2))
    counts[:, 0] = rows * columns - counts[:, 1:].sum(axis=1)
    counts[box.index[0], 0] -= np.count_nonzero(labels == IGNORED, axis=(1, 2)).astype(np.int32)
    return counts


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
