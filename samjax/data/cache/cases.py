"""The slice cache: one file for each prepared case, from which slices are read without parsing.

A file is a safetensors of the tensors `images` (z, h, w, 4) uint8, `labels` (z, h, w) uint8 and `counts`
(Z, 4) int32, as in `volumes.Volume`, and metadata that describes them. Its name holds a key made of
the source files and the preprocessing version, so that what has changed is built anew. Files appear
whole, by a rename: builds may run at once or be killed. A case that is resampled to the grid of a run has
a file for each shape that it is resampled to.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from samjax.data.cases import MODALITIES, Case
from samjax.data.fingerprint import fingerprint_of
from samjax.data.formats.nifti import header_bytes
from samjax.data.imaging.geometry import Geometry
from samjax.data.imaging.grids import RunGrid, Shape
from samjax.data.imaging.resampling import RESAMPLING_VERSION
from samjax.data.imaging.volumes import (
    PREPROCESSING_VERSION,
    Box,
    Volume,
    header_geometry,
    read_case,
    resample_volume,
)
from samjax.data.loading.progress import map_with_progress
from samjax.errors import UserError
from samjax.files import replacing

# Name and safetensors dtype, in the order of the file: what is small, and needed on opening, first.
_TENSORS = {"counts": "I32", "labels": "U8", "images": "U8"}
# The share of a skull-stripped volume that its brain's bounding box takes up: 0.35 to 0.4 in BraTS.
_BRAIN_SHARE = 0.42
# A temporary file this old belongs to a build that was killed; writing one takes seconds.
_STALE_SECONDS = 900
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Failure:
    """A case that could not be prepared, and the reason in one line."""

    case: Case
    reason: str


@dataclass(frozen=True)
class Origin:
    """What is kept of a case's own grid after resampling."""

    geometry: Geometry
    label_digest: str


