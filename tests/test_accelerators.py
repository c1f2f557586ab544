"""What must hold on an accelerator: `pytest -m gpu` (make gpu) asks it of a GPU, the whole suite of the CPU.

Tolerances are relative L2 distances from float32. TF32 rounds operands to 10 bits after the point, bfloat16 to 7.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from samjax import Predictor
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.models import attention
from samjax.models.adapt import adapt, random_sam
from samjax.models.config import Adaptation, ComputeConfig
from samjax.models.flat import to_flat
from samjax.models.rounding import in_compute_dtype
from samjax.options import TrainOptions
from samjax.runs.trained import load_trained
from samjax.strategies import STRATEGIES, trainable_filter
from samjax.training.loop import train
from samjax.training.step import initial_state, make_train_step, replicate, unreplicate
from samjax.weights.base import save_weights
from tests.training import small

CONFIG = replace(
    small.CONFIG, embed_dim=128, num_heads=2, mlp_dim=256, depth=4, global_attn_indexes=(1, 3), window_size=2,
    out_dim=64,
)  # fmt: skip
TOLERANCES = {"tf32": (3e-3, 2e-2), "bfloat16": (3e-2, 0.15)}
"""Of embeddings, and of the update of a step."""


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.slow), pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> jax.Device:
    """The device of the tests; those of another platform than JAX's are skipped."""
    found = jax.devices()[0]
    if found.platform != request.param:
        pytest.skip(f"needs a {request.param}; JAX found a {found.platform} (make gpu sets JAX_PLATFORMS=cuda,cpu)")
    return found


def distance(found: np.ndarray, reference: np.ndarray) -> float:
    found, reference = (np.asarray(x, np.float64) for x in (found, reference))
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))


def model_of(dtype: str) -> nnx.Module:
    flat = to_flat(nnx.state(random_sam(CONFIG, seed=3)), CONFIG.block_spans)
    return adapt(CONFIG, flat, Adaptation(lora_rank=2, slices=2), ComputeConfig(dtype), patch_channels=4, seed=4)


@cache
def embeddings(dtype: str) -> np.ndarray:
    model = model_of(dtype)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 2, 64, 64, 4)).astype(np.float32)
    with jax.default_matmul_precision(ComputeConfig(dtype).precision):
        return np.asarray(nnx.jit(lambda model, x: model.encode(x))(model, pictures), np.float32)


@cache
def update(dtype: str) -> tuple[float, np.ndarray]:
    """The loss and the gradient of a step on one device."""
    model = model_of(dtype)
    graphdef, trainable, frozen = nnx.split(model, trainable_filter(STRATEGIES["lora4ch"]), ...)
    transform = optax.identity()
    with jax.default_matmul_precision(ComputeConfig(dtype).precision):
        step = make_train_step(graphdef, small.scorer("point:0.5,box:0.5"), transform, seed=7)
        state = initial_state(trainable, transform)
        before = np.asarray(state.trainable.values)
        rate = np.ones(1, np.float32), np.zeros(1, bool)
        frozen = replicate(in_compute_dtype(model, frozen), 1)
        state, metrics = step(replicate(state, 1), frozen, small.on_devices(small.batch(2), 1), *rate)
    assert bool(metrics["finite"][0])
    return float(metrics["loss"][0]), before - unreplicate(state).trainable.values


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_embeddings_and_a_step_agree_with_float32(device, dtype):
    forward, backward = TOLERANCES[dtype]
    found, expected = embeddings(dtype), embeddings("float32")
    assert distance(found, expected) < forward
    (loss, gradient), (expected_loss, expected_gradient) = update(dtype), update("float32")
    assert loss == pytest.approx(expected_loss, rel=forward)
    assert distance(gradient, expected_gradient) < backward
    if device.platform == "gpu":
        assert np.any(found != expected), f"{dtype} was multiplied in float32"


def attention_inputs(side: int, batch: int, dtype: str) -> list[jax.Array]:
    keys = jax.random.split(jax.random.key(0), 5)
    shapes = [(batch, side, side, 12, 64)] * 3 + [(side, side, 64)] * 2
    arrays = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    arrays[3:] = [0.1 * x for x in arrays[3:]]
    return [x.astype(dtype) for x in arrays]


