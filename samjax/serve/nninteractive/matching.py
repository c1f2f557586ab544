"""Finds the served scan that a client has uploaded: the protocol carries an array, and neither its name nor its place.

Viewers keep a file's voxels, but hand them over with axes permuted or reversed, and often as another type. An array is
therefore a scan if its voxels are equal in one of the 48 orientations, which then is the array's. Shapes are compared
first, by the headers, then sums over planes, which are kept in memory, and only then voxels.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from samjax.data.cases import Case, Source
from samjax.data.formats.nifti import read_header
from samjax.data.imaging.geometry import Geometry, to_ours
from samjax.data.imaging.volumes import THREADS, Scan, read_scan
from samjax.errors import UserError
from samjax.serve.stamps import Stamp, stamp_of

ROUNDINGS = 4
"""Voxels may differ by so many times the rounding error of the coarser of the two types."""


class NoMatch(UserError):
    """An array is none of the served scans."""


class Match(NamedTuple):
    """A case, and the geometry of the uploaded array as one of its scans."""

    case: Case
    geometry: Geometry


@dataclass(frozen=True)
class Summary:
    """What is kept of an array (a, b, c) to tell it from others.

    `sums[n]` holds the sum of every plane across axis n, float64; `rounding` is the largest rounding error of a voxel.
    """

    shape: tuple[int, ...]
    sums: tuple[np.ndarray, ...]
    low: float
    high: float
    rounding: float

    @classmethod
    def of(cls, array: np.ndarray) -> "Summary":
        """The summary of a finite array."""
        sums = tuple(array.sum(axis=axes, dtype=np.float64) for axes in ((1, 2), (0, 2), (0, 1)))
        low, high = float(array.min()), float(array.max())
        eps = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
        return cls(array.shape, sums, low, high, eps * max(abs(low), abs(high)))

    def tolerance(self, other: "Summary") -> float:
        """The difference up to which a voxel of the two counts as equal; 0 of whole numbers."""
        return ROUNDINGS * max(self.rounding, other.rounding)

    def orientations(self, scan: "Summary") -> Iterator["Orientation"]:
        """The orientations in which this array could be the scan, (slice, row, column)."""
        apart = self.tolerance(scan)
        if abs(self.low - scan.low) > apart or abs(self.high - scan.high) > apart:
            return
        for axes in permutations(range(3)):
            if tuple(self.shape[axis] for axis in axes) != scan.shape:
                continue
            ways = [
                [backwards for backwards in (False, True) if self._agrees(axis, backwards, scan, ours, apart)]
                for ours, axis in enumerate(axes)
            ]
            for backwards in product(*ways):
                yield Orientation(axes, backwards)

    def _agrees(self, axis: int, backwards: bool, scan: "Summary", ours: int, apart: float) -> bool:
        mine, other = self.sums[axis][:: -1 if backwards else 1], scan.sums[ours]
        voxels = np.prod(scan.shape) / scan.shape[ours]
        rounding = 1e-12 * voxels * max(abs(scan.low), abs(scan.high))  # of the sums themselves
        return bool((np.abs(mine - other) <= voxels * apart + rounding).all())


class Orientation(NamedTuple):
    """`axes[n]` is the axis of an array along which our axis n runs, and `backwards[n]` whether it runs against it."""

    axes: tuple[int, ...]
    backwards: tuple[bool, ...]


class Matcher:
    """The scans of a server's cases, of which summaries are kept once they have been read."""

    def __init__(self, cases: Sequence[Case]):
        self._cases = cases
        self._shapes: dict[Path, tuple[Stamp, tuple[int, ...]]] = {}
        self._summaries: dict[str, tuple[tuple, Mapping[str, Summary]]] = {}

    def find(self, array: np.ndarray) -> Match:
        """The case one of whose scans the array is.

        Args:
            array: (a, b, c), finite, of any real type.

        Raises:
            NoMatch: it is none of them.
            UserError: it equals one in several orientations.
        """
        uploaded, compared = Summary.of(array), 0
        similar = [case for case in self._cases if self._similar(case, array.shape)]
        # Cases whose scans have been read before cost nothing to look at.
        for case in sorted(similar, key=lambda case: case.id not in self._summaries):
            try:
                summaries = self._summaries_of(case)
            except UserError:
                continue  # the list of cases says what is wrong with it
            compared += len(summaries)
            for modality, summary in summaries.items():
                candidates = list(uploaded.orientations(summary))
                if candidates:
                    found = self._equal(array, uploaded, case.images[modality], summary, candidates)
                    if found is not None:
                        return Match(case, found)
        raise NoMatch(
            f"array of shape {array.shape}, {array.dtype} from {uploaded.low:g} to {uploaded.high:g}: is none of the "
            f"scans that are served here ({sum(len(case.images) for case in self._cases)}, of which {compared} have "
            "this size and were compared in every orientation); start samjax serve with the folder that holds this "
            "scan, and open its file as it is, neither resampled, cropped nor normalised"
        )

    def _similar(self, case: Case, shape: Sequence[int]) -> bool:
        """Whether a case has scans of these sides, in any order, by its first file's header."""
        path = case.reference.path
        try:
            stamp = stamp_of(path)
            if path not in self._shapes or self._shapes[path][0] != stamp:
                self._shapes[path] = stamp, tuple(read_header(path).get_data_shape()[:3])
        except (UserError, OSError):
            return False
        return sorted(self._shapes[path][1]) == sorted(shape)

    def _summaries_of(self, case: Case) -> Mapping[str, Summary]:
        stamps = tuple(stamp_of(source.path) for source in case.images.values())
        if case.id not in self._summaries or self._summaries[case.id][0] != stamps:
            scans = read_scans(case)
            self._summaries[case.id] = stamps, {name: Summary.of(scan.array) for name, scan in scans.items()}
        return self._summaries[case.id][1]

    def _equal(
        self, array: np.ndarray, uploaded: Summary, source: Source, summary: Summary, candidates: Sequence[Orientation]
    ) -> Geometry | None:
        scan = read_scan(source, {})
        placed = [placed_like(scan.geometry, orientation, array.shape) for orientation in candidates]
        equal = [one for one in placed if _same(to_ours(array, one), scan.array, uploaded.tolerance(summary))]
        if len(equal) > 1:
            raise UserError(
                f"array of shape {array.shape}: equals {source.path.name} in {len(equal)} orientations, as a "
                "symmetrical image does, so that its left and right or front and back are not known; open another "
                "modality of the case"
            )
        return equal[0] if equal else None


