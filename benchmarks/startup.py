"""What does one wait for before anything happens?

`predictor`: `from samjax import Predictor` beyond importing jax and flax.nnx, beside that import itself. `compile`: the
LoRA training step of one slice, lowered and compiled for abstract arrays. `train`: from typing `train.py` to the end of
its first step, with the small model, the phantom cohort and the caches there. The last two have no peer.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import ROOT
from benchmarks.options import Setting
from benchmarks.random_weights import INPUT_SIZE, LORA_RANK, architecture
from benchmarks.scans import generated_cohort
from benchmarks.sides import our_side
from benchmarks.work import Benchmark, Comparison, Side, Work

POLL_SECONDS = 0.005
JAX = ("jax", "jaxlib", "flax")


def predictor(setting: Setting) -> Work:
    def run() -> None:
        from samjax import Predictor  # noqa: F401

    return Work(run, once=True)


def libraries(setting: Setting) -> Work:
    def run() -> None:
        import jax  # noqa: F401

    return Work(run, once=True)


def compiling(setting: Setting) -> Work:
    from functools import partial

    import jax
    import numpy as np
    from flax import nnx

    from benchmarks.our_sam import FLOAT32
    from benchmarks.train_step import CHANNELS, sample
    from samjax.data.on_device.channels import parse_channels
    from samjax.data.on_device.prompts import PromptMix
    from samjax.models.config import Adaptation, ComputeConfig
    from samjax.models.sam import Sam
    from samjax.options import TrainOptions
    from samjax.strategies import STRATEGIES, trainable_filter
    from samjax.training.optimizers import make_transform
    from samjax.training.step import initial_state, make_train_step
    from samjax.training.tasks.objective import Objective, slice_results

    model = Sam(architecture(setting), Adaptation(lora_rank=LORA_RANK), ComputeConfig())
    graphdef, trainable, frozen = nnx.split(model, trainable_filter(STRATEGIES["lora"]), ...)
    transform = make_transform(TrainOptions(optimizer="adam"))
    state = jax.eval_shape(lambda trainable: initial_state(trainable, transform), trainable)
    objective = Objective("whole-tumor", parse_channels(CHANNELS), PromptMix.parse("box"), setting.side(INPUT_SIZE))
    step = make_train_step(graphdef, partial(slice_results, objective=objective), transform, seed=0)
    scalars = np.zeros((), np.float32), np.zeros((), np.bool_)
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), (state, frozen, sample(), *scalars)
    )

    def run() -> None:
        with jax.default_matmul_precision(FLOAT32):
            step.lower(*arguments).compile()

    return Work(run, once=True)


def write_files(setting: Setting) -> None:
    """Builds every cache that a second run finds."""
    _first_step(setting)


def train(setting: Setting) -> Work:
    return Work(lambda: _first_step(setting), once=True, own_memory=False)


def _first_step(setting: Setting) -> None:
    """Starts train.py, and ends it when its log has the row of the first step."""
    run = Path("run").absolute()
    run.mkdir()
    command = [sys.executable, str(ROOT / "train.py"), "--max-steps", "1", "--run", str(run)]
    command += ["--cache-dir", str(setting.folder / "cache"), *_small_data(setting)]
    with (run / "output.txt").open("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            while not _has_row(run / "metrics.jsonl"):
                if process.poll() is not None:
                    output.seek(0)
                    raise RuntimeError(f"train.py ended before its first step: {output.read().strip()[-300:]}")
                time.sleep(POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
    shutil.rmtree(run)


def _small_data(setting: Setting) -> list[str]:
    """The default cohort, or a small one where a small size is asked for."""
    if setting.size is None:
        return []
    return ["--data", str(generated_cohort(setting, 5, (48, 48, 8))), "--image-size", str(setting.size)]


def _has_row(log: Path) -> bool:
    return log.exists() and '"train"' in log.read_text()


BENCHMARK = Benchmark(
    {
        "predictor": Side(predictor, ("jax", "flax.nnx"), JAX),
        "libraries": Side(libraries, (), JAX),
        "compiling": our_side(compiling),
        "train": Side(train, (), JAX),
    },
    (
        Comparison("startup/predictor", "predictor", "libraries"),
        Comparison("startup/compile", "compiling", None),
        Comparison("startup/train", "train", None),
    ),
    write_files,
)
