"""Prepares a new or resumed run before its first step: options, weights, data and split."""

import json
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import jax
import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.cache.views import SlicedCase, views_of
from samjax.data.cases import Case
from samjax.data.cohort import (
    grid_for,
    list_cases,
    named_folders,
    phantom_cohort,
    prepare,
    require_labels,
    spacings_of,
)
from samjax.data.imaging.doubts import RANGES, Ranges, ranges_of
from samjax.data.imaging.grids import RunGrid
from samjax.data.imaging.planes import AXIAL, cubic_grid, parse_planes
from samjax.data.on_device.channels import PCA2D, Channels, Pca2d, fit_pca2d, parse_channels
from samjax.data.samples import RegionSlices, TrainingWindows, largest_square
from samjax.data.shared import overlapping_domains
from samjax.data.split_files import read_split_file
from samjax.data.splits import PARTS, Splits, only_patient, split_cases, with_members
from samjax.data.synthetic.windows import SIZE as GENERATED_SIZE
from samjax.data.synthetic.windows import SPACING as GENERATED_SPACING
from samjax.errors import UserError
from samjax.options import TrainOptions
from samjax.runs.config import RunConfig, needs_of
from samjax.runs.folder import (
    CONFIG,
    PCA,
    SPLIT,
    channels_of,
    check_folder,
    find_run,
    new_run_folder,
    point_latest,
    read_config,
    read_splits,
    write_text,
)
from samjax.runs.trained import load_base_of, load_start
from samjax.strategies import Strategy, find_strategy
from samjax.training.distributed import errors_shared, from_writer, is_writer
from samjax.training.division import Division, check_batch_size, divide
from samjax.training.moved import check_scans, existing_folders, moved_folders
from samjax.training.run_options import check_given, check_start, continued_options, given_options, resolve
from samjax.weights.base import Sight, Weights


@dataclass(frozen=True)
class Session:
    """A run that is ready to train. Without scans `train` and `val` are empty; pretraining has no `channels` either."""

    folder: Path
    config: RunConfig
    base: dict[str, np.ndarray]
    train: tuple[CachedCase, ...]
    val: tuple[CachedCase, ...]
    channels: Channels | None
    test: tuple[CachedCase, ...] = ()
    resumed: bool = False

    @property
    def options(self) -> TrainOptions:
        return self.config.options

    @property
    def strategy(self) -> Strategy:
        return find_strategy(self.config.options.strategy)

    @cached_property
    def views(self) -> tuple[SlicedCase, ...]:
        """The training cases in every plane that the run is trained on."""
        return views_of(self.train, self.config.planes, self.config.cropped)

    @property
    def division(self) -> Division:
        """The division of the samples of a step among the present devices."""
        return divide(self.config.samples, jax.device_count(), self.config.options.batch_size)


@dataclass(frozen=True)
class Plan:
    """A new run that is checked but not yet on the disk."""

    config: RunConfig
    base: Weights | None
    cases: tuple[CachedCase, ...]
    splits: Splits
    pca: Pca2d | None
    ranges: Ranges | None


def new_session(
    options: TrainOptions, given: Collection[str] | None = None, check: Callable[[Session], None] = lambda session: None
) -> Session:
    """Reads weights and data and checks all; then process 0 creates the run folder with config.json and split.json.

    Args:
        options: the options of the command.
        given: names of the options that the user gave, also if they equal the default; None: those that differ from it.
        check: raises a `UserError` for other reasons against the run; called before anything is created.

    Raises:
        UserError: the options, weights or data cannot be used; nothing was created.
    """
    with errors_shared():
        plan = _plan(options, given)
    check(_session(Path(), plan.config, plan.base, plan.cases, plan.splits, plan.pca))
    folder = Path(from_writer(lambda: str(_written_run(plan))))
    return _session(folder, plan.config, plan.base, plan.cases, plan.splits, plan.pca)