def read_scans(case: Case) -> dict[str, Scan]:
    """The scans of a case by modality; each file is read once.

    Raises:
        UserError: a file cannot be read or is damaged.
    """
    opened: dict = {}
    if len({source.path for source in case.images.values()}) < len(case.images):
        return {name: read_scan(source, opened) for name, source in case.images.items()}
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(case.images, pool.map(lambda source: read_scan(source, {}), case.images.values()), strict=True))


def placed_like(scan: Geometry, orientation: Orientation, shape: Sequence[int]) -> Geometry:
    """The geometry of an array of `shape` that is a scan in an orientation."""
    to_scan = np.zeros((4, 4))
    to_scan[3, 3] = 1
    for ours, (axis, backwards) in enumerate(zip(orientation.axes, orientation.backwards, strict=True)):
        to_scan[ours, axis] = -1 if backwards else 1
        to_scan[ours, 3] = shape[axis] - 1 if backwards else 0
    affine = tuple(tuple(row) for row in (scan.oriented_affine @ to_scan).tolist())
    return Geometry(tuple(shape), affine, tuple(orientation.axes), tuple(orientation.backwards))


def _same(first: np.ndarray, second: np.ndarray, apart: float) -> bool:
    """Whether no voxel differs by more than `apart`; plane by plane, so that little memory is needed."""
    for one, other in zip(first, second, strict=True):
        if apart == 0:
            if not np.array_equal(one, other):
                return False
        elif not (np.abs(one.astype(np.float64) - other.astype(np.float64)) <= apart).all():
            return False
    return True
