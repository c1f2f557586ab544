"""The compiled functions that segment slices.

They take few shapes, so that another prompt or volume compiles nothing: slices, windows and prompts go one by one or
in full groups, and the slots for clicks are a power of two. Only `model_input` and `to_pixels`, which compile quickly,
depend on the side of the native square. `devices` decides how a batch is split over several devices.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from samjax.data.on_device.channels import Channels
from samjax.inference.devices import Devices
from samjax.inference.prompts import Slots
from samjax.models.prompt_encoder import make_prompts
from samjax.models.resizing import inside, to_input, to_input_pixels, to_native

MASK_LOGIT = 10.0
"""Logit of the inside of a mask that is given as a prompt. Models learn from the logits of their own predictions."""

Item = TypeVar("Item")
States = tuple[nnx.State, ...]


def grouped(items: Sequence[Item], size: int) -> Iterator[tuple[Sequence[Item], Sequence[Item]]]:
    """Cuts items into groups of `size`, or of one if there are fewer: yields each group, and it filled up to size."""
    step = size if len(items) >= size else 1
    for start in range(0, len(items), step):
        group = items[start : start + step]
        yield group, [*group, *[group[-1]] * (step - len(group))]


@partial(jax.jit, static_argnames=("channels", "size", "devices"))
def model_input(
    images: jax.Array, extent: jax.Array, *, channels: Channels | None, size: int, devices: Devices
) -> jax.Array:
    """Slices (g, Z, N, N, C) uint8 -> (g, Z, size, size, channels) float32, the model's input.

    Rows and columns beyond `extent` (2,) are padding. With `channels` None the slices are taken as they are.
    """
    return to_input(_shown(devices.split(images), extent, channels), size)


@partial(jax.jit, static_argnames=("graphdef", "devices"))
def encode(
    graphdef: nnx.GraphDef,
    states: States,
    pictures: jax.Array,
    valid: jax.Array,
    present: jax.Array | None,
    *,
    devices: Devices,
) -> tuple[jax.Array, ...]:
    """Windows (g, Z, S, S, channels) with `valid` (g, Z) -> the g windows' embeddings (Z, h, w, dim).

    `present` (channels,) bool is False for channels of missing modalities; None: the model takes none as missing.
    """
    embeddings = nnx.merge(graphdef, *states).encode(
        devices.split(pictures), devices.split(valid), _of_each(present, pictures, devices)
    )
    return tuple(devices.gather(devices.split(embeddings)))


@partial(jax.jit, static_argnames=("graphdef", "multimask", "devices"))
def decode(
    graphdef: nnx.GraphDef,
    states: States,
    windows: tuple[jax.Array, ...],
    index: jax.Array,
    slots: Slots,
    scale: jax.Array,
    mask: jax.Array | None = None,
    has_mask: jax.Array | None = None,
    *,
    multimask: bool = False,
    devices: Devices,
) -> tuple[jax.Array, jax.Array]:
    """Segments n slices, the i-th being slice `index[i]` of window i, each by its own prompt.

    Args:
        windows: n embeddings (Z, h, w, dim); the same one may come several times.
        index: (n,) int32.
        scale: () float32 pixels of the model's input for each pixel of the slice.
        mask: (n, 4h, 4w) logits as mask prompts, or None.
        has_mask: (n,) bool, the prompts whose mask counts; None: all, if there are masks.

    Returns:
        Logits (n, M, 4h, 4w) and predicted IoU (n, M).
    """
    embeddings = jnp.stack([window[slice_] for window, slice_ in zip(windows, index, strict=True)])
    points, boxes = (to_input_pixels(x, scale) for x in (slots.points, slots.boxes))
    slots = Slots(points, slots.labels, boxes, slots.has_box)
    prompts = make_prompts(*(devices.split(x)[:, None] for x in slots))
    masks, has_masks = (None if x is None else devices.split(x)[:, None] for x in (mask, has_mask))
    network = nnx.merge(graphdef, *states)
    logits, iou = network.decode(
        devices.split(embeddings), prompts, masks=masks, has_mask=has_masks, multimask=multimask
    )
    return devices.split(logits[:, 0]), devices.split(iou[:, 0])


@partial(jax.jit, static_argnames=("size", "devices"))
def mask_logits(masks: jax.Array, *, size: int, devices: Devices) -> jax.Array:
    """Mask prompts (n, size / 4, size / 4) made of masks (n, N, N) bool: +-`MASK_LOGIT`, and less along the outline."""
    shown = to_input(devices.split(masks)[..., None], size)[..., 0]
    side = size // 4
    share = shown.reshape(-1, side, 4, side, 4).mean((2, 4))
    return devices.split(MASK_LOGIT * (2 * share - 1))


@partial(jax.jit, static_argnames=("size", "native", "devices"))
def to_pixels(logits: jax.Array, *, size: int, native: int, devices: Devices) -> jax.Array:
    """Masks (n, M, native, native) bool from logits (n, M, size / 4, size / 4)."""
    return devices.split(to_native(devices.split(logits), size, native) > 0)


@partial(jax.jit, static_argnames=("size", "native", "devices"))
def to_pixel_logits(logits: jax.Array, *, size: int, native: int, devices: Devices) -> jax.Array:
    """The logits (n, M, native, native) of which `to_pixels` gives the sign."""
    return devices.split(to_native(devices.split(logits), size, native))


@partial(jax.jit, static_argnames=("graphdef", "channels", "devices"))
def classify(
    graphdef: nnx.GraphDef,
    states: States,
    images: jax.Array,
    extent: jax.Array,
    present: jax.Array | None,
    *,
    channels: Channels,
    devices: Devices,
) -> jax.Array:
    """The U-Net's canonical codes (n, N, N) uint8 of slices (n, N, N, 4) uint8 of `extent` (2,); `present` as above."""
    pictures = _shown(devices.split(images), extent, channels)
    logits = nnx.merge(graphdef, *states)(pictures, _of_each(present, images, devices))
    return devices.split(jnp.where(inside(extent, images.shape[1]), logits.argmax(axis=-1), 0).astype(jnp.uint8))


@partial(jax.jit, static_argnames=("graphdef", "channels", "devices"))
def class_logits(
    graphdef: nnx.GraphDef,
    states: States,
    images: jax.Array,
    extent: jax.Array,
    present: jax.Array | None,
    *,
    channels: Channels,
    devices: Devices,
) -> jax.Array:
    """The logits (n, N, N, classes) float32 of which `classify` gives the largest."""
    shown = _shown(devices.split(images), extent, channels)
    return devices.split(nnx.merge(graphdef, *states)(shown, _of_each(present, images, devices)))


def _of_each(present: jax.Array | None, batch: jax.Array, devices: Devices) -> jax.Array | None:
    """The channels (C,) of a scan for each sample of a batch of it, (b, C)."""
    return None if present is None else devices.split(jnp.broadcast_to(present, (len(batch), len(present))))


def _shown(images: jax.Array, extent: jax.Array, channels: Channels | None) -> jax.Array:
    # After the channels: pca2d makes something of background too.
    shown = images.astype(jnp.float32) if channels is None else channels(images)
    return jnp.where(inside(extent, images.shape[-2])[..., None], shown, 0)
