"""A SAM's weights (`--weights`): reading, saving and identifying them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from samjax.errors import UserError
from samjax.models.config import PRESETS, SamConfig
from samjax.models.initialise import initial_values
from samjax.weights.architecture import deduce, expected_shapes
from samjax.weights.hub import fetch, is_hub_name
from samjax.weights.hugging_face import check_folder, is_index, read_shards, weights_file
from samjax.weights.matching import check_statistics, finite_float32, match, require_finite, split_statistics
from samjax.weights.names import spelling_of, to_ours
from samjax.weights.readers import read_file
from samjax.weights.safetensors_file import write_safetensors
from samjax.weights.wrappers import state_dict

TINY = "tiny"
RANDOM = "random"
SHIPPED = Path(__file__).with_name("tiny.safetensors")
FORMAT = "samjax"
FORMAT_VERSION = "1"


class Sight(NamedTuple):
    """How the run that trained a SAM on scans saw them."""

    channels: str
    """The modalities of its channels."""
    image_size: int
    """Side in pixels of its input."""
    native: int
    """Side in pixels of the square that slices were padded to before they were resized to that."""
    cropped: bool
    """Whether slices were cropped to what the scan shows."""


class Weights(NamedTuple):
    """A SAM's tensors by our paths (float32), its architecture, and the sha256 that identifies them."""

    flat: dict[str, np.ndarray]
    config: SamConfig
    sha256: str
    sight: Sight | None = None
    """None for weights of pictures."""


def load_base(weights: str) -> Weights:
    """Base weights by name or path.

    "tiny" is the small model with the weights next to this file, "random" the same without training, and
    hf:ORG/NAME[/FILE][@REVISION] weights on the Hugging Face Hub.

    Raises:
        UserError: for the same reasons as in `load_weights`.
    """
    if weights == TINY and SHIPPED.exists():
        return load_weights(SHIPPED)
    if weights in (TINY, RANDOM):
        config = PRESETS[TINY]
        values = initial_values(expected_shapes(config), seed=0)
        # The digest of the values shows when a later version draws others than those that a run was trained on.
        return Weights(values, config, digest(values))
    if is_hub_name(weights):
        return load_weights(fetch(weights))
    path = Path(weights).expanduser()
    if not path.exists():
        raise UserError(f"--weights {weights}: no such file; give a checkpoint, hf:ORG/NAME, '{TINY}' or '{RANDOM}'")
    return load_weights(path)


def load_weights(path: Path | str) -> Weights:
    """Loads a SAM in our names, Meta's or Hugging Face's.

    Args:
        path: a safetensors file, a PyTorch checkpoint (with any wrappers around its state dict), the index
            of a model in shards, or a folder of Hugging Face's `transformers`. Files are recognised by their content,
            an index by its suffix `.json`.

    Returns:
        The tensors, which may be read-only views that map the file. The sha256 is that of the file, or, for a file of
        ours, that of the file it was converted from, or, for a model in shards, that of its named tensors.

    Raises:
        UserError: the file is missing, damaged, malicious, of another architecture, lacks or adds tensors, holds
            values that are not finite in float32, or was trained with another normalisation of pictures.
    """
    path = Path(path)
    file = weights_file(path)
    content, metadata = (read_shards(file), {}) if is_index(file) else read_file(file)
    tensors = state_dict(content, file)
    spelled = spelling_of(tensors)
    weights, statistics = split_statistics(tensors, spelled[1]) if spelled else (tensors, {})
    named = to_ours(weights, *spelled, file) if spelled else weights
    config = _stored_config(metadata, file) or deduce({name: value.shape for name, value in named.items()}, file)
    match(named, expected_shapes(config), file)
    check_statistics(statistics, config.in_channels, file)
    if path.is_dir():
        check_folder(path, config)
    # The names in the file tell its owner more than ours, so values are checked under these.
    weights = finite_float32(weights, file)
    flat = to_ours(weights, *spelled, file) if spelled else weights
    sha256 = digest(tensors) if is_index(file) else metadata.get("source_sha256") or file_sha256(file)
    return Weights(flat, config, sha256)


def save_weights(
    path: Path | str,
    flat: Mapping[str, np.ndarray],
    config: SamConfig,
    *,
    source: str | None = None,
    source_sha256: str | None = None,
) -> None:
    """Writes our safetensors with the architecture and, for converted weights, the source in the metadata.

    `source` names the file that was converted.

    Raises:
        UserError: the tensors are not those of `config`, or hold values that are not finite.
    """
    match(flat, expected_shapes(config), path)
    require_finite(flat, path)
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "config": json.dumps(asdict(config))}
    if source is not None and source_sha256 is not None:
        metadata |= {"source": source, "source_sha256": source_sha256}
    write_safetensors(path, flat, metadata)


def describe(config: SamConfig, flat: Mapping[str, np.ndarray]) -> str:
    """Two lines for the terminal: the architecture by name and numbers, and how many tensors and values there are."""
    name = next(
        (name for name, preset in PRESETS.items() if replace(preset, in_channels=config.in_channels) == config),
        "a SAM of its own size",
    )
    blocks = ", ".join(map(str, config.global_attn_indexes))
    values = sum(value.size for value in flat.values())
    return (
        f"{name}: {config.in_channels} channels, {config.image_size} x {config.image_size}, "
        f"patch {config.patch_size}, width {config.embed_dim}, {config.num_heads} heads, "
        f"{config.depth} blocks (global {blocks}; others in windows of {config.window_size}), "
        f"decoder width {config.out_dim}\n"
        f"{len(flat)} tensors, {values:,} values"
    )


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The sha256 of named arrays, whatever their order and layout in memory."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def file_sha256(path: Path | str) -> str:
    """The sha256 of a file, read piece by piece."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
