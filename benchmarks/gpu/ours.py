"""What samjax does in each row. Importing this needs jax."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.decoder import embedding_and_clicks
from benchmarks.gpu.ready import Ready
from benchmarks.gpu.rows import Row
from benchmarks.options import Setting
from benchmarks.random_weights import INPUT_SIZE, LORA_RANK, LORA_SEED, architecture, random_picture, weights_path
from benchmarks.scans import generated_cohort
from benchmarks.train_step import CHANNELS, LR, sample
from samjax.data.on_device.channels import parse_channels
from samjax.data.on_device.prompts import PromptMix
from samjax.models.adapt import adapt
from samjax.models.config import Adaptation, ComputeConfig
from samjax.models.prompt_encoder import POSITIVE, make_prompts
from samjax.models.rounding import in_compute_dtype
from samjax.models.sam import Sam
from samjax.options import TrainOptions
from samjax.strategies import STRATEGIES, trainable_filter
from samjax.training.optimizers import make_transform
from samjax.training.step import initial_state, make_train_step, per_device, replicate, shard, unreplicate
from samjax.training.tasks.objective import Objective, slice_results
from samjax.weights.base import load_weights


def prepare(row: Row, setting: Setting) -> Ready:
    """Compiles a row's work."""
    compute = ComputeConfig(row.dtype)
    jax.config.update("jax_default_matmul_precision", compute.precision)
    works = {
        "encoder": _encoder, "train_step": _train_step, "cached_step": _cached_step, "prompts": _prompts,
        "predict": _predict,
    }  # fmt: skip
    return works[row.work](row, setting, compute)


def _sam(setting: Setting, compute: ComputeConfig, adaptation: Adaptation | None = None) -> Sam:
    weights = load_weights(weights_path(setting))
    return adapt(weights.config, weights.flat, adaptation or Adaptation(), compute, seed=LORA_SEED)


def _program(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], float, int | None]:
    """The compiled function, the seconds that took, and the bytes of its plan."""
    begin = time.perf_counter()
    lowered = function.lower(*arguments) if hasattr(function, "lower") else jax.jit(function).lower(*arguments)
    program = lowered.compile()
    seconds, memory = time.perf_counter() - begin, program.memory_analysis()
    if memory is None:
        return program, seconds, None
    sizes = memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes
    return program, seconds, sum(sizes) - memory.alias_size_in_bytes


def _encoder(row: Row, setting: Setting, compute: ComputeConfig) -> Ready:
    model = _sam(setting, compute)
    graphdef, state = nnx.split(model)
    state = in_compute_dtype(model, state)
    pictures = jax.numpy.asarray(np.repeat(random_picture(setting), row.batch, axis=0))[:, None]

    def encode(state: nnx.State, pictures: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state).encode(pictures)

    program, seconds, planned = _program(encode, state, pictures)
    return Ready(
        lambda: jax.block_until_ready(program(state, pictures)), lambda x: np.asarray(x[:1, 0], np.float32), seconds,
        planned,
    )  # fmt: skip


def _prompts(row: Row, setting: Setting, compute: ComputeConfig) -> Ready:
    model = _sam(setting, compute)
    graphdef, state = nnx.split(model)
    state = in_compute_dtype(model, state)
    embedding, clicks = map(jax.numpy.asarray, embedding_and_clicks(setting))

    def decode(state: nnx.State, embedding: jax.Array, clicks: jax.Array) -> jax.Array:
        prompts = make_prompts(clicks[None], jax.numpy.full((1, len(clicks), 1), POSITIVE))
        return nnx.merge(graphdef, state).decode(embedding, prompts, multimask=True)[0][0]

    program, seconds, planned = _program(decode, state, embedding, clicks)
    return Ready(lambda: jax.block_until_ready(program(state, embedding, clicks)), np.asarray, seconds, planned)


def _train_step(row: Row, setting: Setting, compute: ComputeConfig) -> Ready:
    """The step of `benchmarks.train_step` for one slice; of several slices, lora4ch's with a sample of them."""
    size = setting.side(INPUT_SIZE)
    if row.batch == 1:
        objective = Objective("whole-tumor", parse_channels(CHANNELS), PromptMix.parse("box"), size)
        return _step(_sam(setting, compute, Adaptation(LORA_RANK)), "lora", objective, sample())
    weights = load_weights(weights_path(setting))
    adaptation = Adaptation(LORA_RANK, slices=row.batch)
    model = adapt(weights.config, weights.flat, adaptation, compute, patch_channels=4, seed=LORA_SEED)
    prompts = PromptMix.parse(STRATEGIES["lora4ch"].defaults["prompt"])
    objective = Objective("whole-tumor", parse_channels("all"), prompts, size)
    return _step(model, "lora4ch", objective, sample(1, row.batch))


def _cached_step(row: Row, setting: Setting, compute: ComputeConfig) -> Ready:
    """The `decoder` strategy's step on embeddings that were computed before."""
    config, batch = architecture(setting), sample(row.batch)
    del batch["images"]
    tokens = config.table_tokens
    shape = (row.batch, 1, tokens, tokens, config.out_dim)
    batch["embeddings"] = np.random.default_rng(5).standard_normal(shape, np.float32).astype(np.float16)
    batch["variant"] = np.zeros(row.batch, np.int32)
    objective = Objective("whole-tumor", parse_channels(CHANNELS), PromptMix.parse("box"), setting.side(INPUT_SIZE))
    return _step(_sam(setting, compute), "decoder", objective, batch)


def _step(model: Sam, strategy: str, objective: Objective, batch: dict[str, np.ndarray]) -> Ready:
    graphdef, trainable, frozen = nnx.split(model, trainable_filter(STRATEGIES[strategy]), ...)
    transform = make_transform(TrainOptions(optimizer="adam"))
    state, frozen = replicate(initial_state(trainable, transform)), replicate(in_compute_dtype(model, frozen))
    scalars = per_device(np.float32(LR), np.bool_(False))
    step = make_train_step(graphdef, partial(slice_results, objective=objective), transform, seed=0)
    _, seconds, planned = _program(step, state, frozen, shard(batch), *scalars)

    def run() -> dict[str, jax.Array]:
        nonlocal state
        state, metrics = step(state, frozen, shard(batch), *scalars)
        jax.block_until_ready((state, metrics))
        return metrics

    def answer(metrics: dict[str, jax.Array]) -> np.ndarray:
        return np.array([unreplicate(metrics["loss"]), unreplicate(metrics["grad_norm"])])

    return Ready(run, answer, seconds, planned)


def _predict(row: Row, setting: Setting, compute: ComputeConfig) -> Ready:
    """The shipped model on one generated case, from normalised slices to its label map."""
    from samjax import Predictor
    from samjax.data.cohort import list_cases
    from samjax.data.cohort import prepare as prepared

    side = 240 if setting.size is None else setting.size
    root = generated_cohort(setting, 1, (side, side, 155 if setting.size is None else 8))
    case = prepared(list_cases({"bench": root}, None, None, 1), setting.folder / "cache", workers=1)[0]
    images, _ = case.read(0, case.shape[0], max(case.shape[1:]))
    predictor = Predictor.from_run("glioma")
    begin = time.perf_counter()

    def run() -> np.ndarray:
        predictor.set_volume(images, (1.0, 1.0, 1.0))
        return predictor.segment().mask

    run()
    return Ready(run, lambda mask: np.asarray(mask, np.float32), time.perf_counter() - begin)
