"""Attention over a grid of tokens with SAM's decomposed relative positions.

The score of query (i, j) and key (m, n) is  scale * q.k + q.R_h[i - m] + q.R_w[j - n]  (Li et al. 2022,
"MViTv2", eq. 4), with one table for each axis. The scores of a 64 x 64 grid would take 800 MB for twelve heads:
above `DENSE_TOKENS` they are formed for some rows of queries at a time and never kept. A CPU takes one head after the
other, so that its scores lie in the cache; an accelerator takes all pictures and heads together, as it needs the work.
"""

from functools import partial

import jax
import jax.numpy as jnp

DENSE_TOKENS = 1024
"""Grids with at most this many tokens form all scores at once."""
CHUNK_TOKENS = 512
"""The approximate number of queries of a head that go through the chunked form together on a CPU."""
CHUNK_SCORES = 2**26
"""The number of scores of all pictures and heads that an accelerator forms together, or one row of queries: 256 MiB."""
FUSED_WIDTH, HOPPER_FUSED_WIDTH = 128, 256
"""The widest heads that cuDNN's attention takes, forward and backward; Hopper's (compute capability 9) are wider than
those of the GPUs before and after it (cuDNN's support matrix of scaled dot product attention)."""


def relative_table(table: jax.Array, size: int) -> jax.Array:
    """The vectors R[i - m] of every pair of positions on one axis; tables stored for another size are interpolated.

    Args:
        table: (2 * stored - 1, d).
        size: number of tokens on the axis.

    Returns:
        (size, size, d), indexed by [query, key].
    """
    length = 2 * size - 1
    if table.shape[0] != length:
        table = jax.image.resize(table, (length, table.shape[1]), "linear", antialias=False)
    offsets = jnp.arange(size)[:, None] - jnp.arange(size)[None, :] + size - 1
    return table[offsets]


def _attend_rows(q: jax.Array, k: jax.Array, v: jax.Array, rel_h: jax.Array, rel_w: jax.Array) -> jax.Array:
    """Attention of query rows q (..., r, W, d) to a whole grid k, v (..., H, W, d); rel_h is (r, H, d)."""
    *batch, rows, width, dim = q.shape
    height = k.shape[-3]
    scores = jnp.einsum(
        "...qd,...kd->...qk",
        q.reshape(*batch, rows * width, dim) * dim**-0.5,
        k.reshape(*batch, height * width, dim),
        preferred_element_type=jnp.float32,
    ).reshape(*batch, rows, width, height, width)
    scores += jnp.einsum("...rwd,rhd->...rwh", q, rel_h, preferred_element_type=jnp.float32)[..., None]
    scores += jnp.einsum("...rwd,wkd->...rwk", q, rel_w, preferred_element_type=jnp.float32)[..., None, :]
    weights = jax.nn.softmax(scores.reshape(*batch, rows * width, height * width), axis=-1).astype(v.dtype)
    out = weights @ v.reshape(*batch, height * width, dim)
    return out.reshape(*batch, rows, width, dim)


def grid_attention(q: jax.Array, k: jax.Array, v: jax.Array, table_h: jax.Array, table_w: jax.Array) -> jax.Array:
    """Attention of every token of a grid to every other.

    Args:
        q, k, v: (B, H, W, heads, d).
        table_h, table_w: relative position tables, (2 * stored - 1, d).

    Returns:
        (B, H, W, heads, d), of the dtype of `v`.
    """
    _, height, width, _, dim = q.shape
    rel_h = relative_table(table_h, height).astype(q.dtype)
    rel_w = relative_table(table_w, width).astype(q.dtype)
    dense = height * width <= DENSE_TOKENS
    forms = {"default": _all_at_once} if dense else {"cpu": _head_by_head, "default": _rows_by_rows}
    if cudnn_takes(q.dtype, height * width, folded_width(height, width, dim), jax.local_devices()[0]):
        # What is exported here for other platforms keeps to our own.
        forms["cuda"] = partial(fused_attention, implementation="cudnn")
    return jax.lax.platform_dependent(q, k, v, rel_h, rel_w, **forms)


# The three forms of our own: each computes `grid_attention` from the vectors of every pair of rows (H, H, d) and of
# columns (W, W, d).


def _all_at_once(q: jax.Array, k: jax.Array, v: jax.Array, rel_h: jax.Array, rel_w: jax.Array) -> jax.Array:
    out = _attend_rows(*_heads_first(q, k, v), rel_h, rel_w)
    return out.transpose(0, 2, 3, 1, 4)


