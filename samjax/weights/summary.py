"""One line about a SAM for the terminal."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from samjax.models.config import PRESETS, SamConfig


def describe(config: SamConfig, flat: Mapping[str, np.ndarray]) -> str:
    """The architecture by its preset's name and its numbers, and how many tensors and values are stored."""
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
