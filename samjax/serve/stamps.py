"""Whether a file has been written anew since it was read."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from samjax.errors import UserError

Stamp = tuple[int, int]
"""The time of a file's last change in ns, and its size in bytes."""


def stamp_of(path: Path) -> Stamp:
    """What changes when a file is written anew. Raises a `UserError` if it is gone."""
    try:
        about = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    return about.st_mtime_ns, about.st_size


def stamps_of(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """The stamps of some files. Raises a `UserError` if one is gone."""
    return {path: stamp_of(path) for path in paths}


def require_unchanged(stamps: Mapping[Path, Stamp]) -> None:
    """Raises a `UserError` if a file is not as its stamp says."""
    for path, stamp in stamps.items():
        if stamp_of(path) != stamp:
            raise UserError(f"{path}: was changed since it was opened; put it back, or start samjax serve anew")
