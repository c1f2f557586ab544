"""The folder of a run: the names of its files, creating it, finding it, and reading what describes it."""

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

import samjax.weights
from samjax.command_lines import command
from samjax.data.imaging.doubts import RANGES, read_ranges
from samjax.data.imaging.grids import RunGrid, common_grid
from samjax.data.on_device.channels import PCA2D, Channels, load_pca2d, parse_channels
from samjax.data.splits import Splits, splits_from_json
from samjax.errors import UserError
from samjax.files import replacing
from samjax.runs.config import RunConfig
from samjax.runs.packed import is_packed, is_unpacked, unpack
from samjax.weights.hub import HubName, fetch, is_hub_name

RUNS = Path("runs")
LATEST = RUNS / "latest"
CONFIG = "config.json"
SPLIT = "split.json"
METRICS = "metrics.jsonl"
FINAL = "final.safetensors"
CHECKPOINTS = "checkpoints"
PCA = "pca2d.npz"
SWEEPS = "lr_finder"
CURVES = "curves.png"
WEIGHTS = "weights.safetensors"
EXAMPLE = "first_validation.png"
POSTPROCESS = "postprocess.json"
CARD = "README.md"
SMALL_FILES = (CONFIG, SPLIT, POSTPROCESS, RANGES, PCA, CARD)
"""What a packed run may hold beside weights."""

GLIOMA = "glioma"
"""The model that comes with samjax for scans of brain tumours."""
SHIPPED_RUNS = {GLIOMA: Path(samjax.weights.__file__).with_name(GLIOMA)}
"""Folders of the models that come with samjax, by name."""


def check_folder(wanted: Path | None) -> None:
    """Refuses, by a `UserError`, a folder for a new run that holds one already."""
    if wanted is not None and (wanted / CONFIG).exists():
        again = command("train", "--resume", "--run", wanted)
        raise UserError(f"--run {wanted}: holds a run already; continue it with {again}, or name another folder")


def new_run_folder(wanted: Path | None, strategy: str) -> Path:
    """Creates the folder of a new run; without a `wanted` one, under a name that no other run has.

    Raises:
        UserError: the folder holds a run already, or cannot be created.
    """
    check_folder(wanted)
    try:
        if wanted is None:
            return _new_name(f"{time.strftime('%Y%m%d-%H%M%S')}-{strategy}")
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        place = RUNS.absolute() if wanted is None else wanted
        raise UserError(
            f"--run: {place} cannot be created ({error.strerror or error}); name a folder with --run"
        ) from None
    return wanted


def _new_name(name: str) -> Path:
    """Creates runs/NAME, or runs/NAME-2, -3, ... where another run was started in the same second."""
    RUNS.mkdir(exist_ok=True)
    for number in itertools.count(1):
        folder = RUNS / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()  # by one process only
            return folder
    raise AssertionError("itertools.count never ends")


def point_latest(folder: Path) -> None:
    """Makes runs/latest a link to `folder`; prints a warning if that cannot be written."""
    link = RUNS / f".latest-{os.getpid()}"
    try:
        RUNS.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(folder, RUNS))
        link.replace(LATEST)
    except OSError as error:
        print(f"{LATEST} does not point at {folder}: it cannot be written ({error.strerror or error})", file=sys.stderr)


def find_run(folder: Path | None) -> Path:
    """The folder of the run asked for: `folder`, or the newest run.

    Raises:
        UserError: there is none, or it holds no run.
    """
    if folder is None:
        if not LATEST.exists():
            raise UserError(f"no run yet: train one with {command('train')}, or name one with --run")
        folder = LATEST.resolve()
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: no {CONFIG} there, so it is not a run folder")
    return folder


def find_model(folder: Path | None) -> Path:
    """The folder of a finished run to read from: as `find_run`, or as `model_folder`.

    "latest" is the newest run. A folder of that name comes first.

    Raises:
        UserError: there is none, it holds no run, or a packed run cannot be opened.
    """
    newest = folder is None or (folder == Path(LATEST.name) and not (folder / CONFIG).is_file())
    if newest:
        return find_run(None)
    if folder.is_file() or is_hub_name(str(folder)):
        return unpacked(folder)
    return find_run(model_folder(folder))


def model_folder(given: Path) -> Path:
    """The folder of a run that is given as a folder, a packed file, or the name of one on the Hub or in samjax.

    Anything else is returned as it is.
    """
    if (given / CONFIG).is_file():
        return given
    if is_hub_name(str(given)):
        return unpacked(given) if is_packed(fetch(str(given))) else given
    if given.is_file():
        return unpacked(given) if is_packed(given) else given
    return SHIPPED_RUNS.get(str(given), given)


def unpacked(file: Path) -> Path:
    """The folder of the run in a file that `samjax pack` wrote, or that is named by hf:...; see `packed.unpack`."""
    if not is_hub_name(str(file)):
        return unpack(file, FINAL, SMALL_FILES)
    try:
        return unpack(fetch(str(file)), FINAL, SMALL_FILES, HubName.parse(str(file)).name)
    except UserError as error:
        begins = str(error).startswith(str(file))
        raise error if begins else UserError(f"{file}: {error}") from None


def lies_elsewhere(run: Path) -> bool:
    """Whether results do not belong into the folder: it comes with samjax, or was made from a packed run."""
    return run in SHIPPED_RUNS.values() or is_unpacked(run)


def read_config(folder: Path) -> RunConfig:
    """The configuration of the run in `folder`."""
    return RunConfig.from_json((folder / CONFIG).read_text(), folder / CONFIG)


def read_splits(folder: Path) -> Splits:
    """The patient split of the run in `folder`."""
    path = folder / SPLIT
    try:
        return splits_from_json(json.loads(path.read_text()), path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def channels_of(folder: Path, config: RunConfig) -> Channels:
    """The input channels of the run in `folder`, with the fit that pca2d stored there."""
    text = config.options.channels
    return parse_channels(text, load_pca2d(folder / PCA) if text == PCA2D else None)


def grid_of(folder: Path, config: RunConfig) -> RunGrid | None:
    """The voxel grid on which the model of the run in `folder` works; None: on every scan's own.

    A run of a version that did not resample works on the spacing of the scans that it was trained on, if it recorded
    their ranges and these are of one spacing.
    """
    if config.grid is not None:
        return config.grid
    ranges = read_ranges(folder)
    if ranges is None:
        return None
    grid, alike = common_grid([(1.0, side, side) for side in ranges.spacing])
    return grid if alike else None


def what_next(folder: Path) -> str:
    """The commands to type after a run has ended."""
    if (folder / WEIGHTS).exists():
        return f"fine-tune from it: {command('train', '--strategy', 'lora4ch', '--weights', folder / WEIGHTS)}"
    if (folder / CONFIG).exists() and not read_config(folder).data:
        return f"score it on labelled scans: {command('eval', '--run', folder, '--data', 'DIR')}"
    return f"score it on its test patients: {command('eval', '--run', folder)}"


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the run for this process; the lock goes with the process, however it ends.

    Raises:
        UserError: another process trains in it.
    """
    try:
        held = FileLock(folder / ".lock", timeout=0).acquire()
    except Timeout:
        raise UserError(f"--run {folder}: another process is training there") from None
    with held:
        yield
