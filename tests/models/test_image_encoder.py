"""The encoder's stacked blocks and the ways to compute it, which must not change what is computed."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from samjax.models.config import PRESETS, ComputeConfig, SamConfig
from samjax.models.flat import stack_blocks, unstack_blocks
from samjax.models.image_encoder import ImageEncoder
from samjax.models.sam import Sam, normalise
from tests.models.cases import (
    ADAPTATION,
    MINI,
    adapted_weights,
    encode,
    encoder_stages,
    our_sam,
    our_weights,
    pictures,
    relative_error,
    sam_with,
)

SIX = replace(MINI, depth=6, global_attn_indexes=(2, 5))
"""Two groups of two windowed blocks and a global one, as in ViT-B."""


@pytest.mark.parametrize(("name", "spans"), [("vit_b", (2, 1)), ("vit_l", (5, 1)), ("vit_h", (7, 1)), ("tiny", (2, 1))])
def test_blocks_repeat_in_groups(name, spans):
    assert PRESETS[name].block_spans == spans


@pytest.mark.parametrize(
    ("depth", "indexes", "spans"),
    [
        (4, (1, 3), (1, 1)),
        (4, (), (1,)),
        (4, (0, 1, 2, 3), (1,)),
        (4, (2,), (2, 1, 1)),
        (6, (2, 5), (2, 1)),
        (6, (1, 5), (1, 1, 3, 1)),
        (6, (0, 2, 3, 5), (1, 1, 1)),
        (1, (0,), (1,)),
    ],
)
def test_spans_of_other_patterns(depth, indexes, spans):
    assert SamConfig(depth=depth, global_attn_indexes=indexes).block_spans == spans


def test_stacking_and_unstacking_are_inverse():
    flat = our_weights(SIX)
    stacked = stack_blocks(flat, SIX.block_spans)
    back = unstack_blocks(stacked, SIX.block_spans)
    assert back.keys() == flat.keys()
    assert all(np.array_equal(back[path], value) for path, value in flat.items())
    name = "attn/qkv/bias"
    assert np.array_equal(stacked[f"image_encoder/blocks/0/{name}"][1, 1], flat[f"image_encoder/blocks/4/{name}"])
    assert np.array_equal(stacked[f"image_encoder/blocks/1/{name}"][1, 0], flat[f"image_encoder/blocks/5/{name}"])
    assert np.array_equal(stacked["image_encoder/pos_embed"], flat["image_encoder/pos_embed"])
    assert {path.split("/")[2] for path in stacked if "/blocks/" in path} == {"0", "1"}


def test_stacking_does_not_depend_on_the_order():
    flat, spans = our_weights(SIX), SIX.block_spans
    backwards = stack_blocks(dict(reversed(flat.items())), spans)
    assert all(np.array_equal(backwards[path], value) for path, value in stack_blocks(flat, spans).items())


def test_intermediates_do_not_change_the_output():
    model, images = our_sam(MINI), pictures(2, 16, 16, 3)
    stages = encoder_stages(model, images)
    assert set(stages) == {"patch_embed", *(f"blocks/{index}" for index in range(4)), "neck"}
    assert relative_error(encode(model, images[:, None])[:, 0], stages["neck"]) < 1e-6


def test_blocks_run_in_order():
    """Changing one block changes its own output and the later ones alone."""
    weights, images = dict(our_weights(SIX)), pictures(2, 16, 16, 3)
    before = encoder_stages(our_sam(SIX), images)
    for index in reversed(range(6)):
        weights[f"image_encoder/blocks/{index}/mlp/lin2/bias"] = np.ones(24, np.float32)
        after = encoder_stages(sam_with(weights, config=SIX), images)
        same = {stage for stage in before if np.array_equal(before[stage], after[stage])}
        assert same == {"patch_embed", *(f"blocks/{earlier}" for earlier in range(index))}


def test_gradients_through_the_scans_are_those_of_the_blocks_one_by_one():
    encoder = sam_with(our_weights(SIX), config=SIX).image_encoder
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 1, 4, 4, 24)), jnp.float32)

    def one_by_one(x: jax.Array) -> jax.Array:
        for group in range(2):
            for blocks, span in zip(encoder.blocks, SIX.block_spans, strict=True):
                graphdef, params = nnx.split(blocks)
                for place in range(span):
                    x = nnx.merge(graphdef, jax.tree.map(lambda leaf, at=(group, place): leaf[at], params))(x, None)
        return jnp.sin(x).sum()

    def by_scans(x: jax.Array) -> jax.Array:
        return jnp.sin(encoder.run_blocks(x, None)[0]).sum()

    expected, found = jax.grad(one_by_one)(x), jax.grad(by_scans)(x)
    assert relative_error(found, np.asarray(expected)) < 1e-5
    assert float(jnp.abs(expected).max()) > 1e-3


def test_a_longer_span_is_the_same_program():
    """Its blocks are scanned: unrolled, all would be computed again at once in the backward pass."""

    def products(config: SamConfig) -> int:
        encoder = Sam(config).image_encoder
        graphdef, params = nnx.split(encoder)

        def loss(params: nnx.State, images: jax.Array) -> jax.Array:
            return nnx.merge(graphdef, params)(images).sum()

        images = jax.ShapeDtypeStruct((1, 1, 16, 16, 3), jnp.float32)
        return str(jax.make_jaxpr(jax.grad(loss))(params, images)).count("dot_general")

    short, long = (replace(MINI, depth=2 * n + 2, global_attn_indexes=(n, 2 * n + 1)) for n in (2, 5))
    assert (short.block_spans, long.block_spans) == ((2, 1), (5, 1))
    assert products(short) == products(long) > 10


def loss_and_gradient(encoder: ImageEncoder, images: jax.Array) -> tuple[tuple[jax.Array, ImageEncoder], int]:
    """Both, and the bytes that they take in passing."""

    def both(encoder: ImageEncoder, images: jax.Array) -> tuple[jax.Array, ImageEncoder]:
        return jax.value_and_grad(lambda encoder: jnp.sin(3 * encoder(images)).sum())(encoder)

    program = jax.jit(both).lower(encoder, images).compile()
    return program(encoder, images), program.memory_analysis().temp_size_in_bytes


def test_recomputation_changes_memory_and_neither_output_nor_gradient(monkeypatch):
    config = replace(MINI, depth=4, global_attn_indexes=())
    images = pictures(1, 1, 64, 64, 3) / 100
    some, none = (
        sam_with(our_weights(config), compute=ComputeConfig(remat=remat), config=config).image_encoder
        for remat in (False, True)
    )
    (loss, gradient), memory = loss_and_gradient(some, images)
    (other_loss, other_gradient), least = loss_and_gradient(none, images)
    everything = jax.checkpoint_policies.everything_saveable
    monkeypatch.setattr(jax.checkpoint_policies, "save_only_these_names", lambda *names: everything)
    (plain_loss, plain_gradient), most = loss_and_gradient(some, images)
    assert least < memory < 0.8 * most
    assert float(loss) == pytest.approx(float(plain_loss), rel=1e-5)
    assert float(other_loss) == pytest.approx(float(plain_loss), rel=1e-5)
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(plain_gradient))
    for leaves in zip(*map(jax.tree.leaves, (plain_gradient, gradient, other_gradient)), strict=True):
        for found in leaves[1:]:
            np.testing.assert_allclose(found, leaves[0], atol=1e-5 * scale)


def test_bfloat16_keeps_parameters_in_float32_and_stays_close():
    images = pictures(2, 4, 16, 16, 3)
    half = sam_with(adapted_weights(), ADAPTATION, ComputeConfig(dtype="bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype("float32")}
    for part in (half.image_encoder, half.mask_decoder):
        modules = [module for _, module in nnx.iter_modules(part) if hasattr(module, "dtype")]
        matrices = [module for module in modules if not isinstance(module, nnx.LayerNorm)]
        assert {jnp.dtype(module.dtype) for module in matrices} == {jnp.dtype("bfloat16")}
    expected = np.asarray(encode(sam_with(adapted_weights(), ADAPTATION), images))
    assert 1e-4 < relative_error(encode(half, images), expected) < 0.03


def test_another_size_interpolates_the_positions():
    """At 6 x 4 tokens, against NumPy's interpolation of the 4 x 4 that are stored."""
    config = replace(MINI, depth=1, global_attn_indexes=())
    weights = our_weights(config)
    for path in weights:
        if "patch_embed" in path or path.endswith(("proj/kernel", "proj/bias", "lin2/kernel", "lin2/bias")):
            weights[path] = np.zeros_like(weights[path])
    block = encoder_stages(sam_with(weights, config=config), pictures(1, 24, 16, 3))["blocks/0"]
    stored = weights["image_encoder/pos_embed"][0]
    rows = np.clip((np.arange(6) + 0.5) * 4 / 6 - 0.5, 0, 3)
    expected = np.apply_along_axis(partial(np.interp, rows, np.arange(4)), 0, stored)
    np.testing.assert_allclose(block[0], expected, atol=1e-5)


def test_a_model_without_values_allocates_nothing():
    model = Sam(PRESETS["vit_h"])
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(model))


def test_pictures_are_scaled_as_in_pretraining():
    grey = normalise(jnp.full((1, 2, 3), 114.495))
    np.testing.assert_allclose(
        grey[0, 0], (114.495 - np.array([123.675, 116.28, 103.53])) / [58.395, 57.12, 57.375], rtol=1e-5
    )
    four = normalise(jnp.full((1, 2, 4), 200, jnp.uint8))
    np.testing.assert_allclose(four, (200 - 114.495) / 57.630, rtol=1e-5)
    assert four.dtype == jnp.float32
