"""The options of a run: the strategy's defaults, refused values, and which options a resumed run may change."""

from collections.abc import Callable, Collection
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from samjax.data.imaging.grids import RunGrid
from samjax.data.imaging.planes import AXIAL, parse_planes, require_cubic
from samjax.data.labels import ALL, rois_of
from samjax.data.on_device.channels import PCA2D, parse_channels
from samjax.data.on_device.prompts import PromptMix
from samjax.errors import UserError
from samjax.limits import check_numbers
from samjax.models.config import SamConfig
from samjax.options import PHANTOM_STEPS, TrainOptions
from samjax.strategies import Strategy
from samjax.training.tracking import require
from samjax.weights.base import Weights


def resolve(options: TrainOptions, strategy: Strategy, architecture: SamConfig | None) -> TrainOptions:
    """Fills in the options that depend on the strategy and the weights, and checks all values.

    Raises:
        UserError: an option's value is not possible.
    """
    options = _with_defaults(options, strategy, architecture)
    check_numbers(options)
    require(options.track)
    if architecture is not None and options.image_size % architecture.patch_size:
        raise UserError(
            f"--image-size {options.image_size}: expected a multiple of the patch, {architecture.patch_size}"
        )
    if unknown := set(_parts(options.lora_targets)) - {"q", "k", "v", "mlp"}:
        raise UserError(f"--lora-targets: unknown '{sorted(unknown)[0]}'; expected any of q, k, v, mlp")
    rois_of(options.roi)
    if options.spacing is not None:
        RunGrid.parse(options.spacing)
    _check_family(options, strategy)
    check_embeddings(options, strategy)
    check_modality_dropout(options, strategy)
    check_planes(options, strategy)
    return options


def _with_defaults(options: TrainOptions, strategy: Strategy, architecture: SamConfig | None) -> TrainOptions:
    missing = {name: value for name, value in strategy.defaults.items() if getattr(options, name) is None}
    options = replace(options, **missing)
    limited = options.max_steps is not None or options.data or not strategy.reads_scans
    if options.image_size is None and architecture is not None:
        options = replace(options, image_size=architecture.image_size)
    return replace(
        options,
        prompt=str(PromptMix.parse(options.prompt)),
        planes=",".join(parse_planes(options.planes)),
        max_steps=options.max_steps if limited else PHANTOM_STEPS,
        augment=options.augment and options.overfit is None and not strategy.generated,
    )


def _check_family(options: TrainOptions, strategy: Strategy) -> None:
    """Raises a `UserError` for options that a family of models does not support."""
    name = strategy.name
    if strategy.family != "sam" and options.roi == ALL:
        raise UserError(
            f"--roi {ALL}: --strategy {name} "
            + ("learns all regions as it is; leave it out" if strategy.family == "unet" else "has no regions")
        )
    if strategy.family == "pictures":
        if options.data or options.channels != "rgb" or options.depth != 1 or options.overfit:
            raise UserError(f"--strategy {name}: trains on generated RGB pictures; no --data, --channels or --depth")
        if "none" in PromptMix.parse(options.prompt).kinds:
            raise UserError(f"--prompt {options.prompt}: --strategy {name} needs points or boxes to say which shape")
        return
    if strategy.generated and (options.data or options.overfit or options.channels == PCA2D):
        raise UserError(f"--strategy {name}: trains on generated patients; no --data, --overfit or --channels {PCA2D}")
    parse_channels(options.channels)
    changed = options.depth != 1 or options.image_size is not None or options.prompt != "none"
    if strategy.family == "unet" and changed:
        raise UserError(f"--strategy {name}: takes whole slices one by one; no --depth, --image-size or --prompt")


