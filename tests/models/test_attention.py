"""Attention over grids: all ways to compute it, tables of relative positions, windows."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from samjax.models import attention
from samjax.models.attention import (
    cudnn_takes,
    folded_width,
    from_windows,
    fused_attention,
    grid_attention,
    relative_table,
    to_windows,
)
from tests.models.cases import relative_error


def inputs(height: int, width: int) -> list[jax.Array]:
    """Queries, keys and values (1, height, width, 2, 4) and two tables, stored for 10 tokens."""
    random = np.random.RandomState(0)
    shapes = [(1, height, width, 2, 4)] * 3 + [(19, 4)] * 2
    return [jnp.asarray(random.standard_normal(shape).astype(np.float32)) for shape in shapes]


def formula(q: np.ndarray, k: np.ndarray, v: np.ndarray, rel_h: np.ndarray, rel_w: np.ndarray) -> np.ndarray:
    """Decomposed relative positions written out for one head (H, W, d), with the vectors R[query, key]."""
    out = np.zeros_like(v)
    for i, j in np.ndindex(q.shape[:2]):
        scores = (k @ q[i, j]) / np.sqrt(q.shape[-1])
        scores += (rel_h[i] @ q[i, j])[:, None] + (rel_w[j] @ q[i, j])[None, :]
        weights = np.exp(scores - scores.max())
        out[i, j] = np.einsum("hw,hwd->d", weights / weights.sum(), v)
    return out


def test_grid_attention_is_the_formula():
    q, k, v, table_h, table_w = inputs(3, 5)
    found = np.asarray(jax.jit(grid_attention)(q, k, v, table_h, table_w))
    rel_h, rel_w = np.asarray(relative_table(table_h, 3)), np.asarray(relative_table(table_w, 5))
    for head in range(2):
        expected = formula(*(np.asarray(x[0, :, :, head]) for x in (q, k, v)), rel_h, rel_w)
        np.testing.assert_allclose(found[0, :, :, head], expected, atol=1e-5)


def value_and_gradients(function: Callable, *arrays: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    out, pull_back = jax.vjp(function, *arrays)
    return out, pull_back(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))


# 29 x 37: above the limit; rows go one by one, since 29 is prime. 36 x 30: in several chunks of 12 rows.
@pytest.mark.parametrize(("height", "width", "chunks"), [(29, 37, 29), (36, 30, 3)])
def test_chunks_give_what_all_scores_at_once_give(monkeypatch, height, width, chunks):
    arrays = inputs(height, width)
    jaxpr = str(jax.make_jaxpr(grid_attention)(*arrays))
    assert f"length={chunks}" in jaxpr.replace(" ", "")
    out, gradients = jax.jit(partial(value_and_gradients, grid_attention))(*arrays)
    monkeypatch.setattr(attention, "DENSE_TOKENS", height * width)
    assert "scan" not in str(jax.make_jaxpr(lambda *arrays: grid_attention(*arrays))(*arrays))
    expected, expected_gradients = jax.jit(lambda *arrays: value_and_gradients(grid_attention, *arrays))(*arrays)
    assert relative_error(out, np.asarray(expected)) < 1e-5
    for found, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(found, np.asarray(reference)) < 1e-5


@pytest.mark.parametrize("rows", [1, 3, 36])
def test_an_accelerators_rows_of_all_heads_give_what_all_scores_at_once_give(monkeypatch, rows):
    q, k, v, table_h, table_w = inputs(36, 30)
    arrays = (
        *(jnp.concatenate([x, 2 * x]) for x in (q, k, v)),
        relative_table(table_h, 36),
        relative_table(table_w, 30),
    )
    monkeypatch.setattr(attention, "CHUNK_SCORES", rows * 2 * 2 * 30 * 36 * 30 + 1)

    def in_rows(*arrays: jax.Array) -> jax.Array:  # a function of its own, which is not traced yet
        return attention._rows_by_rows(*arrays)

    assert f"length={36 // rows}" in str(jax.make_jaxpr(in_rows)(*arrays)).replace(" ", "")
    out, gradients = jax.jit(partial(value_and_gradients, in_rows))(*arrays)
    expected, expected_gradients = jax.jit(partial(value_and_gradients, attention._all_at_once))(*arrays)
    assert relative_error(out, np.asarray(expected)) < 1e-5
    for found, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(found, np.asarray(reference)) < 1e-5


def test_one_attention_over_wider_heads_gives_the_same():
    """What a GPU computes by cuDNN, through the implementation for every platform."""
    q, k, v, table_h, table_w = inputs(5, 7)

    def fused(q, k, v, table_h, table_w) -> jax.Array:
        return fused_attention(q, k, v, relative_table(table_h, 5), relative_table(table_w, 7), "xla")

    out, gradients = jax.jit(partial(value_and_gradients, fused))(q, k, v, table_h, table_w)
    expected, expected_gradients = jax.jit(partial(value_and_gradients, grid_attention))(q, k, v, table_h, table_w)
    assert relative_error(out, np.asarray(expected)) < 1e-5
    for found, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(found, np.asarray(reference)) < 1e-5


def test_what_is_compiled_for_another_platform_does_not_ask_cudnn(monkeypatch):
    arrays = inputs(5, 7)
    expected, expected_gradients = jax.jit(partial(value_and_gradients, grid_attention))(*arrays)
    monkeypatch.setattr(attention, "cudnn_takes", lambda dtype, tokens, width, device: width == 4 + 5 + 7)
    monkeypatch.setattr(attention, "fused_attention", lambda q, *_, implementation: 0 * q)
    out, gradients = jax.jit(lambda *arrays: value_and_gradients(grid_attention, *arrays))(*arrays)
    np.testing.assert_array_equal(out, expected)
    for found, reference in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_array_equal(found, reference)


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "grid", "taken"),
    [
        ("gpu", "9.0", "bfloat16", 64, True),  # 64 + 64 + 64 on an H100
        ("gpu", "8.0", "bfloat16", 64, False),  # too wide for an A100,
        ("gpu", "8.0", "bfloat16", 14, True),  # whose windows fit
        ("gpu", "10.0", "bfloat16", 64, False),  # nor does Blackwell go so wide backwards,
        ("gpu", "12.0", "bfloat16", 14, True),  # in any of its kinds
        ("gpu", "9.0", "bfloat16", 15, False),  # 225 tokens
        ("gpu", "9.0", "float32", 14, False),
        ("gpu", "gfx942", "bfloat16", 14, False),
        ("cpu", "9.0", "bfloat16", 14, False),
        ("tpu", "9.0", "bfloat16", 14, False),
    ],
)
def test_cudnn_is_asked_within_its_limits_alone(platform, capability, dtype, grid, taken):
    device = SimpleNamespace(platform=platform, compute_capability=capability)
    assert cudnn_takes(jnp.zeros(1, dtype).dtype, grid**2, folded_width(grid, grid, 64), device) is taken


def test_relative_table_is_indexed_by_query_minus_key():
    table = jnp.arange(7.0)[:, None]
    found = np.asarray(relative_table(table, 4))[..., 0]
    assert found.tolist() == [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]]


@pytest.mark.parametrize("size", [2, 3, 8])
def test_relative_table_is_interpolated_between_half_pixels(size):
    table = np.random.RandomState(0).standard_normal((7, 3)).astype(np.float32)
    found = np.asarray(relative_table(jnp.asarray(table), size))
    length = 2 * size - 1
    positions = (np.arange(length) + 0.5) * 7 / length - 0.5
    for channel in range(3):
        expected = np.interp(positions, np.arange(7), table[:, channel])
        np.testing.assert_allclose(found[:, 0, channel], expected[size - 1 :], atol=1e-5)
        np.testing.assert_allclose(found[0, :, channel], expected[size - 1 :: -1], atol=1e-5)


def test_windows_are_squares_of_the_grid_and_go_back():
    grid = jnp.arange(2 * 6 * 9 * 4).reshape(2, 6, 9, 2, 2)
    windows = to_windows(grid, 3)
    assert windows.shape == (2 * 2 * 3, 3, 3, 2, 2)
    assert np.array_equal(windows[0], grid[0, :3, :3])
    assert np.array_equal(windows[2], grid[0, :3, 6:])
    assert np.array_equal(windows[3], grid[0, 3:, :3])
    assert np.array_equal(windows[11], grid[1, 3:, 6:])
    assert np.array_equal(from_windows(windows, 6, 9), grid)
