"""A run folder: what stands in it, creating it, and loading its model."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from samjax import __version__
from samjax.config import TrainOptions
from samjax.data.channels import PCA2D, Channels, load_pca2d, parse_channels
from samjax.data.prompts import PromptMix
from samjax.data.splits import Splits, splits_from_json
from samjax.errors import UserError
from samjax.files import replacing
from samjax.models.adapted import adapt
from samjax.models.flat import BlockSpans
from samjax.models.presets import Adaptation, Compute, SamConfig
from samjax.models.sam import Sam
from samjax.models.unet import UNet, UNetConfig, random_unet
from samjax.strategies import find_strategy
from samjax.weights.base import load_base
from samjax.weights.files import Weights, save_weights
from samjax.weights.safetensors_file import read_safetensors, write_safetensors

FORMAT_VERSION = "1"
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


@dataclass(frozen=True)
class RunConfig:
    """Everything needed to build a run's model and read its data again; stored as config.json.

    `options` is resolved: channels, prompt, depth and image_size are set.
    """

    options: TrainOptions
    data: dict[str, str]
    """Folder of each domain."""
    base_path: str
    base_sha256: str
    architecture: SamConfig | None
    """Of the base weights; None for the U-Net, which has none."""
    native: int
    """Side in pixels of the square that slices are padded to."""

    def to_json(self) -> str:
        content = {"format_version": FORMAT_VERSION, "samjax": __version__, **asdict(self)}
        return json.dumps(content, indent=2, default=str) + "\n"

    @classmethod
    def from_json(cls, text: str, where: Path) -> "RunConfig":
        try:
            content = json.loads(text)
            if content["format_version"] != FORMAT_VERSION:
                raise UserError(
                    f"{where}: format version {content['format_version']}, expected {FORMAT_VERSION}; "
                    "use the version of samjax that wrote it"
                )
            return cls(
                options=_options(content["options"]),
                data=content["data"],
                base_path=content["base_path"],
                base_sha256=content["base_sha256"],
                architecture=_architecture(content["architecture"]),
                native=content["native"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{where}: not a run's configuration ({error})") from error

    @property
    def adaptation(self) -> Adaptation:
        """What the run's strategy adds to the encoder."""
        options, strategy = self.options, find_strategy(self.options.strategy)
        targets = tuple(part.strip() for part in options.lora_targets.split(","))
        return Adaptation(
            lora_rank=options.lora_rank if strategy.lora else 0,
            lora_alpha=options.lora_alpha,
            lora_targets=targets,
            slices=options.depth,
        )

    @property
    def block_spans(self) -> BlockSpans:
        """As `SamConfig.block_spans`; of a U-Net, which stacks nothing, none."""
        return self.architecture.block_spans if self.architecture else UNetConfig.block_spans

    @property
    def compute(self) -> Compute:
        return Compute(self.options.dtype, self.options.remat)


def _options(content: dict[str, Any]) -> TrainOptions:
    paths = {"run", "cache_dir"}
    known = {field.name for field in fields(TrainOptions)}
    values = {}
    for name, value in content.items():
        if name not in known:
            raise ValueError(f"unknown option {name}")
        values[name] = Path(value) if name in paths and value is not None else value
        if isinstance(value, list):
            values[name] = tuple(value)
    return TrainOptions(**values)


def _architecture(content: dict[str, Any] | None) -> SamConfig | None:
    if content is None:
        return None
    return SamConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in content.items()})


