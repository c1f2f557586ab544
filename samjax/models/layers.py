"""Small layers that several parts of SAM share."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, as SAM uses everywhere but in the two-way transformer.

    Through erf and in float32, as PyTorch computes it: JAX's own, through erfc, takes several times as long to
    differentiate, and in bfloat16 1 + erf would lose the negative tail.
    """
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


def resize(x: jax.Array, height: int, width: int) -> jax.Array:
    """Bilinear resize of (..., H, W, C), equal to PyTorch's `align_corners=False` without antialiasing."""
    shape = (*x.shape[:-3], height, width, x.shape[-1])
    return x if shape == x.shape else jax.image.resize(x, shape, "linear", antialias=False)


def layer_norm(dim: int, epsilon: float, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm over the last axis, with the variance computed as stably as PyTorch computes it."""
    return nnx.LayerNorm(dim, epsilon=epsilon, use_fast_variance=False, rngs=rngs)


class PatchConv(nnx.Module):
    """A convolution whose stride equals its kernel: one matrix product over non-overlapping patches.

    (..., H, W, C) -> (..., H / size, W / size, D). `kernel` has shape (size, size, C, D).
    """

    def __init__(self, in_dim: int, out_dim: int, size: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        init = nnx.initializers.lecun_normal(in_axis=(0, 1, 2), out_axis=3)
        self.kernel = nnx.Param(init(rngs.params(), (size, size, in_dim, out_dim)))
        self.bias = nnx.Param(jnp.zeros((out_dim,)))
        self.size = size
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        *batch, height, width, channels = x.shape
        size = self.size
        x = x.reshape(-1, height // size, size, width // size, size, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(*batch, height // size, width // size, size * size * channels)
        kernel = self.kernel[...].reshape(size * size * channels, -1)
        return x.astype(self.dtype) @ kernel.astype(self.dtype) + self.bias[...].astype(self.dtype)


class PatchDeconv(nnx.Module):
    """A transposed convolution whose stride equals its kernel: one matrix product and a reshape.

    (..., H, W, C) -> (..., size * H, size * W, D), with out[size*i + a, size*j + b] = x[i, j] @ kernel[a, b].
    """

    def __init__(self, in_dim: int, out_dim: int, size: int, *, dtype: str = "float32", rngs: nnx.Rngs):
        init = nnx.initializers.lecun_normal(in_axis=2, out_axis=3, batch_axis=(0, 1))
        self.kernel = nnx.Param(init(rngs.params(), (size, size, in_dim, out_dim)))
        self.bias = nnx.Param(jnp.zeros((out_dim,)))
        self.size = size
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        *batch, height, width, channels = x.shape
        size = self.size
        kernel = self.kernel[...].transpose(2, 0, 1, 3).reshape(channels, -1)
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        y = y.reshape(-1, height, width, size, size, y.shape[-1] // size**2).transpose(0, 1, 3, 2, 4, 5)
        y = y.reshape(*batch, size * height, size * width, -1)
        return y + self.bias[...].astype(self.dtype)


class Embedding(nnx.Module):
    """A table of `count` learned vectors, shape (count, dim)."""

    def __init__(self, count: int, dim: int, *, rngs: nnx.Rngs):
        self.embedding = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (count, dim)))


class ReluMlp(nnx.Module):
    """Linear layers with ReLU between them: the heads of the mask decoder."""

    def __init__(self, dims: Sequence[int], *, dtype: str = "float32", rngs: nnx.Rngs):
        self.layers = nnx.List(nnx.Linear(n_in, n_out, dtype=dtype, rngs=rngs) for n_in, n_out in pairwise(dims))

    def __call__(self, x: jax.Array) -> jax.Array:
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)
