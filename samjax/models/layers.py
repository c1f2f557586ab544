"""Small layers that several parts of the models share, and the declaration of their parameters.

A module is built without values: its parameters are shapes until `samjax.models.flat.from_flat` sets them, from a
weights file or from `samjax.models.initialise`. No values are drawn only to be replaced, and there is one source of
initial values.
"""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, as SAM uses everywhere but in the two-way transformer.

    It uses erf in float32, as PyTorch does: JAX's own uses erfc, which takes several times as long to differentiate,
    and in bfloat16 1 + erf would lose the negative tail.
    """
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


def resize(x: jax.Array, height: int, width: int) -> jax.Array:
    """Bilinear resize of (..., H, W, C), equal to PyTorch's `align_corners=False` without antialiasing."""
    shape = (*x.shape[:-3], height, width, x.shape[-1])
    return x if shape == x.shape else jax.image.resize(x, shape, "linear", antialias=False)


class _NoRngs:
    """A substitute for `nnx.Rngs` where nothing is drawn."""

    def params(self) -> None:
        return None


def _shape_alone(key: None, shape: tuple[int, ...], dtype: DTypeLike) -> jax.ShapeDtypeStruct:
    """An initialiser, as Flax's layers take one, that draws nothing."""
    return jax.ShapeDtypeStruct(shape, dtype)


_NO_RNGS = _NoRngs()
_NO_KERNEL = {"kernel_init": _shape_alone, "bias_init": _shape_alone, "rngs": _NO_RNGS}
_NO_SCALE = {"scale_init": _shape_alone, "bias_init": _shape_alone, "rngs": _NO_RNGS}


def parameter(*shape: int) -> nnx.Param:
    """A float32 parameter of this shape, without a value yet."""
    return nnx.Param(jax.ShapeDtypeStruct(shape, jnp.float32))


def linear(in_dim: int, out_dim: int, *, dtype: str = "float32") -> nnx.Linear:
    """A linear layer with a bias over the last axis; `kernel` has shape (in_dim, out_dim)."""
    return nnx.Linear(in_dim, out_dim, dtype=dtype, **_NO_KERNEL)


def convolution(in_dim: int, out_dim: int, size: int, stride: int = 1, *, bias: bool, dtype: str) -> nnx.Conv:
    """A size x size convolution of (..., H, W, in_dim), padded on both sides as PyTorch's `padding=size // 2`.

    `kernel` has shape (size, size, in_dim, out_dim).
    """
    # "SAME" would pad one side alone where the stride is 2.
    return nnx.Conv(in_dim, out_dim, (size, size), stride, padding=size // 2, use_bias=bias, dtype=dtype, **_NO_KERNEL)


def layer_norm(dim: int, epsilon: float) -> nnx.LayerNorm:
    """LayerNorm over the last axis, with the variance computed as stably as PyTorch computes it."""
    return nnx.LayerNorm(dim, epsilon=epsilon, use_fast_variance=False, **_NO_SCALE)


def instance_norm(dim: int, epsilon: float) -> nnx.InstanceNorm:
    """Norm of each channel over a picture (B, H, W, dim), with the variance computed as in `layer_norm`."""
    return nnx.InstanceNorm(dim, epsilon=epsilon, use_fast_variance=False, **_NO_SCALE)


class PatchConv(nnx.Module):
    """A convolution whose stride equals its kernel: one matrix product over non-overlapping patches.

    (..., H, W, C) -> (..., H / size, W / size, D). `kernel` has shape (size, size, C, D).
    """

    def __init__(self, in_dim: int, out_dim: int, size: int, *, dtype: str = "float32"):
        self.kernel = parameter(size, size, in_dim, out_dim)
        self.bias = parameter(out_dim)
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

    def __init__(self, in_dim: int, out_dim: int, size: int, *, dtype: str = "float32"):
        self.kernel = parameter(size, size, in_dim, out_dim)
        self.bias = parameter(out_dim)
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

    def __init__(self, count: int, dim: int):
        self.embedding = parameter(count, dim)


class ReluMlp(nnx.Module):
    """Linear layers with ReLU between them: the heads of the mask decoder."""

    def __init__(self, dims: Sequence[int], *, dtype: str = "float32"):
        self.layers = nnx.List(linear(n_in, n_out, dtype=dtype) for n_in, n_out in pairwise(dims))

    def hidden(self, x: jax.Array) -> jax.Array:
        """The input of the last layer."""
        *hidden, _ = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return x

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layers[-1](self.hidden(x))
