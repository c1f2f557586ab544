"""A small SAM and small batches for the training tests."""

from functools import partial

import jax
import numpy as np
from flax import nnx

from samjax.data.on_device.channels import parse_channels
from samjax.data.on_device.prompts import PromptMix
from samjax.models.adapt import adapt, random_sam
from samjax.models.config import Adaptation, ComputeConfig, SamConfig
from samjax.models.flat import to_flat
from samjax.models.sam import Sam
from samjax.strategies import STRATEGIES
from samjax.training.tasks.objective import Objective, slice_results

CONFIG = SamConfig(
    embed_dim=24,
    depth=2,
    num_heads=2,
    mlp_dim=48,
    global_attn_indexes=(1,),
    window_size=2,
    image_size=64,
    out_dim=16,
    decoder_mlp_dim=24,
    iou_head_dim=16,
)
DEPTH = 2
NATIVE = 40


def lora4ch() -> Sam:
    """The small model as the lora4ch strategy adapts it."""
    base = random_sam(CONFIG, seed=3)
    flat = to_flat(nnx.state(base), CONFIG.block_spans)
    return adapt(CONFIG, flat, Adaptation(lora_rank=2, slices=DEPTH), ComputeConfig(), patch_channels=4, seed=4)


def objective(prompt: str = "box", **options: object) -> Objective:
    return Objective("whole-tumor", parse_channels("all"), PromptMix.parse(prompt), CONFIG.image_size, **options)


def scorer(prompt: str = "box", **options: object):
    return partial(slice_results, objective=objective(prompt, **options))


def batch(samples: int, seed: int = 0, empty: tuple[tuple[int, int], ...] = ()) -> dict[str, np.ndarray]:
    """Samples with one square of label each; `empty` lists the (sample, slice) that hold none."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (samples, DEPTH, NATIVE, NATIVE, 4), np.uint8)
    labels = np.zeros((samples, DEPTH, NATIVE, NATIVE), np.uint8)
    for sample in range(samples):
        for z in range(DEPTH):
            top, left, side = rng.integers(3, 15, 3)
            if (sample, z) not in empty:
                labels[sample, z, top : top + side, left : left + side] = rng.integers(1, 4)
    return {
        "images": images,
        "labels": labels,
        "extent": np.full((samples, 2), NATIVE, np.int32),
        "slices": np.ones((samples, DEPTH), bool),
        "present": np.ones((samples, 4), bool),
        "valid": np.ones(samples, bool),
        "case": np.arange(samples, dtype=np.int32),
        "start": np.full(samples, 5, np.int32),
        "identity": np.arange(samples, dtype=np.int32) + 1000,
    }


def strategy(name: str = "lora4ch"):
    return STRATEGIES[name]


def on_devices(batch: dict[str, np.ndarray], devices: int) -> dict[str, np.ndarray]:
    """A leading axis for the first `devices` devices."""
    return {name: x.reshape(devices, len(x) // devices, *x.shape[1:]) for name, x in batch.items()}


def leaves(tree: object) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(tree)]
