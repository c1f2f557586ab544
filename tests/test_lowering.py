"""Programs for accelerators that are not here: each lowers for CUDA and TPU, in each dtype and with each attention."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

from samjax.data.on_device.augment import Augmentation
from samjax.data.on_device.channels import parse_channels
from samjax.data.on_device.prompts import PromptMix
from samjax.data.synthetic.head_bank import build_heads
from samjax.data.synthetic.pictures import training_pictures
from samjax.data.synthetic.windows import DrawWindow, held_out_windows
from samjax.models import attention
from samjax.models.config import PRECISIONS, Adaptation, ComputeConfig
from samjax.models.prompt_encoder import make_prompts
from samjax.models.rounding import in_compute_dtype
from samjax.models.sam import Sam
from samjax.models.unet import UNet, UNetConfig
from samjax.options import TrainOptions
from samjax.strategies import STRATEGIES, trainable_filter
from samjax.training import step as steps
from samjax.training.optimizers import make_transform
from samjax.training.tasks.generated import generated_results
from samjax.training.tasks.objective import Objective, slice_results
from samjax.training.tasks.pretrain import Pretraining, picture_results
from samjax.training.tasks.unet import ClassObjective, class_results
from tests.data.synthetic.heads import ball_head
from tests.training import small

PLATFORMS = ("cuda", "tpu")
CONFIG = replace(small.CONFIG, depth=2, decoder_depth=1, iou_head_depth=2)
ROWS = 4 * 16
"""Scores of a row of queries over a grid of 4 x 4, twice: with this limit our attention goes in chunks."""


@pytest.fixture(params=["at once", "in rows"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The form of our own attention."""
    if request.param == "in rows":
        monkeypatch.setattr(attention, "DENSE_TOKENS", 1)
        monkeypatch.setattr(attention, "CHUNK_SCORES", ROWS)
    jax.clear_caches()  # what was traced holds the other form
    return request.param


