"""Makes the model that a strategy trains from base weights: draws new modules, widens the patch embedding."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from samjax.models.config import Adaptation, ComputeConfig, SamConfig
from samjax.models.flat import flat_shapes, from_flat
from samjax.models.initialise import initial_values
from samjax.models.sam import Sam

PATCH_KERNEL = "image_encoder/patch_embed/proj/kernel"


def adapt(
    config: SamConfig,
    base: Mapping[str, np.ndarray],
    adaptation: Adaptation,
    compute: ComputeConfig,
    *,
    patch_channels: int | None = None,
    patch_init: str = "random",
    seed: int = 0,
) -> Sam:
    """A model with the base weights, and new parameters where it has more.

    Args:
        config: the architecture of `base`.
        base: all parameters of a SAM by stored path; the arrays are not changed.
        adaptation: what is added to the blocks.
        compute: how the model is computed.
        patch_channels: number of channels of a new patch embedding (paper B, section 3.1); None keeps the base's.
        patch_init: "random" as the paper, or "inflate": the mean of the RGB kernel, scaled so that equal (normalised)
            channels give what a grey picture gave. Both keep the base's bias.
        seed: the seed of everything that is drawn.

    Returns:
        A model without any parameter left undefined.
    """
    known = dict(base)
    if patch_channels is not None:
        config = replace(config, in_channels=patch_channels)
        rgb = known.pop(PATCH_KERNEL)
        if patch_init == "inflate":
            mean = np.asarray(rgb).mean(axis=2, keepdims=True) * (rgb.shape[2] / patch_channels)
            known[PATCH_KERNEL] = np.repeat(mean, patch_channels, axis=2)
    model = Sam(config, adaptation, compute)
    from_flat(model, known)
    _draw_missing(model, known, seed)
    return model


def random_sam(config: SamConfig, compute: ComputeConfig | None = None, seed: int = 0) -> Sam:
    """A SAM with random parameters."""
    model = Sam(config, Adaptation(), compute)
    _draw_missing(model, {}, seed)
    return model


def _draw_missing(model: Sam, known: Mapping[str, np.ndarray], seed: int) -> None:
    """Gives initial values to the parameters that `known` does not name."""
    shapes = flat_shapes(model)
    from_flat(model, initial_values({path: shapes[path] for path in shapes.keys() - known.keys()}, seed))
