"""The model of a run before its first step, and the base weights that it starts from."""

from pathlib import Path

import numpy as np

from samjax.data.on_device.channels import parse_channels
from samjax.errors import UserError
from samjax.models.adapt import adapt
from samjax.models.sam import Sam
from samjax.models.unet import UNet, UNetConfig, random_unet
from samjax.runs.config import RunConfig
from samjax.strategies import find_strategy
from samjax.weights.base import load_base
from samjax.weights.files import Weights


def build_model(config: RunConfig, base: dict[str, np.ndarray]) -> Sam | UNet:
    """The model of a run before its first step: the base weights and what the strategy adds, or a U-Net."""
    options, strategy = config.options, find_strategy(config.options.strategy)
    if strategy.family == "unet":
        return random_unet(UNetConfig(parse_channels(options.channels).count), config.compute, options.seed)
    channels = parse_channels(options.channels).count if strategy.new_patch_embedding else None
    return adapt(
        config.architecture,
        base,
        config.adaptation,
        config.compute,
        patch_channels=channels,
        patch_init=options.patch_embedding,
        seed=options.seed,
    )


def load_base_of(config: RunConfig, folder: Path, weights: str | None = None) -> Weights:
    """The base weights that the run in `folder` was trained on; UserError if they are missing or others."""
    source = weights or config.base_path
    base = load_base(source)
    if base.sha256 != config.base_sha256:
        raise UserError(
            f"{source}: sha256 {base.sha256[:12]}..., but {folder} was trained on {config.base_sha256[:12]}...; "
            "name the right base weights with --weights"
        )
    return base