def lowered(function: object, *arguments: object, dtype: str = "float32") -> str:
    """The program for all platforms: where they differ, it asks which one it runs on."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), arguments)
    with jax.default_matmul_precision(ComputeConfig(dtype).precision):
        return export.export(jax.jit(function), platforms=PLATFORMS)(*shapes).mlir_module()


def sam(dtype: str, channels: int = 4, **adaptation: object) -> Sam:
    return Sam(replace(CONFIG, in_channels=channels), Adaptation(**adaptation), ComputeConfig(dtype))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_encoder_and_the_decoder(dtype, form):
    model = sam(dtype, slices=2)
    graphdef, state = nnx.split(model)
    pictures = jnp.zeros((1, 2, 64, 64, 4))
    encoder = lowered(lambda state, x: nnx.merge(graphdef, state).encode(x), state, pictures, dtype=dtype)
    # The scan over groups, and one in each over its spans; in rows also the chunks'.
    assert (encoder.count("stablehlo.while") > 3) == (form == "in rows")
    assert ("bf16" in encoder) == (dtype == "bfloat16")
    embeddings, clicks = jnp.zeros((2, 4, 4, CONFIG.out_dim)), jnp.zeros((2, 1, 1, 2))

    def decode(state: nnx.State, embeddings: jax.Array, clicks: jax.Array) -> tuple[jax.Array, jax.Array]:
        prompts = make_prompts(clicks, jnp.ones((2, 1, 1), jnp.int32))
        return nnx.merge(graphdef, state).decode(embeddings, prompts)

    assert lowered(decode, state, embeddings, clicks, dtype=dtype)


def of_strategy(name: str, dtype: str, folder: Path) -> tuple[nnx.Module, partial, dict[str, np.ndarray]]:
    """The small model of a strategy, its loss, and a batch."""
    strategy = STRATEGIES[name]
    options = strategy.defaults
    mix = PromptMix.parse(options["prompt"], options["box_jitter"])
    if strategy.family == "pictures":
        batch = training_pictures(2, 64, 2, seed=0, batch=2).get(0, 0)
        return sam(dtype, 3), partial(picture_results, objective=Pretraining(mix, 64, 2)), batch
    channels = parse_channels(options["channels"])
    if strategy.family == "unet":
        model = UNet(UNetConfig(in_channels=4, features=(4, 6, 6)), ComputeConfig(dtype))
        batch = {key: x[:, :1] if x.ndim > 2 or key == "slices" else x for key, x in small.batch(2).items()}
        return model, partial(class_results, objective=ClassObjective("whole-tumor", channels, Augmentation())), batch
    objective = Objective("whole-tumor", channels, mix, 64, options["clicks"], Augmentation(), modality_dropout=0.1)
    model = sam(dtype, channels.count, slices=2, lora_rank=2 if strategy.lora else 0, adapters=strategy.adapters)
    if strategy.generated:
        build_heads(folder, 1, 1, progress=False, make=ball_head)
        draw = DrawWindow(folder, (0, 0), 2, 96, seed=5, empty_share=0.3)
        return model, partial(generated_results, objective=objective), held_out_windows(draw, 2, 2).get(0, 0)
    return model, partial(slice_results, objective=objective), small.batch(2)


OFTEN = ("decoder", "lora4ch", "adapter", "unet")
"""Strategies whose steps differ most; the others are lowered by `make test-slow`."""
STEPS = [
    *(pytest.param(name, "bfloat16", marks=() if name in OFTEN else pytest.mark.slow) for name in STRATEGIES),
    ("lora4ch", "tf32"),
]


@pytest.mark.parametrize(("name", "dtype"), STEPS)
def test_every_strategys_step(name, dtype, tmp_path, monkeypatch):
    # jax.export takes no pmapped function.
    one_device = partial(jax.vmap, axis_name=steps.AXIS)
    monkeypatch.setattr(steps.jax, "pmap", lambda step, **_: one_device(step))
    model, results, batch = of_strategy(name, dtype, tmp_path)
    transform = make_transform(TrainOptions(optimizer=STRATEGIES[name].defaults["optimizer"]))
    for stage in range(len(STRATEGIES[name].stages)):
        graphdef, trainable, frozen = nnx.split(model, trainable_filter(STRATEGIES[name], stage), ...)
        state = jax.eval_shape(lambda x: steps.initial_state(x, transform), trainable)
        frozen = jax.eval_shape(partial(in_compute_dtype, model), frozen)
        arguments = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((1, *np.shape(x)), x.dtype),
            (state, frozen, batch, np.float32(0), np.bool_(0)),
        )
        step = steps.make_train_step(graphdef, results, transform, seed=0)
        program = lowered(step, *arguments, dtype=dtype)
        if STRATEGIES[name].family == "sam":
            assert all(scope in program for scope in ("augment", "encode", "decode")), "what a profile shows"


def test_an_accelerator_keeps_pictures_and_heads_together():
    """What is exported on a CPU for a GPU goes over rows alone; for a CPU, over heads."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in [(2, 64, 64, 3, 8)] * 3 + [(127, 8)] * 2]
    loops = {
        name: export.export(jax.jit(attention.grid_attention), platforms=[name])(*shapes).mlir_module()
        for name in ("cpu", *PLATFORMS)
    }
    assert loops["cpu"].count("stablehlo.while") == 2, "over heads, and over the rows of each"
    assert all(loops[name].count("stablehlo.while") == 1 for name in PLATFORMS)
    assert all("2x3x" in loops[name] for name in PLATFORMS)


def test_heads_that_cudnn_takes_are_folded(monkeypatch):
    """cuDNN itself is not here: XLA's attention stands in for it in the same place."""
    monkeypatch.setattr(attention, "cudnn_takes", lambda dtype, tokens, width, device: dtype == jnp.bfloat16)
    fused = attention.fused_attention
    monkeypatch.setattr(attention, "fused_attention", lambda *arrays, implementation: fused(*arrays, "xla"))
    jax.clear_caches()
    graphdef, state = nnx.split(sam("bfloat16", slices=2))
    pictures = jnp.zeros((1, 2, 64, 64, 4))
    program = lowered(lambda state, x: nnx.merge(graphdef, state).encode(x), state, pictures, dtype="bfloat16")
    assert f"x2x{attention.folded_width(2, 2, CONFIG.head_dim)}xbf16" in program
    jax.clear_caches()