def check_start(options: TrainOptions, strategy: Strategy, base: Weights | None) -> None:
    """Raises a `UserError` where a run cannot go on from its weights.

    A patch embedding that is kept must take the run's channels, embeddings are stored of whole slices only, and
    adapters cannot be merged into the weights of a run without them.
    """
    if base is None:
        return
    if not strategy.adapters and any("/adapters/" in path for path in base.flat):
        raise UserError(
            f"--weights {options.weights}: has adapters, which --strategy {strategy.name} lacks; go on with --strategy "
            "adapter"
        )
    if strategy.family == "pictures":
        return
    if base.sight and base.sight.cropped and options.cache_embeddings is not None:
        raise UserError(
            f"--cache-embeddings {options.cache_embeddings}: --weights {options.weights} see cropped slices, whose "
            "embeddings are not stored; leave it out"
        )
    count, takes = parse_channels(options.channels).count, base.config.in_channels
    if strategy.new_patch(count, takes):
        return
    if count != takes:
        raise UserError(
            f"--channels {options.channels}: {count} channels, but --strategy {strategy.name} keeps the "
            f"pretrained patch embedding, which takes {base.sight.channels if base.sight else takes}"
        )
    if base.sight and base.sight.channels != options.channels:
        raise UserError(
            f"--channels {options.channels}: --weights {options.weights} look at {base.sight.channels}; give "
            f"--channels {base.sight.channels}"
        )


_OF_SCANS = (
    "augment", "rotation", "elastic_alpha", "elastic_sigma", "min_pixels", "fold", "patients", "split_file", "layout",
    "labels", "cache", "spacing", "planes",
)  # fmt: skip
"""Options that say how scans are read, split and augmented."""


def check_given(given: Collection[str], options: TrainOptions, strategy: Strategy) -> None:
    """Raises a `UserError` for options that the user gave and the strategy does not use; `options` are resolved."""
    name = strategy.name
    lora = [option for option in ("lora_rank", "lora_alpha", "lora_targets") if option in given]
    if lora and not strategy.lora:
        raise UserError(f"{flag(lora[0])}: --strategy {name} has no LoRA; leave it out")
    unused = [option for option in _OF_SCANS if option in given]
    if unused and strategy.generated:
        raise UserError(f"{flag(unused[0])}: --strategy {name} draws its own patients; leave it out")
    pictures = strategy.family == "pictures"
    if "spacing" in given:
        if pictures:
            raise UserError(f"--spacing {options.spacing}: --strategy {name} trains on pictures; leave it out")
        RunGrid.asked(options.spacing)
    if "patch_embedding" in given and (pictures or not strategy.new_patch(parse_channels(options.channels).count)):
        raise UserError(
            f"--patch-embedding: --strategy {name} with --channels {options.channels} has no new patch embedding; "
            "leave it out"
        )


def check_embeddings(options: TrainOptions, strategy: Strategy) -> None:
    """Raises a `UserError` if --cache-embeddings is impossible; it needs a frozen encoder and single slices."""
    variants = options.cache_embeddings
    if variants is None:
        return
    asked = f"--cache-embeddings {variants}"
    if not strategy.encoder_frozen:
        raise UserError(f"{asked}: --strategy {strategy.name} trains the encoder; take decoder, or leave it out")
    if options.depth != 1:
        raise UserError(f"{asked}: --depth {options.depth} lets slices see each other; leave one of the two out")
    if not options.cache:
        raise UserError(f"{asked}: embeddings lie on the disk beside the slices; leave out --no-cache")
    if options.augment and variants == 1:
        raise UserError(f"{asked}: one variant would be one fixed deformation; give 2 or more, or --no-augment")
    if not options.augment and variants > 1:
        raise UserError(f"{asked}: without augmentation all variants are the same; give 1")
    if options.max_steps is None and variants > options.epochs:
        raise UserError(f"{asked}: {options.epochs} epochs show one variant each; give no more than that")


def check_modality_dropout(options: TrainOptions, strategy: Strategy) -> None:
    """Raises a `UserError` if --modality-dropout is impossible: it needs channels of several modalities."""
    if not options.modality_dropout:
        return
    asked = f"--modality-dropout {options.modality_dropout:g}"
    if strategy.family == "pictures":
        raise UserError(f"{asked}: --strategy {strategy.name} trains on pictures, which have no modalities")
    if options.channels == PCA2D:
        raise UserError(f"{asked}: every channel of --channels {PCA2D} is made of all modalities; name modalities")
    if len(parse_channels(options.channels).needed) == 1:
        raise UserError(f"{asked}: --channels {options.channels} is one modality; there is none to do without")
    if options.cache_embeddings is not None:
        raise UserError(f"{asked}: cached embeddings are of all modalities; leave out --cache-embeddings")


