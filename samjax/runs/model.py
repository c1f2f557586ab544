"""The model of a run before its first step, and its trainable parameters."""

from dataclasses import replace

import numpy as np

from samjax.data.on_device.channels import parse_channels
from samjax.models.adapt import adapt
from samjax.models.flat import flat_shapes
from samjax.models.sam import Sam
from samjax.models.unet import UNet, UNetConfig, random_unet
from samjax.runs.config import RunConfig
from samjax.strategies import find_strategy, trainable_filter

Shapes = dict[str, tuple[int, ...]]
"""Shapes of parameters by their stored path."""


def build_model(config: RunConfig, base: dict[str, np.ndarray]) -> Sam | UNet:
    """The model of a run before its first step: the base weights and the strategy's new modules, or a U-Net."""
    options, strategy = config.options, find_strategy(config.options.strategy)
    if strategy.family == "unet":
        return random_unet(_unet_config(config), config.compute, options.seed)
    return adapt(
        config.architecture,
        base,
        config.adaptation,
        config.compute,
        patch_channels=_patch_channels(config),
        patch_init=options.patch_embedding,
        seed=options.seed,
    )


def abstract_model(config: RunConfig) -> Sam | UNet:
    """The model of a run with shapes for parameters: nothing is drawn or allocated."""
    if config.architecture is None:
        return UNet(_unet_config(config), config.compute)
    channels = _patch_channels(config) or config.architecture.in_channels
    return Sam(replace(config.architecture, in_channels=channels), config.adaptation, config.compute)


def trained_shapes(config: RunConfig, model: Sam | UNet, stages: int | None = None) -> Shapes:
    """Shapes of the parameters of a run's (abstract) `model` that its first `stages` stages train; None: all stages."""
    strategy = find_strategy(config.options.strategy)
    shapes: Shapes = {}
    for stage in range(len(strategy.stages) if stages is None else stages):
        shapes |= flat_shapes(model, trainable_filter(strategy, stage))
    return shapes


def _patch_channels(config: RunConfig) -> int | None:
    """Channels of the run's own patch embedding; None where it keeps the base weights'."""
    strategy = find_strategy(config.options.strategy)
    if strategy.family == "pictures":
        return None
    count = parse_channels(config.options.channels).count
    return count if strategy.new_patch(count, config.architecture.in_channels) else None


def _unet_config(config: RunConfig) -> UNetConfig:
    return UNetConfig(parse_channels(config.options.channels).count)
