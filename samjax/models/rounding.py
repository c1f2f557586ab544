"""Frozen parameters in the dtype in which they enter matrix products."""

from collections.abc import Iterator

import jax.numpy as jnp
from flax import nnx

MULTIPLIED = ("kernel", "bias", "a", "b")
"""The parameters of a layer with a `dtype` of its own, which are converted to it before anything is done with them."""


def in_compute_dtype(model: nnx.Module, frozen: nnx.State) -> nnx.State:
    """Parameters of `model` as its layers convert them in each step: a bfloat16 run holds the rest in float32.

    Gives what the conversion in the step would give, in half of the memory.

    Args:
        frozen: a part of the model's state that does not train.
    """
    dtypes = dict(_dtypes(model))
    pairs = [
        (path, leaf.replace(leaf[...].astype(dtypes[path]))) if path in dtypes else (path, leaf)
        for path, leaf in nnx.to_flat_state(frozen)
    ]
    return nnx.from_flat_state(pairs)


def _dtypes(model: nnx.Module) -> Iterator[tuple[tuple, jnp.dtype]]:
    """The paths of parameters that are converted, and to which dtype, where that is another than float32."""
    for path, layer in nnx.iter_modules(model):
        dtype = getattr(layer, "dtype", None)  # a norm has none: it computes in float32
        if dtype is not None and jnp.dtype(dtype) != jnp.float32:
            yield from (((*path, name), jnp.dtype(dtype)) for name in MULTIPLIED if hasattr(layer, name))