@dataclass(frozen=True)
class CachedCase:
    """A prepared case whose slices are read on demand; small, so it can be sent to other processes.

    `counts` (Z, 4) int32: pixels of each canonical code in every slice of the whole volume. The slices
    inside `box` lie in the file `path`, images and labels from these bytes on, or in `memory`. The
    file is opened for each read, since a cohort has more files than a process may keep open.
    """

    case: Case
    counts: np.ndarray
    box: Box
    geometry: Geometry
    path: Path | None = None
    offsets: tuple[int, int] = (0, 0)
    memory: Volume | None = None
    stored_fingerprint: str | None = None
    """The case's fingerprint; None in memory, and for files of versions without fingerprints."""
    hidden: frozenset[str] = frozenset()
    """Modalities that are treated as if the case lacked them."""
    origin: Origin | None = None
    """The case's own grid, where it was resampled: all else is then of the run's grid, except the fingerprint."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the case has and that are not hidden, in the order of `MODALITIES`."""
        return tuple(modality for modality in self.case.modalities if modality not in self.hidden)

    @property
    def title(self) -> str:
        """The case, for messages."""
        return self.case.id

    @property
    def identity(self) -> int:
        """The case's identity, on which the random draws for its slices depend."""
        return self.case.identity

    @property
    def present(self) -> np.ndarray:
        """Whether each of `MODALITIES` is one of `modalities`, (4,) bool."""
        return np.isin(MODALITIES, self.modalities)

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the images' content, see `fingerprint_of`."""
        return self.stored_fingerprint or fingerprint_of(self)

    @property
    def label_digest(self) -> str:
        """A digest of how many pixels of each canonical code every slice has; "" without a label.

        It costs nothing to read, and a label that was changed hardly ever keeps all of these numbers. They are those of
        the label as stored, resampled or not.
        """
        return self.origin.label_digest if self.origin else _label_digest(self.case, self.counts)

    @property
    def source_geometry(self) -> Geometry:
        """The geometry of the case's files."""
        return self.origin.geometry if self.origin else self.geometry

    @property
    def shape(self) -> tuple[int, int, int]:
        """The whole volume's (slices, rows, columns)."""
        return self.geometry.shape

    @property
    def labelled(self) -> bool:
        """Whether the case has a label."""
        return self.case.label is not None

    @property
    def images(self) -> np.ndarray:
        """Images inside `box`: (z, h, w, 4) uint8, t1, t1gd, t2, flair."""
        if self.memory is not None:
            return self.memory.images
        return self._mapped(self.offsets[0], (*self.box.shape, len(MODALITIES)))

    @property
    def labels(self) -> np.ndarray:
        """Labels inside `box`: (z, h, w) uint8 canonical codes, all background if there is no label."""
        if self.memory is not None:
            return self.memory.labels
        return self._mapped(self.offsets[1], self.box.shape)

    def read(self, start: int, stop: int, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Whole slices from `start` up to before `stop`, with the background around `box` restored.

        Modalities that are missing or hidden are 0.

        Args:
          start, stop: slices of the whole volume; slices outside of it are background.
          size: the side of the square they are padded to, right and bottom; None: the native size.

        Returns:
          images (n, H, W, 4) uint8 (t1, t1gd, t2, flair) and labels (n, H, W) uint8 canonical codes.
        """
        present = self.present if self.hidden else None
        return read_slices(self.images, self.labels, self.box, self.shape, present, start, stop, size)

    def whole_labels(self) -> np.ndarray:
        """The labels of the whole volume, (Z, H, W) uint8 canonical codes, without reading any image."""
        labels = np.zeros(self.shape, np.uint8)
        labels[self.box.index] = self.labels
        return labels

    def _mapped(self, offset: int, shape: tuple[int, ...]) -> np.ndarray:
        assert self.path is not None
        return np.memmap(self.path, np.uint8, "r", offset, shape)


def read_slices(
    stored_images: np.ndarray,
    stored_labels: np.ndarray,
    box: Box,
    shape: Shape,
    present: np.ndarray | None,
    start: int,
    stop: int,
    size: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Slices of a volume of `shape` of which the part inside `box` is stored; see `CachedCase.read`.

    Args:
      present: the modalities (4,) bool that are shown, the others are 0; None: all that is stored.
    """
    rows, columns = (size, size) if size is not None else shape[1:]
    if rows < shape[1] or columns < shape[2]:
        raise ValueError(f"size {size} does not hold slices of {shape[1:]}")
    images = np.zeros((stop - start, rows, columns, len(MODALITIES)), np.uint8)
    labels = np.zeros((stop - start, rows, columns), np.uint8)
    first, last = max(start, box.start[0]), min(stop, box.stop[0])
    if first < last:
        inside = slice(first - box.start[0], last - box.start[0])
        where = (slice(first - start, last - start), *box.index[1:])
        images[where] = stored_images[inside]
        labels[where] = stored_labels[inside]
    if present is not None:
        images[..., ~present] = 0
    return images, labels


def build_cache(
    cases: Sequence[Case],
    directory: Path | None,
    workers: int | None = None,
    progress: bool = True,
    grid: RunGrid | None = None,
) -> tuple[list[CachedCase], list[Failure]]:
    """Prepares the cases that are not in the cache yet, by several processes, and opens all.

    Args:
      cases: of any layouts and domains.
      directory: folder of the files; None keeps everything in memory instead.
      workers: processes, by default one per core; with 1, this process does all.
      progress: whether to print the size and a progress bar to stderr.
      grid: the grid that cases are resampled to; None: each keeps its own.

    Returns:
      The cases that could be prepared, in the order given, and those that could not.

    Raises:
      UserError: the disk is full, or the files would not fit on it.
    """
    if directory is not None:
        _make_directory(directory)
    results: list[CachedCase | Failure | None] = [_opened(case, directory, grid) for case in cases]
    missing = [number for number, result in enumerate(results) if result is None]
    if missing:
        todo = [cases[number] for number in missing]
        if directory is not None:
            _announce(todo, directory, progress, grid)
        done = map_with_progress(_Prepare(directory, grid), todo, "preparing cases", workers, progress)
        for number, result in zip(missing, done, strict=True):
            results[number] = result
    good = [result for result in results if isinstance(result, CachedCase)]
    return good, [result for result in results if isinstance(result, Failure)]


def open_case(case: Case, directory: Path | None, grid: RunGrid | None = None) -> CachedCase:
    """One case from the cache, prepared first where needed; with `directory` None, in memory.

    With a `grid`, a case on another grid is resampled to it.

    Raises:
      UserError: the case cannot be read, or the disk is full.
    """
    if directory is None:
        volume, fingerprint, origin = _prepared(case, grid)
        return CachedCase(
            case, volume.counts, volume.box, volume.geometry, memory=volume, stored_fingerprint=fingerprint,
            origin=origin,
        )  # fmt: skip
    if (found := _opened(case, directory, grid)) is None:
        key = _key(case, grid)
        path = _path(case, directory, key)
        volume, fingerprint, origin = _prepared(case, grid)
        try:
            with replacing(path) as temporary:
                _write(temporary, case, key, volume, fingerprint or fingerprint_of(volume), origin)
        except OSError as error:
            raise _not_written(directory, error) from error
        found = _opened(case, directory, grid)
    if found is None:
        raise UserError(f"{directory}: the cached {case.id} cannot be read back, or its files are changing now")
    return found


def _prepared(case: Case, grid: RunGrid | None) -> tuple[Volume, str | None, Origin | None]:
    """A case read and, if it is on another grid, resampled; then also its fingerprint and its own grid."""
    volume = read_case(case)
    own = volume.geometry
    shape = grid.shape_of(own.shape, own.spacing) if grid else own.shape
    if shape == own.shape:
        return volume, None, None
    origin = Origin(own, _label_digest(case, volume.counts))
    return resample_volume(volume, shape), fingerprint_of(volume), origin


def _label_digest(case: Case, counts: np.ndarray) -> str:
    if case.label is None:
        return ""
    return hashlib.blake2b(counts.astype("<i4").tobytes(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class _Prepare:
    """The function that the worker processes call with each case."""

    directory: Path | None
    grid: RunGrid | None

    def __call__(self, case: Case) -> CachedCase | Failure:
        try:
            return open_case(case, self.directory, self.grid)
        except _CacheError:
            raise
        except UserError as error:
            return Failure(case, str(error))


class _CacheError(UserError):
    """The cache's folder has failed, not the case, so that other cases would fail too."""


def _opened(case: Case, directory: Path | None, grid: RunGrid | None = None) -> CachedCase | None:
    """The case from its file; None if there is no whole file or a source cannot be read."""
    if directory is None:
        return None
    try:
        path = _path(case, directory, _key(case, grid))
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            about = json.loads(header["__metadata__"]["case"])
            spans = {name: [8 + length + end for end in header[name]["data_offsets"]] for name in _TENSORS}
            file.seek(spans["counts"][0])
            counts = np.fromfile(file, "<i4", math.prod(header["counts"]["shape"]))
            size = os.fstat(file.fileno()).st_size
    except (OSError, UserError, ValueError, KeyError):
        return None
    if size != max(stop for _, stop in spans.values()):  # a crash of the machine can leave half a file
        return None
    counts = counts.astype(np.int32).reshape(header["counts"]["shape"])
    box, geometry = Box(**_tuples(about["box"])), Geometry(**_tuples(about["geometry"]))
    offsets = spans["images"][0], spans["labels"][0]
    origin = None
    if kept := about.get("origin"):
        origin = Origin(Geometry(**_tuples(kept["geometry"])), kept["label_digest"])
    return CachedCase(
        case, counts, box, geometry, path, offsets, stored_fingerprint=about.get("fingerprint"), origin=origin
    )


def _tuples(value: Any) -> Any:
    """Turns the lists of JSON back into tuples."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _write(path: Path, case: Case, key: str, volume: Volume, fingerprint: str, origin: Origin | None) -> None:
    """Writes a safetensors file by hand: the library would first copy it all into one string."""
    arrays = dict(zip(_TENSORS, (volume.counts.astype("<i4"), volume.labels, volume.images), strict=True))
    about = {
        "id": case.id,
        "labelled": case.label is not None,
        "scheme": case.scheme,
        "modalities": MODALITIES,
        "present": case.modalities,
        "shape": volume.geometry.shape,
        "box": asdict(volume.box),
        "spacing": volume.geometry.spacing,
        "axes": "SPL",
        "geometry": asdict(volume.geometry),
        "preprocessing": PREPROCESSING_VERSION,
        "fingerprint": fingerprint,
        "origin": origin and asdict(origin),
        "key": key,
    }
    header: dict[str, Any] = {"__metadata__": {"case": json.dumps(about)}}
    end = 0
    for name, array in arrays.items():
        dtype = _TENSORS[name]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [end, end + array.nbytes]}
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # Plain writes, not a writable memory map: on a full disk that ends in a signal, not an error.
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).data)


def _key(case: Case, grid: RunGrid | None = None) -> str:
    """A digest of all that the cached file depends on: the sources' paths, sizes, times, headers, and the version;
    and, where it is resampled, the shape, since the field of view stays.
    """
    digest = hashlib.sha256(f"{PREPROCESSING_VERSION} {case.scheme}".encode())
    for modality in MODALITIES:
        place = case.images[modality].channel if modality in case.images else "missing"
        digest.update(f" {modality}={place}".encode())
    for path in case.files:
        try:
            status = path.stat()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        digest.update(f" {path.resolve()} {status.st_size} {status.st_mtime_ns} ".encode())
        digest.update(header_bytes(path))
    if grid is not None and grid.resamples((own := header_geometry(case)).shape, own.spacing):
        digest.update(f" {grid.shape_of(own.shape, own.spacing)} {RESAMPLING_VERSION}".encode())
    return digest.hexdigest()


def _path(case: Case, directory: Path, key: str) -> Path:
    return directory / f"{case.id}-{key[:16]}.safetensors"


def _make_directory(directory: Path) -> None:
    """Makes the folder, and removes temporary files that killed builds left in it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.glob(".tmp-*"):
            with suppress(FileNotFoundError):  # another build may be at the same
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()
    except OSError as error:
        raise _not_written(directory, error) from error


def _announce(cases: Sequence[Case], directory: Path, progress: bool, grid: RunGrid | None) -> None:
    """Prints the size of the cache to come and the free space; refuses to start if it cannot fit."""
    expected = sum(_expected_bytes(case, grid) for case in cases)
    free = shutil.disk_usage(directory).free
    if expected > free:
        raise _CacheError(
            f"{directory}: the cache of {len(cases)} cases takes about {_size(expected)}, but {_size(free)} "
            "are free; free some, name another disk with --cache-dir, or use --no-cache"
        )
    if progress:
        from rich.console import Console

        Console(stderr=True).print(
            f"Preparing {len(cases)} cases in {directory}: about {_size(expected)}, {_size(free)} free",
            highlight=False,
            markup=False,
        )


def _expected_bytes(case: Case, grid: RunGrid | None) -> int:
    with suppress(UserError):  # a damaged file is reported when its case is read
        own = header_geometry(case)
        shape = grid.shape_of(own.shape, own.spacing) if grid else own.shape
        return int(math.prod(shape) * (len(MODALITIES) + 1) * _BRAIN_SHARE)
    return 0


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _not_written(directory: Path, error: OSError) -> UserError:
    if error.errno in _FULL:
        return _CacheError(
            f"{directory}: no space left for the cache; free some, name another disk with --cache-dir, "
            "or use --no-cache"
        )
    return _CacheError(
        f"{directory}: the cache cannot be written ({error.strerror or error}); "
        "name another folder with --cache-dir, or use --no-cache"
    )
