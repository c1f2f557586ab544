"""What a run needs before its first step: resolved options, weights, data and split, new or resumed."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from samjax.config import TrainOptions
from samjax.data.cache import CachedCase
from samjax.data.channels import PCA2D, Channels, fit_pca2d, parse_channels
from samjax.data.cohort import list_cases, named_folders, phantom_cohort, prepare, require_labels
from samjax.data.labels import roi_codes
from samjax.data.prompts import PromptMix
from samjax.data.samples import RegionSlices, largest_square
from samjax.data.splits import Splits, split_cases
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

PHANTOM_STEPS = 300


@dataclass(frozen=True)
class Session:
    """A run that is ready to train."""

    folder: Path
    config: RunConfig
    base: dict[str, np.ndarray]
    train: tuple[CachedCase, ...]
    val: tuple[CachedCase, ...]
    channels: Channels
    resumed: bool = False

    @property
    def options(self) -> TrainOptions:
        return self.config.options

    @property
    def strategy(self) -> Strategy:
        return find_strategy(self.config.options.strategy)


def new_session(options: TrainOptions) -> Session:
    """Reads weights and data and creates the run folder with config.json and split.json."""
    strategy = find_strategy(options.strategy)
    base = load_base(options.weights)
    options = resolve(options, strategy, base.config)
    folders = named_folders(options.data) or phantom_cohort(options.cache_dir)
    cases = _labelled_cases(folders, options)
    splits = split_cases([case.case for case in cases], options.seed, options.fold)
    base_path = options.weights if not Path(options.weights).exists() else str(Path(options.weights).absolute())
    config = RunConfig(
        options,
        {name: str(folder) for name, folder in folders.items()},
        base_path,
        base.sha256,
        base.config,
        largest_square(cases),
    )
    pca = None
    if options.channels == PCA2D:
        train = of_part(cases, splits, "train")
        pca = fit_pca2d(RegionSlices(train, options.roi, options.min_pixels, config.native))
    folder = new_run_folder(options.run, options.strategy)
    if pca is not None:
        pca.save(folder / PCA)
    write_text(folder / SPLIT, json.dumps(splits.to_json(), indent=2) + "\n")
    write_text(folder / CONFIG, config.to_json())
    point_latest(folder)
    return _session(folder, config, base.flat, cases, splits)


def resumed_session(options: TrainOptions) -> Session:
    """Opens the run in --run, or the newest one, with the options, weights, data and split it started with."""
    folder = find_run(options.run)
    config = read_config(folder)
    base = load_base_of(config, folder)
    folders = {name: Path(path) for name, path in config.data.items()}
    cases = _labelled_cases(folders, config.options)
    return replace(_session(folder, config, base.flat, cases, read_splits(folder)), resumed=True)


def _labelled_cases(folders: dict[str, Path], options: TrainOptions) -> list[CachedCase]:
    cases = list_cases(folders, options.layout, options.labels, options.limit)
    return require_labels(prepare(cases, options.cache_dir if options.cache else None))


def _session(
    folder: Path, config: RunConfig, base: dict[str, np.ndarray], cases: list[CachedCase], splits: Splits
) -> Session:
    train, val = (of_part(cases, splits, part) for part in ("train", "val"))
    return Session(folder, config, base, train, val, channels_of(folder, config))


def of_part(cases: list[CachedCase], splits: Splits, part: str) -> tuple[CachedCase, ...]:
    """The prepared cases whose patients are of a part of the split."""
    chosen = {(case.domain, case.id) for case in splits.select([case.case for case in cases], part)}
    return tuple(case for case in cases if (case.case.domain, case.case.id) in chosen)


_COUNTS = (
    "depth", "epochs", "max_steps", "batch_size", "image_size", "min_pixels", "lora_rank", "limit", "clicks",
    "checkpoint_every", "accumulate",
)  # fmt: skip


def resolve(options: TrainOptions, strategy: Strategy, architecture: SamConfig) -> TrainOptions:
    """Fills in what depends on the strategy and the weights, and checks the values.

    Raises:
        UserError: an option's value is not possible.
    """
    options = replace(
        options,
        channels=options.channels or strategy.channels,
        prompt=str(PromptMix.parse(options.prompt or strategy.prompt)),
        depth=options.depth if options.depth is not None else strategy.depth,
        image_size=options.image_size if options.image_size is not None else architecture.image_size,
        max_steps=options.max_steps if options.max_steps is not None or options.data else PHANTOM_STEPS,
    )
    for name in _COUNTS:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected at least 1")
    if options.image_size % architecture.patch_size:
        raise UserError(
            f"--image-size {options.image_size}: expected a multiple of the patch, {architecture.patch_size}"
        )
    if not 0 <= options.empty_share < 1:
        raise UserError(f"--empty-share {options.empty_share:g}: expected a share from 0 up to below 1")
    if not 0 <= options.swa_start <= 1:
        raise UserError(f"--swa-start {options.swa_start:g}: expected a share of the run, from 0 to 1")
    if not options.lr > 0:
        raise UserError(f"--lr {options.lr}: expected a positive number")
    targets = [target.strip() for target in options.lora_targets.split(",")]
    if unknown := set(targets) - {"q", "k", "v", "mlp"}:
        raise UserError(f"--lora-targets: unknown '{sorted(unknown)[0]}'; expected any of q, k, v, mlp")
    roi_codes(options.roi)
    count = parse_channels(options.channels).count
    if count != 3 and not strategy.new_patch_embedding:
        raise UserError(
            f"--channels {options.channels}: {count} channels, but --strategy {strategy.name} keeps the "
            "pretrained patch embedding, which takes 3"
        )
    return options
