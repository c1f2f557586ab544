"""The options of a run: what the strategy fills in, which values are refused, and what a resumed run may change."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from samjax.data.labels import roi_codes
from samjax.data.on_device.channels import parse_channels
from samjax.data.on_device.prompts import PromptMix
from samjax.errors import UserError
from samjax.models.config import SamConfig
from samjax.options import PHANTOM_STEPS, TrainOptions
from samjax.strategies import Strategy

_COUNTS = (
    "depth", "epochs", "max_steps", "batch_size", "image_size", "min_pixels", "lora_rank", "limit", "clicks",
    "checkpoint_every", "accumulate", "lr_finder_every", "cache_embeddings",
)  # fmt: skip


def resolve(options: TrainOptions, strategy: Strategy, architecture: SamConfig | None) -> TrainOptions:
    """Fills in what depends on the strategy and the weights, and checks the values.

    Raises:
        UserError: an option's value is not possible.
    """
    options = _with_defaults(options, strategy, architecture)
    for name in _COUNTS:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"{_flag(name)} {value}: expected at least 1")
    if architecture is not None and options.image_size % architecture.patch_size:
        raise UserError(
            f"--image-size {options.image_size}: expected a multiple of the patch, {architecture.patch_size}"
        )
    if not 0 <= options.empty_share < 1:
        raise UserError(f"--empty-share {options.empty_share:g}: expected a share from 0 up to below 1")
    if not 0 <= options.swa_start <= 1:
        raise UserError(f"--swa-start {options.swa_start:g}: expected a share of the run, from 0 to 1")
    if options.lr != "auto" and not options.lr > 0:
        raise UserError(f"--lr {options.lr}: expected a positive number or auto")
    targets = [target.strip() for target in options.lora_targets.split(",")]
    if unknown := set(targets) - {"q", "k", "v", "mlp"}:
        raise UserError(f"--lora-targets: unknown '{sorted(unknown)[0]}'; expected any of q, k, v, mlp")
    roi_codes(options.roi)
    _check_family(options, strategy)
    check_embeddings(options, strategy)
    return options


def _with_defaults(options: TrainOptions, strategy: Strategy, architecture: SamConfig | None) -> TrainOptions:
    missing = {name: value for name, value in strategy.defaults.items() if getattr(options, name) is None}
    options = replace(options, **missing)
    limited = options.max_steps is not None or options.data or strategy.family == "pictures"
    if options.image_size is None and architecture is not None:
        options = replace(options, image_size=architecture.image_size)
    return replace(
        options,
        prompt=str(PromptMix.parse(options.prompt)),
        max_steps=options.max_steps if limited else PHANTOM_STEPS,
        augment=options.augment and options.overfit is None,
    )


def _check_family(options: TrainOptions, strategy: Strategy) -> None:
    """What a family of models cannot do is refused."""
    name = strategy.name
    if strategy.family == "pictures":
        if options.data or options.channels != "rgb" or options.depth != 1 or options.overfit:
            raise UserError(f"--strategy {name}: trains on generated RGB pictures; no --data, --channels or --depth")
        if "none" in PromptMix.parse(options.prompt).kinds:
            raise UserError(f"--prompt {options.prompt}: --strategy {name} needs points or boxes to say which shape")
        return
    count = parse_channels(options.channels).count
    if strategy.family == "unet":
        if options.depth != 1 or options.image_size is not None or options.prompt != "none":
            raise UserError(f"--strategy {name}: takes whole slices one by one; no --depth, --image-size or --prompt")
    elif count != 3 and not strategy.new_patch_embedding:
        raise UserError(
            f"--channels {options.channels}: {count} channels, but --strategy {name} keeps the "
            "pretrained patch embedding, which takes 3"
        )


def check_embeddings(options: TrainOptions, strategy: Strategy) -> None:
    """Embeddings are kept of a frozen encoder's single slices, each variant another one."""
    variants = options.cache_embeddings
    if variants is None:
        return
    flag = f"--cache-embeddings {variants}"
    if not strategy.encoder_frozen:
        raise UserError(f"{flag}: --strategy {strategy.name} trains the encoder; take decoder, or leave it out")
    if options.depth != 1:
        raise UserError(f"{flag}: --depth {options.depth} lets slices see each other; leave one of the two out")
    if not options.cache:
        raise UserError(f"{flag}: embeddings lie on the disk beside the slices; leave out --no-cache")
    if options.augment and variants == 1:
        raise UserError(f"{flag}: one variant would be one fixed deformation; give 2 or more, or --no-augment")
    if not options.augment and variants > 1:
        raise UserError(f"{flag}: without augmentation all variants are the same; give 1")
    if options.max_steps is None and variants > options.epochs:
        raise UserError(f"{flag}: {options.epochs} epochs show one variant each; give no more than that")


FREE = ("workers", "cache", "cache_dir", "checkpoint_every", "embeddings_budget")
"""Options that change how a run is computed but not what: a resumed run takes what is given."""
BOUND = (
    "strategy", "data", "weights", "overfit", "roi", "channels", "depth", "image_size", "lora_rank", "lora_alpha",
    "lora_targets", "patch_embedding", "seed", "limit", "fold", "layout", "labels", "optimizer", "accumulate",
    "clip_norm", "patients", "split_file",
)  # fmt: skip
"""Options that a run cannot change: the model, the data and the optimiser's state depend on them."""


def continued_options(started: TrainOptions, given: TrainOptions, folder: Path) -> TrainOptions:
    """The options to go on with: those the run started with, and what may be changed.

    An option counts as given where it is not the default.

    Raises:
        UserError: an option is given that cannot change, or one that may only with `allow_changes`.
    """
    own = ("run", "resume", "allow_changes", "coordinator", "processes", "process_index")
    default = TrainOptions()
    changed: dict[str, Any] = {}
    for name in (field.name for field in fields(TrainOptions) if field.name not in own):
        value = getattr(given, name)
        if value not in (getattr(default, name), getattr(started, name)):
            changed[name] = value
    refused = [name for name in changed if name not in FREE and (name in BOUND or not given.allow_changes)]
    if refused:
        what = ", ".join(f"{_flag(name)} {changed[name]} (the run has {getattr(started, name)})" for name in refused)
        bound = any(name in BOUND for name in refused)
        advice = "start a new run for that" if bound else "leave it out, or allow it with --allow-changes"
        raise UserError(f"--resume --run {folder}: changed {what}; {advice}")
    return replace(started, **changed)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