def with_gradients(function: Callable, *arrays: jax.Array) -> list[jax.Array]:
    out, pull_back = jax.vjp(function, *arrays)
    weights = jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape).astype(out.dtype)
    return [out, *pull_back(weights)]


@pytest.mark.gpu
@pytest.mark.parametrize(("side", "batch"), [(14, 25), (64, 1)])
def test_cudnn_gives_what_our_own_attention_gives(side, batch):
    device = jax.devices()[0]
    width = attention.folded_width(side, side, 64)
    if not attention.cudnn_takes(jnp.dtype(jnp.bfloat16), side**2, width, device):
        pytest.skip(f"cuDNN's attention does not take heads of {width} on {device.device_kind}")
    own = attention._all_at_once if side**2 <= attention.DENSE_TOKENS else attention._rows_by_rows
    with jax.default_matmul_precision("highest"):
        expected = jax.jit(partial(with_gradients, own))(*attention_inputs(side, batch, "float32"))
    inputs = attention_inputs(side, batch, "bfloat16")
    fused = jax.jit(partial(with_gradients, partial(attention.fused_attention, implementation="cudnn")))
    for name, found, rounded, reference in zip(
        ("out", "q", "k", "v", "rel_h", "rel_w"),
        fused(*inputs),
        jax.jit(partial(with_gradients, own))(*inputs),
        expected,
        strict=True,
    ):
        # As near to float32 as our own attention in bfloat16 is.
        assert distance(found, reference) < max(0.02, 2 * distance(rounded, reference)), name


@pytest.mark.gpu
def test_an_encoder_in_bfloat16_asks_cudnn():
    device = jax.devices()[0]
    if not attention.cudnn_takes(jnp.dtype(jnp.bfloat16), 4, attention.folded_width(2, 2, 64), device):
        pytest.skip(f"cuDNN's attention is not there on {device.device_kind}")
    graphdef, state = nnx.split(model_of("bfloat16"))
    pictures = jax.ShapeDtypeStruct((1, 2, 64, 64, 4), jnp.float32)
    encode = jax.jit(lambda state, x: nnx.merge(graphdef, state).encode(x))
    assert "fmha" in encode.lower(state, pictures).compile().as_text()


def test_a_resumed_run_ends_bitwise_as_one_that_went_on(device, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cohort(tmp_path / "small-2023", "adult", 3, options=PhantomOptions((48, 48, 8)))
    save_weights(
        tmp_path / "base.safetensors", to_flat(nnx.state(random_sam(CONFIG, seed=3)), CONFIG.block_spans), CONFIG
    )
    options = TrainOptions(
        strategy="lora4ch", data=(f"demo={tmp_path / 'small-2023'}",), weights=str(tmp_path / "base.safetensors"),
        prompt="point,box", depth=2, image_size=64, lr=1e-3, swa=False, workers=0, cache_dir=tmp_path / "cache",
    )  # fmt: skip
    train(replace(options, run=tmp_path / "whole", max_steps=6))
    train(replace(options, run=tmp_path / "resumed", max_steps=3))
    more = replace(options, run=tmp_path / "resumed", max_steps=6, resume=True, allow_changes=True)
    train(more, ("run", "resume", "allow_changes", "max_steps"))
    whole, resumed = (load_trained(tmp_path / name)[1].trained for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.gpu
def test_a_volume_is_segmented_as_on_the_cpu(tmp_path: Path):
    write_cohort(tmp_path / "small-2023", "adult", 1, options=PhantomOptions((96, 96, 24)))
    (case,) = (path for path in (tmp_path / "small-2023").iterdir() if path.is_dir())
    found = {}
    for platform in ("cpu", "cuda"):
        with jax.default_device(jax.devices(platform)[0]):
            predictor = Predictor.from_run("glioma")
            predictor.set_volume(case)
            found[platform] = predictor.segment(logits=True)
    shown = np.isfinite(found["cpu"].logits) & (np.abs(found["cpu"].logits) < 1e4)
    assert distance(found["cuda"].logits[shown], found["cpu"].logits[shown]) < 1e-3
    differing = np.mean(found["cuda"].mask != found["cpu"].mask)
    assert differing < 1e-4