def _plan(options: TrainOptions, given: Collection[str] | None) -> Plan:
    strategy = find_strategy(options.strategy)
    check_folder(options.run)
    base = base_weights(options, strategy)
    given = given_options(options) if given is None else given
    sight = base.sight if base else None
    if sight and options.image_size is None:
        options = replace(options, image_size=sight.image_size)
    options = resolve(options, strategy, base.config if base else None)
    check_start(options, strategy, base)
    check_given(given, options, strategy)
    cases, folders = [], {}
    if strategy.reads_scans:
        folders = named_folders(options.data) or phantom_cohort(options.cache_dir)
        listed = _listed_cases(folders, options, options.patients)
        options = _with_spacing(options, listed)
        cases = _labelled_cases(listed, options)
    elif strategy.generated:
        options = replace(options, spacing=str(RunGrid.parse(GENERATED_SPACING)))
    splits = _splits(cases, options)
    config = RunConfig(
        options,
        {name: str(folder) for name, folder in folders.items()},
        _absolute(options.weights) if base else "",
        base.sha256 if base else "",
        base.config if base else None,
        _native(strategy, options, cases, sight),
        strategy.generated or bool(sight and sight.cropped),
        options.batch_size * jax.device_count() * options.accumulate,
    )
    train = of_part(cases, splits, "train")
    if cases:
        windows_of(config, views_of(train, config.planes, config.cropped)).check()
    pca = None
    if options.channels == PCA2D:
        pca = fit_pca2d(RegionSlices(train, config.prompted_roi, options.min_pixels, config.native))
    ranges = ranges_of(case.source_geometry for case in train) if cases else None
    return Plan(config, base, tuple(cases), splits, pca, ranges)


def _native(strategy: Strategy, options: TrainOptions, cases: Sequence[CachedCase], sight: Sight | None) -> int:
    """Side in pixels of the square of a run's samples: not less than that of the run it starts from."""
    if strategy.generated:
        return GENERATED_SIZE
    if not cases:
        return options.image_size
    views = views_of(cases, parse_planes(options.planes), sight is not None and sight.cropped)
    return max(largest_square(views), sight.native if sight else 0)


def _written_run(plan: Plan) -> Path:
    folder = new_run_folder(plan.config.options.run, plan.config.options.strategy)
    if plan.pca is not None:
        plan.pca.save(folder / PCA)
    if plan.ranges is not None:
        write_text(folder / RANGES, plan.ranges.to_json())
    write_text(folder / SPLIT, json.dumps(plan.splits.to_json(), indent=2) + "\n")
    write_text(folder / CONFIG, plan.config.to_json())
    point_latest(folder)
    return folder


def resumed_session(options: TrainOptions, given: Collection[str] | None = None) -> Session:
    """Opens the run in --run, or the newest one, with the options, weights, data and split it started with.

    Nothing on the disk changes; `config` will be written to the run's config.json after the first step.

    Args:
        options: the options of the command.
        given: names of the options that the user gave, also if they equal the default; None: those that differ from it.

    Raises:
        UserError: the options, weights, scans or devices do not allow the run to be resumed.
    """
    with errors_shared():
        folder = find_run(options.run)
        started = read_config(folder)
        given = given_options(options) if given is None else given
        continued = continued_options(started.options, options, folder, given)
        strategy = find_strategy(continued.strategy)
        continued = resolve(continued, strategy, started.architecture)
        config = replace(started, options=continued, samples=_samples(started))
        _check_devices(config, folder, "batch_size" in given)
        base = None
        if strategy.family == "unet":
            base_weights(options, strategy)  # refuses any
        else:
            moved = options.weights if "weights" in given else None
            base = load_base_of(config, folder, moved)
            config = replace(config, base_path=config.base_path if moved is None else _absolute(moved))
        if "data" in given:
            config = replace(config, data=moved_folders(config.data, options.data, folder))
        cases = []
        if config.data:
            cases = _labelled_cases(_listed_cases(existing_folders(config.data, folder), continued), continued)
        splits = read_splits(folder)
        check_scans(cases, splits, config.data, folder)
        return replace(_session(folder, config, base, cases, splits), resumed=True)


