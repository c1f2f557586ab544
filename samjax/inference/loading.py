"""Models for inference from finished runs and from base weights."""

from pathlib import Path

from flax import nnx

from samjax.data.imaging.planes import AXIAL
from samjax.data.on_device.channels import PCA2D, parse_channels
from samjax.errors import UserError
from samjax.inference.model import SegmentationModel
from samjax.inference.rotations import RANGE, evenly_spaced
from samjax.models.adapt import adapt
from samjax.models.config import Adaptation, ComputeConfig
from samjax.models.flat import from_flat
from samjax.runs.folder import WEIGHTS, channels_of, find_model, grid_of, read_config
from samjax.runs.model import build_model
from samjax.runs.trained import load_trained
from samjax.strategies import find_strategy
from samjax.weights.base import load_base

ZEROSHOT = "zeroshot"
"""The name of base weights without fine-tuning."""
BASE_PROMPTS = ("box", "point", "mask")
"""Kinds of prompts that base weights were trained with."""


def model_of_run(
    folder: Path | str,
    weights: str | None = None,
    average: bool = True,
    nested: bool = False,
    planes: str | None = None,
    rotations: int = 1,
) -> SegmentationModel:
    """The model of a finished run.

    Args:
        weights: new place of the base weights; None: the place that the run recorded.
        average: take the average of the weights, if the run has one, instead of the last ones.
        nested: clip the inner of several regions to the outer ones.
        planes: the planes in which prompt-free masks are made, see `RunConfig.planes_asked`.
        rotations: the odd number of rotations whose mean is the prediction, up to the run's largest in training.

    Raises:
        UserError: the run is not finished, was trained on pictures, on other planes or without rotations, several
            planes and rotations are asked for at once, or its base weights are missing or not the run's.
    """
    folder = find_model(Path(folder))
    if find_strategy(read_config(folder).options.strategy).family == "pictures":
        raise UserError(f"{folder}: was trained on pictures and left {WEIGHTS} there; open that with from_weights")
    config, trained = load_trained(folder, weights, average)
    network = build_model(config, trained.base)
    from_flat(network, trained.trained)
    options = config.options
    largest = options.rotation if options.augment and options.overfit is None else 0.0
    name, chosen = folder.resolve().name, config.planes_asked(planes, folder.resolve().name)
    if rotations > 1 and chosen != (AXIAL,):
        raise UserError(
            f"--rotations {rotations}: turns axial slices, but {name} is asked for {', '.join(chosen)} ones; give "
            "--planes axial, or leave --rotations out"
        )
    return SegmentationModel.on_local_devices(
        *nnx.split(network),
        name=name,
        rois=config.rois,
        channels=channels_of(folder, config),
        depth=options.depth,
        image_size=options.image_size if config.architecture else None,
        native=config.native,
        cropped=config.cropped,
        grid=grid_of(folder, config),
        planes=chosen,
        compute=config.compute,
        prompts=trained.prompts,
        modality_dropout=options.modality_dropout,
        nested=nested,
        angles=evenly_spaced(rotations, largest, name),
    )


def model_of_weights(
    weights: str | Path,
    roi: str,
    channels: str,
    image_size: int | None = None,
    name: str = ZEROSHOT,
    rotations: int = 1,
) -> SegmentationModel:
    """The model of base weights without fine-tuning.

    Args:
        weights: a shipped name, or a file that the converter reads.
        roi: the region for which its masks are taken.
        channels: the modalities that stand in for red, green and blue.
        image_size: side of the model's input; None: the side that the weights were trained at.
        rotations: the odd number of rotations whose mean is the prediction.

    Raises:
        UserError: the weights cannot be read, or take another number of channels or another size.
    """
    base = load_base(str(weights))
    chosen = parse_channels(channels)
    if chosen.text == PCA2D:
        raise UserError(f"--channels {PCA2D}: {ZEROSHOT} has no training slices to fit it to; name three modalities")
    if chosen.count != base.config.in_channels:
        raise UserError(f"--channels {channels}: {chosen.count} channels; {ZEROSHOT} needs {base.config.in_channels}")
    size = image_size or base.config.image_size
    if size % base.config.patch_size:
        raise UserError(f"image_size {size}: expected a multiple of the patch, {base.config.patch_size}")
    return SegmentationModel.on_local_devices(
        *nnx.split(adapt(base.config, base.flat, Adaptation(), ComputeConfig())),
        name=name,
        rois=(roi,),
        channels=chosen,
        image_size=size,
        prompts=BASE_PROMPTS,
        angles=evenly_spaced(rotations, RANGE, name),
    )
