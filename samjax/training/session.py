"""What a run needs before its first step: resolved options, weights, data and split, new or resumed."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from samjax.config import TrainOptions
from samjax.data.cache import CachedCase
from samjax.data.channels import PCA2D, Channels, Pca2d, fit_pca2d, parse_channels
from samjax.data.cohort import list_cases, named_folders, phantom_cohort, prepare, require_labels
from samjax.data.labels import roi_codes
from samjax.data.prompts import PromptMix
from samjax.data.samples import RegionSlices, largest_square
from samjax.data.splits import Splits, only_patient, split_cases
from samjax.distributed import barrier, errors_shared, from_writer, is_writer
from samjax.errors import UserError
from samjax.models.presets import SamConfig
from samjax.runs import (
    CONFIG,
    PCA,
    SPLIT,
    RunConfig,
    channels_of,
    find_run,
    load_base_of,
    new_run_folder,
    point_latest,
    read_config,
    read_splits,
    write_text,
)
from samjax.strategies import Strategy, find_strategy
from samjax.weights.base import load_base
from samjax.weights.files import Weights

PHANTOM_STEPS = 300


@dataclass(frozen=True)
class Session:
    """A run that is ready to train. Without scans (pretraining) `train` and `val` are empty and `channels` None."""

    folder: Path
    config: RunConfig
    base: dict[str, np.ndarray]
    train: tuple[CachedCase, ...]
    val: tuple[CachedCase, ...]
    channels: Channels | None
    resumed: bool = False

    @property
    def options(self) -> TrainOptions:
        return self.config.options

    @property
    def strategy(self) -> Strategy:
        return find_strategy(self.config.options.strategy)


def new_session(options: TrainOptions) -> Session:
    """Reads weights and data; process 0 creates the run folder with config.json and split.json."""
    with errors_shared():
        strategy = find_strategy(options.strategy)
        base = base_weights(options, strategy)
        options = resolve(options, strategy, base.config if base else None)
        cases, folders = [], {}
        if strategy.family != "pictures":
            folders = named_folders(options.data) or phantom_cohort(options.cache_dir)
            cases = _labelled_cases(folders, options)
        splits = _splits(cases, options)
        config = RunConfig(
            options,
            {name: str(folder) for name, folder in folders.items()},
            _absolute(options.weights) if base else "",
            base.sha256 if base else "",
            base.config if base else None,
            largest_square(cases) if cases else options.image_size,
        )
        pca = None
        if options.channels == PCA2D:
            train = of_part(cases, splits, "train")
            pca = fit_pca2d(RegionSlices(train, options.roi, options.min_pixels, config.native))
    folder = Path(from_writer(lambda: str(_written_run(config, splits, pca))))
    return _session(folder, config, base, cases, splits)


def _written_run(config: RunConfig, splits: Splits, pca: Pca2d | None) -> Path:
    folder = new_run_folder(config.options.run, config.options.strategy)
    if pca is not None:
        pca.save(folder / PCA)
    write_text(folder / SPLIT, json.dumps(splits.to_json(), indent=2) + "\n")
    write_text(folder / CONFIG, config.to_json())
    point_latest(folder)
    return folder


def resumed_session(options: TrainOptions) -> Session:
    """Opens the run in --run, or the newest one, with the options, weights, data and split it started with.

    Raises:
        UserError: other options are given than it started with, and `allow_changes` is not.
    """
    with errors_shared():
        folder = find_run(options.run)
        config = read_config(folder)
        config = replace(config, options=continued_options(config.options, options, folder))
        strategy = find_strategy(config.options.strategy)
        _check_embeddings(config.options, strategy)
        base = load_base_of(config, folder) if strategy.family != "unet" else None
        folders = {name: Path(path) for name, path in config.data.items()}
        cases = _labelled_cases(folders, config.options) if folders else []
        session = replace(_session(folder, config, base, cases, read_splits(folder)), resumed=True)
    barrier("resumed")  # before config.json changes under another process
    if is_writer():
        write_text(folder / CONFIG, config.to_json())
    return session


FREE = ("workers", "cache", "cache_dir", "checkpoint_every", "embeddings_budget")
"""Options that change how a run is computed but not what: a resumed run takes what is given."""
BOUND = (
    "strategy", "data", "weights", "overfit", "roi", "channels", "depth", "image_size", "lora_rank", "lora_alpha",
    "lora_targets", "patch_embedding", "seed", "limit", "fold", "layout", "labels", "optimizer", "accumulate",
    "clip_norm",
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


def base_weights(options: TrainOptions, strategy: Strategy) -> Weights | None:
    """What `--weights` names, or the strategy's default; None for the U-Net, which has none.

    Raises:
        UserError: the file cannot be used, or the strategy takes none.
    """
    if strategy.family == "unet":
        if options.weights is not None:
            raise UserError(f"--weights {options.weights}: the U-Net starts from random weights; leave it out")
        return None
    return load_base(options.weights or strategy.defaults["weights"])


def _absolute(weights: str) -> str:
    return str(Path(weights).absolute()) if Path(weights).exists() else weights


def _splits(cases: list[CachedCase], options: TrainOptions) -> Splits:
    if options.overfit is not None:
        return only_patient(cases[0].case)
    return split_cases([case.case for case in cases], options.seed, options.fold)


def _labelled_cases(folders: dict[str, Path], options: TrainOptions) -> list[CachedCase]:
    cases = list_cases(folders, options.layout, options.labels, options.limit)
    if options.overfit is not None:
        found = [case for case in cases if case.id == options.overfit]
        if not found:
            some = ", ".join(case.id for case in cases[:3])
            raise UserError(f"--overfit {options.overfit}: no such case among {len(cases)} ({some}, ...)")
        cases = found
    return require_labels(prepare(cases, options.cache_dir if options.cache else None))


def _session(folder: Path, config: RunConfig, base: Weights | None, cases: list[CachedCase], splits: Splits) -> Session:
    train, val = (of_part(cases, splits, part) for part in ("train", "val"))
    channels = channels_of(folder, config) if cases else None
    return Session(folder, config, base.flat if base else {}, train, val, channels)


def of_part(cases: list[CachedCase], splits: Splits, part: str) -> tuple[CachedCase, ...]:
    """The prepared cases whose patients are of a part of the split."""
    chosen = {(case.domain, case.id) for case in splits.select([case.case for case in cases], part)}
    return tuple(case for case in cases if (case.case.domain, case.case.id) in chosen)


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
    _check_embeddings(options, strategy)
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


def _check_embeddings(options: TrainOptions, strategy: Strategy) -> None:
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