def _samples(config: RunConfig) -> int:
    """The samples of a run's step; computed from options and devices if an older version did not record them."""
    options = config.options
    return config.samples or options.batch_size * jax.device_count() * options.accumulate


def _check_devices(config: RunConfig, folder: Path, exact: bool) -> None:
    """Raises a `UserError` if the devices cannot share a step's samples or, if `exact`, the batch size does not fit."""
    try:
        divide(config.samples, jax.device_count(), config.options.batch_size)
        if exact:
            check_batch_size(config.samples, jax.device_count(), config.options.batch_size)
    except UserError as error:
        raise UserError(f"--resume --run {folder}: {error}") from None


def base_weights(options: TrainOptions, strategy: Strategy) -> Weights | None:
    """The weights of `--weights`, or the strategy's default; None for the U-Net, which has none.

    Raises:
        UserError: the file cannot be used, or the strategy takes none.
    """
    if strategy.family == "unet":
        if options.weights is not None:
            raise UserError(f"--weights {options.weights}: the U-Net starts from random weights; leave it out")
        return None
    return load_start(options.weights or strategy.defaults["weights"])


def _absolute(weights: str) -> str:
    return str(Path(weights).absolute()) if Path(weights).exists() else weights


def _splits(cases: list[CachedCase], options: TrainOptions) -> Splits:
    """The split of the cases: of a single case, from a file, or by the seed; notes and warnings go to stderr."""
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


def _listed_cases(folders: dict[str, Path], options: TrainOptions, patients: Path | None = None) -> list[Case]:
    needs = needs_of(options, f"--channels {options.channels}")
    cases = list_cases(folders, options.layout, options.labels, options.limit, patients, needs=[needs])
    if options.overfit is None:
        return cases
    found = [case for case in cases if case.id == options.overfit]
    if not found:
        some = ", ".join(case.id for case in cases[:3])
        raise UserError(f"--overfit {options.overfit}: no such case among {len(cases)} ({some}, ...)")
    return found


def _with_spacing(options: TrainOptions, cases: list[Case]) -> TrainOptions:
    """The options with the spacing of the run's grid: the given one or that of the cases, see `grid_for`."""
    if options.spacing is not None:
        return replace(options, spacing=str(RunGrid.parse(options.spacing)))
    grid, note = grid_for(cases)
    if note and is_writer():
        print(f"note: {note}", file=sys.stderr)
    if grid and parse_planes(options.planes) != (AXIAL,):
        grid = cubic_grid(grid, [spacing[0] for spacing in spacings_of(cases)], options.planes)
    return replace(options, spacing=grid and str(grid))


def _labelled_cases(cases: list[Case], options: TrainOptions) -> list[CachedCase]:
    """The labelled cases, prepared on the grid of the run."""
    grid = options.spacing and RunGrid.parse(options.spacing)
    return require_labels(prepare(cases, options.cache_dir if options.cache else None, grid=grid))


def _session(
    folder: Path,
    config: RunConfig,
    base: Weights | None,
    cases: Sequence[CachedCase],
    splits: Splits,
    pca: Pca2d | None = None,
) -> Session:
    """Makes the session of a run; `pca` is the fit of a run that is not on the disk yet."""
    train, val, test = (of_part(cases, splits, part) for part in PARTS)
    channels = None
    if find_strategy(config.options.strategy).family != "pictures":
        channels = parse_channels(config.options.channels, pca) if pca else channels_of(folder, config)
    return Session(folder, config, base.flat if base else {}, train, val, channels, test)


def windows_of(config: RunConfig, views: tuple[SlicedCase, ...]) -> TrainingWindows:
    """The windows that a run shows of the training cases in its planes."""
    options = config.options
    return TrainingWindows(views, options.depth, options.roi, options.min_pixels, options.empty_share, options.seed)


def of_part(cases: Sequence[CachedCase], splits: Splits, part: str) -> tuple[CachedCase, ...]:
    """The prepared cases whose patients belong to a part of the split."""
    chosen = {(case.domain, case.id) for case in splits.select([case.case for case in cases], part)}
    return tuple(case for case in cases if (case.case.domain, case.case.id) in chosen)