def _head_by_head(q: jax.Array, k: jax.Array, v: jax.Array, rel_h: jax.Array, rel_w: jax.Array) -> jax.Array:
    batch, height, width, heads, dim = q.shape
    rows = _most_rows(height, CHUNK_TOKENS // width)
    rel_h = rel_h.reshape(-1, rows, height, dim)

    def one_head(qkv: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        q, k, v = qkv
        return _in_chunks(q.reshape(-1, rows, width, dim), k, v, rel_h, rel_w)

    flat = tuple(x.reshape(batch * heads, height, width, dim) for x in _heads_first(q, k, v))
    out = jax.lax.map(one_head, flat).reshape(batch, heads, height, width, dim)
    return out.transpose(0, 2, 3, 1, 4)


def _rows_by_rows(q: jax.Array, k: jax.Array, v: jax.Array, rel_h: jax.Array, rel_w: jax.Array) -> jax.Array:
    batch, height, width, heads, dim = q.shape
    rows = _most_rows(height, CHUNK_SCORES // (batch * heads * width * height * width))
    q, k, v = _heads_first(q, k, v)
    chunks = jnp.moveaxis(q.reshape(batch, heads, -1, rows, width, dim), 2, 0)
    out = _in_chunks(chunks, k, v, rel_h.reshape(-1, rows, height, dim), rel_w)
    return out.transpose(1, 0, 3, 4, 2, 5).reshape(batch, height, width, heads, dim)


def _heads_first(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Arrays (B, H, W, heads, d) as (B, heads, H, W, d)."""
    return tuple(x.transpose(0, 3, 1, 2, 4) for x in arrays)


def _most_rows(height: int, limit: int) -> int:
    """The largest number of rows up to a limit, at least one, that divides the height."""
    return next(rows for rows in range(max(1, min(limit, height)), 0, -1) if height % rows == 0)


def _in_chunks(q: jax.Array, k: jax.Array, v: jax.Array, rel_h: jax.Array, rel_w: jax.Array) -> jax.Array:
    """Attention of chunks of rows q (chunks, ..., r, W, d), with rel_h (chunks, r, H, d), to k, v (..., H, W, d)."""

    # The checkpoint is inside the loop, which keeps its recomputation apart from the forward pass on every backend.
    @partial(jax.checkpoint, prevent_cse=False)
    def one_chunk(args: tuple[jax.Array, jax.Array]) -> jax.Array:
        return _attend_rows(args[0], k, v, args[1], rel_w)

    return jax.lax.map(one_chunk, (q, rel_h))


def folded_width(height: int, width: int, dim: int) -> int:
    """The width of a head that holds the relative positions of a grid too, a multiple of 8."""
    return -(-(dim + height + width) // 8) * 8


def cudnn_takes(dtype: jnp.dtype, tokens: int, width: int, device: jax.Device) -> bool:
    """Whether cuDNN's flash attention serves an even number of tokens and heads of this width on a device.

    It is the one place that chooses, forwards and backwards alike.
    """
    if device.platform != "gpu" or dtype not in (jnp.bfloat16, jnp.float16) or tokens % 2:
        return False
    major, _, minor = str(device.compute_capability).partition(".")  # of an AMD GPU a name
    return major.isdigit() and minor.isdigit() and width <= (HOPPER_FUSED_WIDTH if major == "9" else FUSED_WIDTH)


def fused_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, rel_h: jax.Array, rel_w: jax.Array, implementation: str
) -> jax.Array:
    """Computes `grid_attention` by one plain attention over wider heads.

    A query (i, j) becomes [scale * q, q.R_h[i - m] for all rows m, q.R_w[j - n] for all columns n], a key (m, n)
    [k, one-hot of m, one-hot of n]: their product is the score with its relative positions.

    Args:
        q, k, v: (B, H, W, heads, d).
        rel_h, rel_w: (H, H, d) and (W, W, d), by query and key.
        implementation: the implementation that `jax.nn.dot_product_attention` uses.
    """
    batch, height, width, heads, dim = q.shape
    by_row = jnp.einsum("bhwnd,hkd->bhwnk", q, rel_h)
    by_column = jnp.einsum("bhwnd,wkd->bhwnk", q, rel_w)
    rows = jnp.broadcast_to(jnp.eye(height, dtype=k.dtype)[:, None, None], (batch, height, width, heads, height))
    columns = jnp.broadcast_to(jnp.eye(width, dtype=k.dtype)[:, None], (batch, height, width, heads, width))

    def folded(*parts: jax.Array) -> jax.Array:
        x = jnp.concatenate(parts, axis=-1).reshape(batch, height * width, heads, -1)
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, folded_width(height, width, dim) - x.shape[-1])))

    queries, keys = folded(q * dim**-0.5, by_row, by_column), folded(k, rows, columns)
    out = jax.nn.dot_product_attention(queries, keys, folded(v), scale=1.0, implementation=implementation)
    return out[..., :dim].reshape(v.shape)


def to_windows(x: jax.Array, size: int) -> jax.Array:
    """Cuts (B, H, W, ...) with H and W multiples of `size` into (B * windows, size, size, ...)."""
    batch, height, width, *rest = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, *rest)
    return jnp.moveaxis(x, 3, 2).reshape(-1, size, size, *rest)


def from_windows(x: jax.Array, height: int, width: int) -> jax.Array:
    """Undoes `to_windows` for a grid of height x width tokens."""
    size, rest = x.shape[1], x.shape[3:]
    x = x.reshape(-1, height // size, width // size, size, size, *rest)
    return jnp.moveaxis(x, 3, 2).reshape(-1, height, width, *rest)


def depth_attention(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array, valid: jax.Array | None) -> jax.Array:
    """Attention across the slices of a sample, separately at each location (paper B, eq. 1).

    Args:
        q, k, v: (B, Z, H, W, heads, d).
        bias: (heads, 2 * Zmax - 1), added to the score of slices zq and zk at index zq - zk + Zmax - 1.
        valid: (B, Z) bool, False for padding slices, which no slice attends to; None: all are real.

    Returns:
        (B, Z, H, W, heads, d).
    """
    slices = q.shape[1]
    centre = (bias.shape[1] - 1) // 2
    offsets = jnp.arange(slices)[:, None] - jnp.arange(slices)[None, :] + centre
    scores = jnp.einsum("bqhwnd,bkhwnd->bhwnqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    scores += bias[:, offsets][None, None, None]
    if valid is not None:
        scores = jnp.where(valid[:, None, None, None, None, :], scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("bhwnqk,bkhwnd->bqhwnd", weights, v)
