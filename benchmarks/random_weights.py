"""A SAM with random weights as a .pth in Meta's names, which Meta's code and our converter read."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.options import Setting
from samjax.models.config import PRESETS, SamConfig

INPUT_SIZE = 1024
LORA_RANK = 4
LORA_SEED = 0


def architecture(setting: Setting) -> SamConfig:
    """The preset with its position tables made for the input's size, since Meta's code knows no other."""
    return replace(PRESETS[setting.preset], image_size=setting.side(INPUT_SIZE))


def weights_path(setting: Setting) -> Path:
    """Where the weights of a setting lie."""
    return setting.folder / f"{setting.preset}-{setting.side(INPUT_SIZE)}.pth"


def write_weights(setting: Setting) -> None:
    """Draws the weights, once; the relative positions too, which a fresh model has at zero."""
    from samjax.models.initialise import initial_values
    from samjax.weights.architecture import expected_shapes
    from samjax.weights.export import save_meta

    path = weights_path(setting)
    if path.exists():
        return
    flat = initial_values(expected_shapes(architecture(setting)), seed=0)
    rng = np.random.default_rng(1)
    for name, value in flat.items():
        if "rel_pos" in name:
            flat[name] = 0.1 * rng.standard_normal(value.shape, np.float32)
    save_meta(path, flat)


def random_picture(setting: Setting) -> np.ndarray:
    """(1, size, size, 3) float32 in [0, 255]."""
    size = setting.side(INPUT_SIZE)
    return np.random.default_rng(2).uniform(0, 255, (1, size, size, 3)).astype(np.float32)
