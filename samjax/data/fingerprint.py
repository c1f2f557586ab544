"""Fingerprints of the content of scans, by which they are known whatever their files are called and wherever they are.

A fingerprint is made of the prepared voxels (see `imaging.volumes`), so that it does not depend on names, folders,
compression, the type the numbers are stored in, the order of the axes, or background around the head.
"""

import hashlib
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from samjax.data.cases import MODALITIES
from samjax.data.imaging.geometry import Geometry
from samjax.metrics.boxes import bounding_box

_BYTES = 8


class Prepared(Protocol):
    """A prepared case: a `Volume`, or a case of the slice cache."""

    @property
    def images(self) -> np.ndarray:
        """The images, (z, h, w, 4) uint8, t1, t1gd, t2, flair; background is 0."""
        ...


def fingerprint_of(case: Prepared) -> str:
    """The fingerprint of a case: sixteen hexadecimal digits for each of t1, t1gd, t2, flair, joined by "-".

    A modality that the case lacks has none.
    """
    return "-".join(_digest(case.images[..., channel]) for channel in range(len(MODALITIES)))


class FingerprintIndex:
    """Finds a case by its fingerprint: one that shares a scan, which means that one modality at least is the same."""

    def __init__(self, fingerprints: Mapping[str, str]):
        """
        Args:
          fingerprints: fingerprint of each case by the name under which it is to be found; "" if there is none.
        """
        self._names: dict[tuple[int, str], str] = {}
        for name, fingerprint in fingerprints.items():
            self.add(name, fingerprint)

    def add(self, name: str, fingerprint: str) -> None:
        """Adds a case; if it shares a scan with a case added before, that one stays."""
        for part in _parts(fingerprint):
            self._names.setdefault(part, name)

    def find(self, fingerprint: str) -> str | None:
        """The name of a case that shares a scan, or None."""
        return next((self._names[part] for part in _parts(fingerprint) if part in self._names), None)


def _parts(fingerprint: str) -> list[tuple[int, str]]:
    """Each modality's own digest with its place, since a T1 that equals another case's T2 proves nothing."""
    return [(place, part) for place, part in enumerate(fingerprint.split("-")) if part]


def scan_digest(images: np.ndarray, geometry: Geometry) -> str:
    """A digest of prepared images (slices, rows, columns, 4) uint8 and their voxel grid as stored.

    Unlike fingerprints it is equal only where a label map of one scan is right for the other as it is. Matrices that
    agree to a thousandth of a millimetre count as equal.
    """
    grid = repr((geometry.source_shape, (np.round(geometry.affine, 3) + 0.0).tolist()))  # + 0.0: no -0.0
    digest = hashlib.blake2b(grid.encode(), digest_size=2 * _BYTES)
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def _digest(image: np.ndarray) -> str:
    """The hash of an image (z, h, w) inside the bounding box of its foreground; empty if it has none."""
    box = bounding_box(image != 0)
    if box is None:
        return ""
    inside = image[box]
    digest = hashlib.blake2b(repr(inside.shape).encode(), digest_size=_BYTES)
    digest.update(np.ascontiguousarray(inside).data)
    return digest.hexdigest()
