"""Attention across the slices of a sample: its formula, and what may influence what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from samjax.models.attention import depth_attention
from samjax.models.image_encoder import Block
from samjax.models.layers import gelu
from tests.models.cases import (
    ADAPTATION,
    adapted_weights,
    encode,
    pictures,
    relative_error,
    sam_with,
)

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model():
    """LoRA and cross-slice attention for up to 4 slices, all parameters random."""
    return sam_with(adapted_weights(), ADAPTATION)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return pictures(2, 4, 16, 16, 3)


@pytest.fixture(scope="module")
def embeddings(model, images) -> np.ndarray:
    return np.asarray(encode(model, images, np.ones((2, 4), bool)))


def test_depth_attention_is_the_formula():
    """Paper B, eq. 1, written out for one sample, location, head and slice at a time."""
    random = np.random.RandomState(0)
    q, k, v = (random.standard_normal((2, 3, 1, 2, 2, 5)).astype(np.float32) for _ in range(3))
    bias = random.standard_normal((2, 2 * 4 - 1)).astype(np.float32)  # built for 4 slices, used with 3
    valid = np.array([[True, True, True], [True, False, True]])
    found = np.asarray(depth_attention(*map(jnp.asarray, (q, k, v, bias, valid))))
    for sample, zq, column, head in np.ndindex(2, 3, 2, 2):
        scores = [
            q[sample, zq, 0, column, head] @ k[sample, zk, 0, column, head] / np.sqrt(5) + bias[head, zq - zk + 3]
            if valid[sample, zk]
            else -np.inf
            for zk in range(3)
        ]
        weights = np.exp(scores) / np.exp(scores).sum()
        expected = weights @ v[sample, :, 0, column, head]
        np.testing.assert_allclose(found[sample, zq, 0, column, head], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("j", [0, 1], ids=["windowed", "global"])
def test_block_adds_the_bottleneck_once(model, j):
    """x + Attn(h) + W2 gelu(W1 d), then the MLP; d from the same queries, keys and values, LoRA included."""
    graphdef, params = nnx.split(model.image_encoder.blocks[j])
    block = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf[0, 0], params))
    x = jnp.asarray(np.random.RandomState(j).standard_normal((1, 3, 4, 5, 24)), jnp.float32)
    qkv, attended, found = (np.asarray(value) for value in block_parts(block, x))
    q, k, v = np.moveaxis(qkv[0], 3, 0)
    scores = np.einsum("zhwnd,Zhwnd->hwnzZ", q, k) / np.sqrt(12)
    z = np.arange(3)
    scores += np.asarray(block.cross_slice.bias[...])[:, z[:, None] - z[None, :] + 3]
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    d = np.einsum("hwnzZ,Zhwnd->zhwnd", weights, v).reshape(1, 3, 4, 5, 24)
    branch, expected = block_sum(block, x, d, attended)
    assert relative_error(found, np.asarray(expected)) < TOLERANCE
    assert float(jnp.abs(branch).max()) > 0.1


@jax.jit
def block_parts(block: Block, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries, keys and values; the spatial attention; the block's output."""
    qkv = block.attn.project(block.norm1(x))
    return qkv, block.attn.spatial(qkv), block(x, None)


@jax.jit
def block_sum(block: Block, x: jax.Array, d: jax.Array, attended: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The branch and the block's output, from the attention across slices and inside them."""
    branch = block.cross_slice.up(gelu(block.cross_slice.down(block.attn.proj(d))))
    y = x + attended + branch
    return branch, y + block.mlp(block.norm2(y))


def test_slices_influence_each_other(model, images, embeddings):
    changed = images.copy()
    changed[:, 3] = pictures(2, 16, 16, 3, seed=1)
    assert relative_error(encode(model, changed, np.ones((2, 4), bool))[:, :3], embeddings[:, :3]) > 1e-2


@pytest.mark.parametrize("valid", [(True, True, True, False), (False, True, True, False)])
def test_padding_slices_do_not_influence_the_others(model, images, embeddings, valid):
    valid = np.array([valid, (True, True, True, True)])
    changed = images.copy()
    changed[~valid] = pictures((~valid).sum(), 16, 16, 3, seed=1)
    found, expected = (np.asarray(encode(model, x, valid)) for x in (changed, images))
    assert np.array_equal(found[valid], expected[valid])
    assert relative_error(expected[1], embeddings[1]) < TOLERANCE
    assert relative_error(expected[0], embeddings[0]) > 1e-2


def test_fewer_slices_are_as_many_with_padding(model, images):
    valid = np.broadcast_to([True, True, False, False], (2, 4))
    padded = np.asarray(encode(model, images, valid))
    assert relative_error(encode(model, images[:, :2]), padded[:, :2]) < TOLERANCE


def test_all_slices_are_real_without_a_mask(model, images, embeddings):
    assert relative_error(encode(model, images), embeddings) < TOLERANCE


def test_more_slices_than_built_are_refused(model):
    with pytest.raises(ValueError, match="5 slices a sample, but the model attends across 4"):
        model.encode(jnp.zeros((1, 5, 16, 16, 3)))


def test_reversed_slices_with_a_reversed_bias_give_reversed_embeddings(model, images, embeddings):
    """The bias is by signed distance: reversing only the slices must not do."""
    weights = dict(adapted_weights())
    for path, value in adapted_weights().items():
        if path.endswith("cross_slice/bias"):
            weights[path] = value[:, ::-1]
    backwards = images[:, ::-1]
    every = np.ones((2, 4), bool)
    assert relative_error(encode(sam_with(weights, ADAPTATION), backwards, every), embeddings[:, ::-1]) < TOLERANCE
    assert relative_error(encode(model, backwards, every), embeddings[:, ::-1]) > 1e-3


def test_without_bias_slices_have_no_order(images):
    weights = {
        path: np.zeros_like(value) if path.endswith("cross_slice/bias") else value
        for path, value in adapted_weights().items()
    }
    unordered = sam_with(weights, ADAPTATION)
    order = [2, 0, 3, 1]
    every = np.ones((2, 4), bool)
    found = encode(unordered, images[:, order], every)
    assert relative_error(found, np.asarray(encode(unordered, images, every))[:, order]) < TOLERANCE


def test_a_batch_is_its_samples_one_by_one(model, images, embeddings):
    for sample in (0, 1):
        one = encode(model, images[sample : sample + 1], np.ones((1, 4), bool))
        assert relative_error(one[0], embeddings[sample]) < TOLERANCE
