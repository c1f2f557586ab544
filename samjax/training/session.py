"""What a run needs before its first step: its options, weights, data and split, new or resumed."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.cohort import list_cases, named_folders, phantom_cohort, prepare, require_labels
from samjax.data.imaging.doubts import RANGES, Ranges, ranges_of
from samjax.data.on_device.channels import PCA2D, Channels, Pca2d, fit_pca2d
from samjax.data.samples import RegionSlices, largest_square
from samjax.data.shared import overlapping_domains
from samjax.data.split_files import read_split_file
from samjax.data.splits import Splits, only_patient, split_cases, with_members
from samjax.errors import UserError
from samjax.options import TrainOptions
from samjax.runs.config import RunConfig
from samjax.runs.folder import (
    CONFIG,
    PCA,
    SPLIT,
    channels_of,
    find_run,
    new_run_folder,
    point_latest,
    read_config,
    read_splits,
    write_text,
)
from samjax.runs.model import load_base_of
from samjax.strategies import Strategy, find_strategy
from samjax.training.distributed import barrier, errors_shared, from_writer, is_writer
from samjax.training.resolve import check_embeddings, continued_options, resolve
from samjax.weights.base import Weights, load_base


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
            cases = _labelled_cases(folders, options, options.patients)
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
    ranges = ranges_of(case.geometry for case in of_part(cases, splits, "train")) if cases else None
    folder = Path(from_writer(lambda: str(_written_run(config, splits, pca, ranges))))
    return _session(folder, config, base, cases, splits)


def _written_run(config: RunConfig, splits: Splits, pca: Pca2d | None, ranges: Ranges | None) -> Path:
    folder = new_run_folder(config.options.run, config.options.strategy)
    if pca is not None:
        pca.save(folder / PCA)
    if ranges is not None:
        write_text(folder / RANGES, ranges.to_json())
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
        check_embeddings(config.options, strategy)
        base = load_base_of(config, folder) if strategy.family != "unet" else None
        folders = {name: Path(path) for name, path in config.data.items()}
        cases = _labelled_cases(folders, config.options) if folders else []
        session = replace(_session(folder, config, base, cases, read_splits(folder)), resumed=True)
    barrier("resumed")  # before config.json changes under another process
    if is_writer():
        write_text(folder / CONFIG, config.to_json())
    return session


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
    """The split of the cases: one case's alone, that of a file, or by the seed; notes and warnings go to stderr."""
    listed, notes = [case.case for case in cases], []
    if options.overfit is not None:
        splits = only_patient(listed[0])
    elif options.split_file is not None:
        splits, notes = read_split_file(options.split_file, options.fold, listed)
    else:
        splits = split_cases(listed, options.seed, options.fold)
    splits = with_members(splits, cases)
    fingerprints = {(case.case.domain, case.case.id): case.fingerprint for case in cases}
    warnings = overlapping_domains(splits.select(listed, "all"), fingerprints) if options.overfit is None else []
    if is_writer():
        for line in [*(f"note: {note}" for note in notes), *(f"warning: {warning}" for warning in warnings)]:
            print(line, file=sys.stderr)
    return splits


def _labelled_cases(folders: dict[str, Path], options: TrainOptions, patients: Path | None = None) -> list[CachedCase]:
    cases = list_cases(folders, options.layout, options.labels, options.limit, patients)
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
