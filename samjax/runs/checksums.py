"""Checksums of files of trained parameters: one of each tensor, and one of all metadata, which hold the former."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from samjax.weights.base import digest

TENSORS = "tensors"
"""Metadata key of the tensors' checksums: JSON, {name in the file: checksum}."""
CHECKSUM = "checksum"
"""Metadata key of the checksum of all other metadata."""
COPY_AGAIN = "the file was damaged or changed, so copy it again"


def with_checksums(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The metadata with the checksums of the tensors, by their names in the file, and with their own."""
    metadata = {**metadata, TENSORS: json.dumps({name: checksum(name, x) for name, x in tensors.items()})}
    return metadata | {CHECKSUM: metadata_checksum(metadata)}


def checksum(name: str, x: np.ndarray) -> str:
    """The first 16 digits of the sha256 of a tensor in float32, with its name and shape."""
    return digest({name: x.astype(np.float32, copy=False)})[:16]


def metadata_checksum(metadata: Mapping[str, str]) -> str:
    """The sha256 of all metadata but their checksum."""
    others = {key: value for key, value in metadata.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()
