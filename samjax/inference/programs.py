"""The compiled functions behind a predictor.

Their shapes are few, so that asking again compiles nothing: slices, windows and prompts go one by one or in full
groups, and the slots for clicks are a power of two.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from samjax.data.on_device.channels import Channels
from samjax.inference.prompts import Slots
from samjax.models.prompt_encoder import make_prompts
from samjax.models.resizing import inside, to_input, to_native

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Network:
    """A model taken apart for compiled functions, and the precision of its matrix products."""

    graphdef: nnx.GraphDef
    state: nnx.State
    precision: str


def grouped(items: Sequence[Item], size: int) -> Iterator[tuple[Sequence[Item], Sequence[Item]]]:
    """Cuts items into groups of `size`, or of one where there are fewer: each group and, filled up, what to compute."""
    step = size if len(items) >= size else 1
    for start in range(0, len(items), step):
        group = items[start : start + step]
        yield group, [*group, *[group[-1]] * (step - len(group))]


@partial(jax.jit, static_argnames=("channels", "size"))
def model_input(images: jax.Array, extent: jax.Array, *, channels: Channels | None, size: int) -> jax.Array:
    """Slices (..., N, N, C) uint8 -> (..., size, size, channels) float32, the model's input.

    Beyond the first `extent` (2,) rows and columns is padding. `channels` None takes the slices as they are.
    """
    return to_input(_shown(images, extent, channels), size)


@partial(jax.jit, static_argnames="graphdef")
def encode(graphdef: nnx.GraphDef, state: nnx.State, pictures: jax.Array, valid: jax.Array) -> tuple[jax.Array, ...]:
    """Windows (g, Z, S, S, channels) with `valid` (g, Z) -> the g windows' embeddings (Z, h, w, dim)."""
    embeddings = nnx.merge(graphdef, state).encode(pictures, valid)
    return tuple(embeddings)


@partial(jax.jit, static_argnames=("graphdef", "multimask"))
def decode(
    graphdef: nnx.GraphDef,
    state: nnx.State,
    windows: tuple[jax.Array, ...],
    index: jax.Array,
    slots: Slots,
    mask: jax.Array | None = None,
    *,
    multimask: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Answers n prompts, the i-th about slice `index[i]` of window i.

    Args:
        windows: n embeddings (Z, h, w, dim); one may stand several times.
        index: (n,) int32.
        mask: (n, 4h, 4w) logits that are part of the prompts, or None.

    Returns:
        Logits (n, M, 4h, 4w) and predicted IoU (n, M).
    """
    embeddings = jnp.stack([window[slice_] for window, slice_ in zip(windows, index, strict=True)])
    prompts = make_prompts(*(x[:, None] for x in slots))
    masks = None if mask is None else mask[:, None]
    logits, iou = nnx.merge(graphdef, state).decode(embeddings, prompts, masks=masks, multimask=multimask)
    return logits[:, 0], iou[:, 0]


@partial(jax.jit, static_argnames=("size", "native"))
def to_pixels(logits: jax.Array, *, size: int, native: int) -> jax.Array:
    """(..., size / 4, size / 4) logits -> (..., native, native) bool."""
    return to_native(logits, size, native) > 0


@partial(jax.jit, static_argnames=("graphdef", "channels"))
def classify(
    graphdef: nnx.GraphDef, state: nnx.State, images: jax.Array, extent: jax.Array, *, channels: Channels
) -> jax.Array:
    """The U-Net's canonical codes (n, N, N) uint8 of slices (n, N, N, 4) uint8 of `extent` (2,)."""
    logits = nnx.merge(graphdef, state)(_shown(images, extent, channels))
    return jnp.where(inside(extent, images.shape[1]), logits.argmax(axis=-1), 0).astype(jnp.uint8)


def _shown(images: jax.Array, extent: jax.Array, channels: Channels | None) -> jax.Array:
    # After the channels: pca2d makes something of background too.
    shown = images.astype(jnp.float32) if channels is None else channels(images)
    return jnp.where(inside(extent, images.shape[-2])[..., None], shown, 0)
