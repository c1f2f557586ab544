"""What a run has trained: writing it, and reading it together with the base weights."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samjax.data.on_device.prompts import PromptMix
from samjax.errors import UserError
from samjax.runs.config import FORMAT_VERSION, RunConfig
from samjax.runs.folder import FINAL, WEIGHTS, read_config
from samjax.runs.model import load_base_of
from samjax.strategies import find_strategy
from samjax.weights.files import save_weights
from samjax.weights.safetensors_file import read_safetensors, write_safetensors

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