def new_run_folder(wanted: Path | None, strategy: str) -> Path:
    """Creates the folder of a new run and points runs/latest at it.

    Raises:
        UserError: the folder holds a run already.
    """
    folder = wanted if wanted is not None else RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{strategy}"
    if (folder / CONFIG).exists():
        raise UserError(f"--run {folder}: holds a run already; continue it with --resume or name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def point_latest(folder: Path) -> None:
    """Makes runs/latest a link to `folder`."""
    RUNS.mkdir(exist_ok=True)
    link = RUNS / f".latest-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(folder, RUNS))
    link.replace(LATEST)


def find_run(folder: Path | None) -> Path:
    """The run folder meant: `folder`, or the newest run.

    Raises:
        UserError: there is none, or it holds no run.
    """
    if folder is None:
        if not LATEST.exists():
            raise UserError("no run yet: train one with train.py, or name one with --run")
        folder = LATEST.resolve()
    if not (folder / CONFIG).is_file():
        raise UserError(f"--run {folder}: no {CONFIG} there, so it is not a run folder")
    return folder


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


def what_next(folder: Path) -> str:
    """What to type after a run has ended."""
    if (folder / WEIGHTS).exists():
        return f"fine-tune from it: python train.py --strategy lora4ch --weights {folder / WEIGHTS}"
    return f"score it on its test patients: python eval.py --run {folder}"


def write_text(path: Path, text: str) -> None:
    """Writes a whole text file or none."""
    with replacing(path) as temporary:
        temporary.write_text(text)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the run for this process; the lock goes with the process, however it ends.

    Raises:
        UserError: another process trains in it.
    """
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"--run {folder}: another process is training there") from None
        yield


def build_model(config: RunConfig, base: dict[str, np.ndarray]) -> Sam | UNet:
    """The model of a run before its first step: the base weights and what the strategy adds, or a U-Net."""
    options, strategy = config.options, find_strategy(config.options.strategy)
    if strategy.family == "unet":
        return random_unet(UNetConfig(parse_channels(options.channels).count), config.compute, options.seed)
    channels = parse_channels(options.channels).count if strategy.new_patch_embedding else None
    return adapt(
        config.architecture,
        base,
        config.adaptation,
        config.compute,
        patch_channels=channels,
        patch_init=options.patch_embedding,
        seed=options.seed,
    )


Trained = dict[str, dict[str, np.ndarray]]
"""Trained parameters by stored path: the `last` ones and, where weights were averaged, their `average`."""


def final_of(trained: Trained) -> dict[str, np.ndarray]:
    """The average if there is one, else the last weights; nothing if nothing is trained."""
    return trained.get("average") or trained.get("last") or {}


def save_final(folder: Path, trained: Trained, config: RunConfig) -> None:
    """Writes final.safetensors: what was trained, by stored path, under `last/` and, if averaged, `average/`.

    Pretraining also leaves weights.safetensors in half precision, which `--weights` takes.
    """
    metadata = {
        "format": "samjax-run",
        "format_version": FORMAT_VERSION,
        "strategy": config.options.strategy,
        "channels": str(config.options.channels),
        "roi": config.options.roi,
        "prompts": ",".join(PromptMix.parse(config.options.prompt).kinds),
        "base_sha256": config.base_sha256,
        "config": config.to_json(),
    }
    _write_trained(folder / FINAL, trained, metadata)
    if find_strategy(config.options.strategy).family == "pictures":
        flat = load_base_of(config, folder).flat | final_of(trained)
        save_weights(folder / WEIGHTS, {path: _halved(path, x) for path, x in flat.items()}, config.architecture)


def _halved(path: str, x: np.ndarray) -> np.ndarray:
    """In float16, but for the frequencies of positions: these make large phases."""
    return x if path.endswith("gaussian_matrix") else x.astype(np.float16)


def _write_trained(path: Path, trained: Trained, metadata: dict[str, str]) -> None:
    write_safetensors(path, {f"{name}/{key}": x for name, flat in trained.items() for key, x in flat.items()}, metadata)


def _read_trained(path: Path) -> tuple[Trained, dict[str, str]]:
    tensors, metadata = read_safetensors(path)
    trained: Trained = {}
    for key, tensor in tensors.items():
        name, _, path_ = key.partition("/")
        trained.setdefault(name, {})[path_] = tensor
    return trained, metadata


def save_stage(folder: Path, number: int, trained: Trained) -> None:
    """Writes what the first `number` stages have trained."""
    _write_trained(folder / f"stage{number}.safetensors", trained, {"format": "samjax-stage"})


def load_stage(folder: Path, number: int) -> Trained:
    """What the first `number` stages have trained."""
    return _read_trained(folder / f"stage{number}.safetensors")[0] if number else {}


@dataclass(frozen=True)
class TrainedWeights:
    """Base and trained parameters of a run, by stored path."""

    base: dict[str, np.ndarray]
    trained: dict[str, np.ndarray]
    prompts: tuple[str, ...]
    """Kinds of prompts that the run saw."""


def load_trained(folder: Path, weights: str | None = None, average: bool = True) -> tuple[RunConfig, TrainedWeights]:
    """A finished run's configuration and weights.

    Args:
        weights: where the base weights are now; None: where they were.
        average: take the average of the weights, if the run has one, instead of the last ones.

    Raises:
        UserError: the run is not finished, or the base weights are missing or others.
    """
    config = read_config(folder)
    final = folder / FINAL
    if not final.is_file():
        raise UserError(
            f"{folder}: no {FINAL}: the run has not finished; continue it with train.py --resume --run {folder}"
        )
    trained, metadata = _read_trained(final)
    base = load_base_of(config, folder, weights).flat if config.architecture else {}
    chosen = final_of(trained) if average else trained["last"]
    return config, TrainedWeights(base, chosen, tuple(metadata["prompts"].split(",")))


def load_base_of(config: RunConfig, folder: Path, weights: str | None = None) -> Weights:
    """The base weights that the run in `folder` was trained on; UserError if they are missing or others."""
    source = weights or config.base_path
    base = load_base(source)
    if base.sha256 != config.base_sha256:
        raise UserError(
            f"{source}: sha256 {base.sha256[:12]}..., but {folder} was trained on {config.base_sha256[:12]}...; "
            "name the right base weights with --weights"
        )
    return base
