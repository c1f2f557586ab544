"""Attention over a grid of tokens with SAM's decomposed relative positions.

The score of query (i, j) and key (m, n) is  scale * q.k + q.R_h[i - m] + q.R_w[j - n]  (Li et al. 2022,
"MViTv2", eq. 4), with one table for each axis. The scores of a 64 x 64 grid would take 800 MB for twelve heads:
above `DENSE_TOKENS` they are formed for some rows of queries at a time and never kept.
"""

from functools import partial

import jax
import jax.numpy as jnp

DENSE_TOKENS = 1024
"""Grids with at most this many tokens form all scores at once."""
CHUNK_TOKENS = 512
"""The approximate number of queries that go through the chunked form together."""
FUSED_WIDTH = {False: 128, True: 256}
"""The widest heads that cuDNN's attention takes: before Hopper (compute capability 9.0), and from it on."""


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
    if cudnn_takes(q.dtype, folded_width(height, width, dim), jax.local_devices()[0]):
        # What is exported here for other platforms keeps to our own.
        fused = partial(fused_attention, implementation="cudnn")
        return jax.lax.platform_dependent(q, k, v, rel_h, rel_w, cuda=fused, default=_own_attention)
    return _own_attention(q, k, v, rel_h, rel_w)


def _own_attention(q: jax.Array, k: jax.Array, v: jax.Array, rel_h: jax.Array, rel_w: jax.Array) -> jax.Array:
    """Computes `grid_attention` from the vectors of every pair of rows (H, H, d) and of columns (W, W, d)."""
    batch, height, width, heads, dim = q.shape
    q, k, v = (x.transpose(0, 3, 1, 2, 4) for x in (q, k, v))
    if height * width <= DENSE_TOKENS:
        out = _attend_rows(q, k, v, rel_h, rel_w)
        return out.transpose(0, 2, 3, 1, 4)

    rows = next(r for r in range(max(1, CHUNK_TOKENS // width), 0, -1) if height % r == 0)
    chunks = height // rows
    rel_h = rel_h.reshape(chunks, rows, height, dim)

    def one_head(qkv: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        q, k, v = qkv

        # The checkpoint is inside the loop, where every backend keeps the recomputation.
        @jax.checkpoint
        def one_chunk(args: tuple[jax.Array, jax.Array]) -> jax.Array:
            return _attend_rows(args[0], k, v, args[1], rel_w)

        return jax.lax.map(one_chunk, (q.reshape(chunks, rows, width, dim), rel_h))

    flat = tuple(x.reshape(batch * heads, height, width, dim) for x in (q, k, v))
    out = jax.lax.map(one_head, flat).reshape(batch, heads, height, width, dim)
    return out.transpose(0, 2, 3, 1, 4)


def folded_width(height: int, width: int, dim: int) -> int:
    """The width of a head that holds the relative positions of a grid too, a multiple of 8."""
    return -(-(dim + height + width) // 8) * 8


def cudnn_takes(dtype: jnp.dtype, width: int, device: jax.Device) -> bool:
    """Whether cuDNN's flash attention can serve heads of this width on a device: the one place that chooses."""
    if device.platform != "gpu" or dtype not in (jnp.bfloat16, jnp.float16):
        return False
    major, _, minor = str(device.compute_capability).partition(".")  # of an AMD GPU a name
    return major.isdigit() and minor.isdigit() and width <= FUSED_WIDTH[int(major) >= 9]


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