def check_planes(options: TrainOptions, strategy: Strategy) -> None:
    """Raises a `UserError` if the run cannot be trained on these --planes."""
    planes = parse_planes(options.planes)
    if planes == (AXIAL,):
        return
    asked = f"--planes {options.planes}"
    if strategy.family == "pictures":
        raise UserError(f"{asked}: --strategy {strategy.name} trains on pictures, which have no planes; leave it out")
    if AXIAL not in planes:
        raise UserError(f"{asked}: expected {AXIAL} among them, since prompts and the validation scores are {AXIAL}")
    if options.channels == PCA2D:
        raise UserError(f"{asked}: --channels {PCA2D} is fitted to the pixels of axial slices; name modalities")
    if options.cache_embeddings is not None:
        raise UserError(f"{asked}: cached embeddings are of axial slices; leave out --cache-embeddings")
    if options.spacing is not None:
        require_cubic(RunGrid.parse(options.spacing), options.planes)


FREE = ("workers", "cache", "cache_dir", "checkpoint_every", "embeddings_budget", "batch_size", "profile", "track")
"""Options that change how a run is computed but not its result; a resumed run takes the given values.

The samples of a step stay the same: with another batch size or number of devices, each device takes more or fewer
micro-batches.
"""
MOVED = ("data", "weights")
"""Options for the places of the run's inputs; a resumed run takes other places of the same content."""
BOUND = (
    "strategy", "overfit", "roi", "channels", "depth", "image_size", "lora_rank", "lora_alpha", "lora_targets",
    "patch_embedding", "seed", "limit", "fold", "layout", "labels", "optimizer", "accumulate", "clip_norm",
    "patients", "split_file", "modality_dropout", "spacing", "planes",
)  # fmt: skip
"""Options that a run cannot change: the model, the data and the optimiser's state depend on them."""
_OF_THE_COMMAND = ("run", "resume", "allow_changes", "coordinator", "processes", "process_index")

_MEANINGS: dict[str, Callable[[Any], object]] = {
    "channels": lambda text: parse_channels(text).text,
    "prompt": lambda text: PromptMix.parse(text).shares,
    "lora_targets": lambda text: sorted(_parts(text)),
    "fold": lambda text: [int(part) for part in text.split("/")],
    "spacing": RunGrid.parse,
    "planes": parse_planes,
    "patients": lambda path: path.absolute(),
    "split_file": lambda path: path.absolute(),
}
"""Functions that make values comparable which can be spelled in several ways."""


def given_options(options: TrainOptions) -> set[str]:
    """The options that differ from the default, which are taken as given by a caller without a command line."""
    default = TrainOptions()
    return {x.name for x in fields(TrainOptions) if getattr(options, x.name) != getattr(default, x.name)}


def continued_options(
    started: TrainOptions, options: TrainOptions, folder: Path, given: Collection[str] | None = None
) -> TrainOptions:
    """The options of a resumed run: those it started with, and the permitted changes.

    Args:
        started: the options that the run started with.
        options: the options of the command that resumes it.
        folder: folder of the run.
        given: names of the options that the user gave, also if they equal the default; None: those that differ from it.

    Raises:
        UserError: an option is given that cannot change, or can change only with `allow_changes`.
    """
    names = [x.name for x in fields(TrainOptions) if x.name in (given_options(options) if given is None else given)]
    changed: dict[str, Any] = {
        name: getattr(options, name)
        for name in names
        if name not in (*_OF_THE_COMMAND, *MOVED) and not _same(name, getattr(options, name), getattr(started, name))
    }
    refused = [name for name in changed if name not in FREE and (name in BOUND or not options.allow_changes)]
    if refused:
        what = ", ".join(f"{flag(name)} {changed[name]} (the run has {getattr(started, name)})" for name in refused)
        bound = any(name in BOUND for name in refused)
        advice = "start a new run for that" if bound else "leave it out, or allow it with --allow-changes"
        raise UserError(f"--resume --run {folder}: changed {what}; {advice}")
    return replace(started, **changed)


def _same(name: str, value: Any, other: Any) -> bool:
    """Whether two values of an option mean the same in their different spellings."""
    if value == other or name not in _MEANINGS or value is None or other is None:
        return value == other
    try:
        return _MEANINGS[name](value) == _MEANINGS[name](other)
    except (ValueError, UserError):
        return False


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def flag(name: str) -> str:
    """An option as it is typed."""
    return f"--{name.replace('_', '-')}"
