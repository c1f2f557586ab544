"""Weights files: loads every spelling that is known into ours, and saves ours."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from samjax.errors import UserError
from samjax.models.config import SamConfig
from samjax.weights.architecture import Shape, deduce, expected_shapes
from samjax.weights.names import OUR_ANCHOR, spelling_of, to_ours
from samjax.weights.pth import OLD_TORCH_MAGIC, ZIP_MAGIC, read_pth
from samjax.weights.safetensors_file import read_safetensors, write_safetensors

FORMAT = "samjax"
FORMAT_VERSION = "1"


class Weights(NamedTuple):
    """A SAM's tensors by our paths (float32), its architecture, and the sha256 of the file they came from."""

    flat: dict[str, np.ndarray]
    config: SamConfig
    sha256: str


def load_weights(path: Path | str) -> Weights:
    """Loads a SAM: our safetensors, or a .pth or safetensors file in Meta's or Hugging Face's names.

    The kind of file is recognised by its content. The tensors may be read-only views that map the file. The
    sha256 is that of the file, or, for a file of ours, that of the file it was converted from.

    Raises:
        UserError: the file is missing, damaged, malicious, of another architecture, or lacks or adds tensors.
    """
    path = Path(path)
    tensors, metadata = _read(path)
    if OUR_ANCHOR in tensors:
        flat = tensors
    else:
        found = spelling_of(tensors)
        if found is None:
            raise UserError(
                f"{path}: not a SAM checkpoint: none of its {len(tensors)} tensors is the patch embedding of "
                f"an image encoder, in Meta's names, Hugging Face's or ours (they are {_first(tensors)})"
            )
        flat = to_ours(tensors, *found, path)
    flat = {name: _float32(name, value, path) for name, value in flat.items()}
    config = _stored_config(metadata, path) or deduce({name: value.shape for name, value in flat.items()}, path)
    match(flat, expected_shapes(config), path)
    return Weights(flat, config, metadata.get("source_sha256") or file_sha256(path))


def save_weights(
    path: Path | str,
    flat: Mapping[str, np.ndarray],
    config: SamConfig,
    *,
    source: str | None = None,
    source_sha256: str | None = None,
) -> None:
    """Writes our safetensors with the architecture and, for converted weights, the source in the metadata.

    `source` names the file that was converted. Raises UserError if the tensors are not those of `config`.
    """
    match(flat, expected_shapes(config), path)
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "config": json.dumps(asdict(config))}
    if source is not None and source_sha256 is not None:
        metadata |= {"source": source, "source_sha256": source_sha256}
    write_safetensors(path, flat, metadata)


def match(flat: Mapping[str, np.ndarray], expected: Mapping[str, Shape], where: object) -> None:
    """Checks that `flat` holds every expected tensor in its shape and nothing else.

    Raises:
        UserError: one line with the unused, the missing and the misshapen tensors of `where`.
    """
    unused = [name for name in flat if name not in expected]
    missing = [name for name in expected if name not in flat]
    misshapen = [
        f"{name} is {flat[name].shape}, expected {shape}"
        for name, shape in expected.items()
        if name in flat and flat[name].shape != shape
    ]
    sides = (("unused", unused), ("missing", missing), ("of another shape", misshapen))
    faults = "; ".join(f"{len(names)} {side} ({_first(names)})" for side, names in sides if names)
    if faults:
        raise UserError(f"{where}: its tensors are not those of this SAM: {faults}; expected {len(expected)} tensors")


def file_sha256(path: Path | str) -> str:
    """The sha256 of a file, read piece by piece."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a file by the names that stand in it, and the metadata of a safetensors file."""
    if not path.is_file():
        problem = "is a folder; name the weights file in it" if path.is_dir() else "no such file"
        raise UserError(f"{path}: {problem}; expected a .pth or .safetensors file")
    with path.open("rb") as file:
        start = file.read(len(OLD_TORCH_MAGIC))
    if start.startswith(ZIP_MAGIC):
        return _plainly_named(read_pth(path), path), {}
    if start[8:9] == b"{":
        tensors, metadata = read_safetensors(path)
        return _plainly_named(tensors, path), metadata
    if start == OLD_TORCH_MAGIC:
        raise UserError(
            f"{path}: in the format of PyTorch before 1.6, which is not read; "
            "load it with torch.load and save it again with torch.save"
        )
    found = f"it begins with {start!r}" if start else "it is empty"
    raise UserError(f"{path}: neither a PyTorch checkpoint nor a safetensors file ({found})")


def _plainly_named(tensors: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Refuses names that would garble the terminal in a later message."""
    for name in tensors:
        if not name.isprintable() or len(name) > 200:
            raise UserError(f"{path}: a tensor is called {name[:50]!r}; the file is damaged or no checkpoint of SAM")
    return tensors


def _float32(name: str, value: np.ndarray, path: Path) -> np.ndarray:
    """Widens float16 and bfloat16, rounds float64; a float32 array is passed on uncopied."""
    if value.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        raise UserError(f"{path}: {name} is of type {value.dtype}; expected a floating-point type")
    return value.astype(np.float32, copy=False)


def _stored_config(metadata: Mapping[str, str], path: Path) -> SamConfig | None:
    """The architecture in the metadata of a file of ours; None for other files."""
    if metadata.get("format") != FORMAT:
        return None
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(f"{path}: format version {version}; this samjax reads {FORMAT_VERSION}, so update it")
    try:
        fields = json.loads(metadata["config"])
        return SamConfig(**{**fields, "global_attn_indexes": tuple(fields["global_attn_indexes"])})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its metadata hold no valid architecture ({error}); convert it again") from error


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
