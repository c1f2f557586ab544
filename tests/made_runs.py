"""Finished runs that nobody trained: small models with noise for weights, in the folders that training leaves."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from flax import nnx

from samjax.data.splits import Split, Splits
from samjax.models.adapt import random_sam
from samjax.models.config import SamConfig
from samjax.models.flat import from_flat, to_flat
from samjax.models.sam import Sam
from samjax.options import TrainOptions
from samjax.runs.config import RunConfig
from samjax.runs.folder import CONFIG, SPLIT
from samjax.runs.model import build_model, trained_shapes
from samjax.runs.trained import load_trained, save_final
from samjax.strategies import find_strategy
from samjax.weights.base import load_weights, save_weights
from samjax.weights.export import plain_sam
from tests.training import small


def write_base(path: Path) -> Path:
    """The small SAM's base weights."""
    save_weights(path, to_flat(nnx.state(random_sam(small.CONFIG, seed=3)), small.CONFIG.block_spans), small.CONFIG)
    return path


def write_run(folder: Path, base: Path, data: Path, seed: int = 0, native: int = 32, **options: object) -> Path:
    """A run on `base` (of the U-Net, without), all of whose trained weights were shaken, so that none is idle.

    All patients of `data`, where it holds any, are in its test part.
    """
    options = TrainOptions(**({"strategy": "lora4ch", "lora_rank": 2, "image_size": 64} | options))
    strategy = find_strategy(options.strategy)
    missing = {name: value for name, value in strategy.defaults.items() if getattr(options, name) is None}
    options = replace(options, **missing)
    if strategy.family == "unet":
        options = replace(options, image_size=None)
        weights, config = {}, RunConfig(options, {"demo": str(data)}, "", "", None, native)
    else:
        weights, config_of, sha256, _ = load_weights(base)
        config = RunConfig(options, {"demo": str(data)}, str(base), sha256, config_of, native)
    rng = np.random.default_rng(seed)
    model = build_model(config, weights)
    flat = to_flat(nnx.state(model), config.block_spans)
    trained = {name: _shaken(flat[name], rng) for name in trained_shapes(config, model)}
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(config.to_json())
    patients = tuple(sorted(path.name.rsplit("-", 1)[0] for path in data.glob("BraTS-*")))
    (folder / SPLIT).write_text(json.dumps(Splits(0, None, {"demo": Split((), (), patients)}).to_json()))
    save_final(folder, {"last": trained}, config)
    return folder


def merged_run(
    place: Path, strategy: str, size: int, roi: str = "whole-tumor"
) -> tuple[Sam, dict[str, np.ndarray], SamConfig]:
    """A run of single slices at `size`: its model, and the same as a plain SAM's weights and architecture."""
    base = write_base(place / "base.safetensors")
    run = write_run(place / "run", base, place, strategy=strategy, depth=1, image_size=size, roi=roi)
    config, trained = load_trained(run)
    fine_tuned = build_model(config, trained.base)
    from_flat(fine_tuned, trained.trained)
    flat = trained.base | trained.trained
    return fine_tuned, *plain_sam(run, flat, config.architecture, config.adaptation, config.options.image_size)


def _shaken(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x + rng.normal(0, 0.1, x.shape).astype(np.float32)
