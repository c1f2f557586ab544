"""Makes the model that a strategy trains from base weights: adds modules, widens the patch embedding."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from samjax.models.config import Adaptation, ComputeConfig, SamConfig
from samjax.models.flat import flat_shapes, from_flat
from samjax.models.initialise import initial_values
from samjax.models.sam import Sam

PATCH_KERNEL = "image_encoder/patch_embed/proj/kernel"
INNER_REGIONS = "mask_decoder/inner_regions"


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
        base: all parameters of a SAM by stored path; the arrays are not changed. Those that attend across slices and
            those of inner regions may be among them: they are kept where the new model has such, biases by slice
            distance as far as both reach.
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
    known = inner_region_values(base, config, adaptation.inner_regions) | known
    model = Sam(config, adaptation, compute)
    known = _fitting(known, flat_shapes(model))
    from_flat(model, known)
    _draw_missing(model, known, seed)
    return model


def inner_region_values(base: Mapping[str, np.ndarray], config: SamConfig, count: int) -> dict[str, np.ndarray]:
    """The parameters of `count` inner regions, by stored path: copies of those of the base's single mask.

    Every inner region then starts with the mask and the predicted IoU that the base gives for the prompt.
    """
    network = "mask_decoder/output_hypernetworks_mlps/0/"
    head = f"mask_decoder/iou_prediction_head/layers/{config.iou_head_depth - 1}"
    one = {
        "mask_token/embedding": base["mask_decoder/mask_tokens/embedding"][:1],
        "iou_layer/kernel": base[f"{head}/kernel"],
        "iou_layer/bias": base[f"{head}/bias"],
    }
    for path in base:
        if path.startswith(network):
            one[f"hypernetwork/{path.removeprefix(network)}"] = base[path]
    return {f"{INNER_REGIONS}/{index}/{path}": value for index in range(count) for path, value in one.items()}


def _fitting(known: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Without the additions of a fine-tuned SAM that the model lacks, and with biases of its number of slices."""
    chosen = {}
    for path, value in known.items():
        if path.endswith("/cross_slice/bias") and path in shapes:
            chosen[path] = _by_distance(value, shapes[path][1])
        elif path in shapes or not ("/cross_slice/" in path or path.startswith(INNER_REGIONS)):
            chosen[path] = value
    return chosen


def _by_distance(bias: np.ndarray, length: int) -> np.ndarray:
    """Biases (heads, 2 * slices - 1) of another number of slices; 0 for distances that were never seen."""
    middle, reach = bias.shape[1] // 2, min(bias.shape[1], length) // 2
    found = np.zeros((bias.shape[0], length), bias.dtype)
    found[:, length // 2 - reach : length // 2 + reach + 1] = bias[:, middle - reach : middle + reach + 1]
    return found


def random_sam(config: SamConfig, compute: ComputeConfig | None = None, seed: int = 0) -> Sam:
    """A SAM with random parameters."""
    model = Sam(config, Adaptation(), compute)
    _draw_missing(model, {}, seed)
    return model


def _draw_missing(model: Sam, known: Mapping[str, np.ndarray], seed: int) -> None:
    """Gives initial values to the parameters that `known` does not name."""
    shapes = flat_shapes(model)
    from_flat(model, initial_values({path: shapes[path] for path in shapes.keys() - known.keys()}, seed))
