"""A run in one file, as `samjax pack` writes it: reading it.

The file is a final.safetensors that also holds the base weights, under `base/`, and the small files of the run's folder
as bytes, under `files/`. To be read, it becomes a folder of these small files with a link to it, so that everything
that takes a run's folder takes the file.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from samjax.errors import UserError
from samjax.files import replacing
from samjax.options import DEFAULT_CACHE
from samjax.runs.checksums import CHECKSUM, COPY_AGAIN, TENSORS, checksum, metadata_checksum
from samjax.weights.readers import read_file

PACKED = "packed"
"""Metadata key of the version of the format; only packed runs have it."""
PACKED_VERSION = "1"
BASE, FILES = "base/", "files/"
"""How the names of base weights and of files begin."""
MOST_BYTES = 100_000_000
"""Largest size of all small files together."""


def unpack(path: Path, link: str, allowed: tuple[str, ...], name: str | None = None) -> Path:
    """The folder of the run in a file: its small files, and a link to the file itself.

    It lies under the cache's folder. Opening the same file again gives the same folder.

    Args:
        link: name of the link.
        allowed: names of the small files; others are refused.
        name: the model's name, which is the folder's; None: the file's, without suffix.

    Raises:
        UserError: the file is damaged, or no packed run of this version, or the folder cannot be written.
    """
    tensors, metadata = read_file(path)
    _check(path, metadata)
    files = {each.removeprefix(FILES): x for each, x in tensors.items() if each.startswith(FILES)}
    checksums = json.loads(metadata[TENSORS])
    for each, x in files.items():
        if each not in allowed or x.dtype != np.uint8 or x.nbytes > MOST_BYTES:
            raise UserError(f"{path}: holds a file {each!r}, which no run has; {COPY_AGAIN}")
        if checksums.get(FILES + each) != checksum(FILES + each, x):
            raise UserError(f"{path}: its {each} is not what was written (checksum); {COPY_AGAIN}")
    if missing := [each for each in checksums if each.startswith(FILES) and each not in tensors]:
        raise UserError(f"{path}: lacks {', '.join(missing)}; {COPY_AGAIN}")
    key = hashlib.sha256(f"{path.resolve()} {metadata[CHECKSUM]}".encode()).hexdigest()[:16]
    folder = _place() / key / (name or path.name.removesuffix(".safetensors"))
    try:
        for each, x in files.items():
            with replacing(folder / each) as temporary:
                temporary.write_bytes(x.tobytes())
        with replacing(folder / link) as temporary:
            temporary.unlink()
            temporary.symlink_to(path.resolve())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened, since {folder} cannot be written ({error.strerror or error})"
        ) from None
    return folder


def is_packed(path: Path) -> bool:
    """Whether the file is a packed run, of any version."""
    try:
        return path.suffix == ".safetensors" and PACKED in read_file(path)[1]
    except UserError:
        return False  # whoever wants weights says what is wrong with it


def is_unpacked(folder: Path) -> bool:
    """Whether `unpack` made this folder."""
    return _place() in folder.parents


def _place() -> Path:
    return DEFAULT_CACHE.expanduser() / "packed"


def _check(path: Path, metadata: dict[str, str]) -> None:
    """Raises a `UserError` where the metadata are not those of a packed run."""
    kind = metadata.get("format")
    if kind == "samjax":
        raise UserError(f"{path}: holds weights without a run; give them by --weights")
    if PACKED not in metadata:
        what = "a run's trained parameters alone; give the run's folder" if kind == "samjax-run" else "no run"
        raise UserError(f"{path}: holds {what}; expected a run's folder, or a file that `samjax pack` wrote")
    if metadata[PACKED] != PACKED_VERSION:
        raise UserError(
            f"{path}: packed in version {metadata[PACKED]} of the format; this samjax reads {PACKED_VERSION}, so "
            "update it"
        )
    if metadata.get(CHECKSUM) != metadata_checksum(metadata):
        raise UserError(f"{path}: its metadata are not what was written (checksum); {COPY_AGAIN}")
