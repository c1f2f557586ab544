"""Writes docs/memory.md: the memory that XLA expects each strategy's training step to need.

Nothing is allocated: the steps are compiled for abstract arrays. Run: python docs/make_memory_table.py
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from samjax.data.on_device.channels import parse_channels
from samjax.data.on_device.prompts import PromptMix
from samjax.models.config import PRESETS, Adaptation, ComputeConfig
from samjax.models.sam import Sam
from samjax.models.unet import UNet, UNetConfig
from samjax.options import TrainOptions
from samjax.strategies import STRATEGIES, trainable_filter
from samjax.training.optimizers import make_transform
from samjax.training.step import initial_state, make_train_step
from samjax.training.tasks.objective import Objective, slice_results
from samjax.training.tasks.unet import ClassObjective, class_results

NATIVE = 240
LIST = Path(__file__).parent / "memory.md"


@dataclass(frozen=True)
class Setting:
    """One row of the table: a sample of `depth` slices at `size`."""

    strategy: str
    size: int
    depth: int
    dtype: str
    remat: bool


SIZES = (256, 512, 1024)
SETTINGS = (
    *(Setting("decoder", size, 1, "float32", False) for size in SIZES),
    *(Setting("lora4ch", size, depth, "float32", False) for size in SIZES for depth in (1, 4)),
    *(Setting("lora4ch", size, 4, "float32", True) for size in SIZES),
    Setting("lora4ch", 1024, 4, "bfloat16", True),
    *(Setting("full", size, 4, "float32", True) for size in SIZES),
    Setting("unet", NATIVE, 1, "float32", False),
)


def abstract_model(setting: Setting) -> tuple[nnx.Module, partial]:
    """The model of a setting without its arrays, and the function that gives its losses."""
    strategy, compute = STRATEGIES[setting.strategy], ComputeConfig(setting.dtype, setting.remat)
    channels = parse_channels(strategy.defaults["channels"])
    if strategy.family == "unet":
        model = UNet(UNetConfig(channels.count), compute)
        return model, partial(class_results, objective=ClassObjective("whole-tumor", channels))
    config = replace(PRESETS["vit_b"], in_channels=channels.count)
    adaptation = Adaptation(lora_rank=4 if strategy.lora else 0, slices=setting.depth)
    objective = Objective("whole-tumor", channels, PromptMix.parse(strategy.defaults["prompt"]), setting.size)
    return Sam(config, adaptation, compute), partial(slice_results, objective=objective)


def batch(depth: int) -> dict[str, jax.ShapeDtypeStruct]:
    """One sample, by shapes."""
    slices = (1, 1, depth, NATIVE, NATIVE)
    shapes = {
        "images": ((*slices, 4), np.uint8), "labels": (slices, np.uint8), "extent": ((1, 1, 2), np.int32),
        "slices": ((1, 1, depth), np.bool_), "valid": ((1, 1), np.bool_), "case": ((1, 1), np.int32),
        "start": ((1, 1), np.int32), "identity": ((1, 1), np.int32),
    }  # fmt: skip
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in shapes.items()}


def needed(setting: Setting) -> dict[str, int]:
    """Bytes of a compiled step: what it is given (parameters, optimiser, batch) and what it needs in passing."""
    model, results = abstract_model(setting)
    graphdef, trainable, frozen = nnx.split(model, trainable_filter(STRATEGIES[setting.strategy]), ...)
    transform = make_transform(TrainOptions(optimizer="adam"))
    state = jax.eval_shape(lambda trainable: initial_state(trainable, transform), trainable)

    def on_device(tree: object) -> object:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *jnp.shape(x)), x.dtype), tree)

    step = make_train_step(graphdef, results, transform, seed=0)
    scalars = jax.ShapeDtypeStruct((1,), np.float32), jax.ShapeDtypeStruct((1,), np.bool_)
    memory = step.lower(on_device(state), on_device(frozen), batch(setting.depth), *scalars).compile().memory_analysis()
    return {"kept": memory.argument_size_in_bytes, "passing": memory.temp_size_in_bytes}


def main() -> None:
    lines = [
        "# Memory of a training step",
        "",
        "What XLA's own analysis (`compiled.memory_analysis()` on the CPU backend) says a step of one sample needs on",
        "each device, in GiB: what it is given (parameters, optimiser, average, batch) and what it needs in passing.",
        "A GPU's compiler plans differently, so take it as the order of magnitude there. SAM rows are ViT-B.",
        f"Slices are {NATIVE} x {NATIVE}. Made by `python docs/make_memory_table.py`.",
        "",
        "| strategy | input | slices a sample | dtype | --remat | given | in passing | together |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        found = {name: size / 2**30 for name, size in needed(setting).items()}
        cells = (
            setting.strategy, setting.size, setting.depth, setting.dtype, "yes" if setting.remat else "no",
            f"{found['kept']:.2f}", f"{found['passing']:.2f}", f"{sum(found.values()):.2f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        print(lines[-1], flush=True)
    LIST.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
