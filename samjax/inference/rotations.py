"""Test-time rotations: a volume is segmented in several rotations of its slices, whose mean is the prediction.

Slices turn about their centre, in pixels, as in training (see `data.on_device.augment`); the corners that come in are
background. Images are turned, and logits turned back, with bilinear interpolation. The mean is of probabilities; a
pixel that a rotation turns out of the slice takes the mean of the other rotations.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from samjax.data.cases import MODALITIES
from samjax.data.on_device.augment import warp_linear
from samjax.errors import UserError
from samjax.inference.averaging import logits_of
from samjax.inference.encoded import SLICES, EncodedVolume
from samjax.inference.model import SegmentationModel
from samjax.inference.predictions import SlicePrediction, VolumePrediction, codes_of, from_classes, not_run, united
from samjax.inference.programs import grouped
from samjax.inference.prompts import SlicePrompt

RANGE = 20.0
"""Degrees of the largest rotation of models that were not trained by us, as in our training by default."""

Plane = tuple[int, int]
"""The number of rows and columns."""
Array = Any
"""Numbers, or arrays of NumPy or JAX."""


def evenly_spaced(count: int, largest: float, name: str) -> tuple[float, ...]:
    """The angles of `count` rotations from -`largest` to `largest` degrees, the middle one of which is 0.

    Args:
        count: an odd number.
        largest: the largest rotation that the model `name` was trained with.

    Raises:
        UserError: the number is even, or the model was trained without rotations.
    """
    if count % 2 == 0:
        raise UserError(f"--rotations {count}: expected an odd number, so that the scan as it is is one of them")
    if count > 1 and not largest:
        raise UserError(f"--rotations {count}: {name} was trained without rotations; leave --rotations out")
    return tuple(float(angle) for angle in np.linspace(-largest, largest, count)) if count > 1 else (0.0,)


def refuse_boxes(count: int, option: str) -> None:
    """Raises a `UserError` for `count` > 1 rotations together with an option that prompts with boxes."""
    if count > 1:
        raise UserError(
            f"{option}: not with --rotations {count}; a turned box is no longer tight around the region, as the boxes "
            "of training were. Give clicks, no prompts, or --rotations 1"
        )


class TurnedVolume:
    """A volume that is segmented in all rotations of its model; it takes the place of an `EncodedVolume`.

    Attributes:
        model: the model, with several angles.
        images: (Z, rows, columns, 4) uint8.
    """

    def __init__(
        self,
        model: SegmentationModel,
        images: np.ndarray,
        slices: int = SLICES,
        *,
        modalities: Collection[str] = MODALITIES,
    ):
        """Arguments and errors as those of `EncodedVolume`."""
        self.model, self.images = model, images
        self._slices, self._modalities = slices, tuple(modalities)
        self._straight = self._encoded(images)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume: slices, rows and columns."""
        return self.images.shape[:3]

    def segment(self, logits: bool = False) -> VolumePrediction:
        """Segments every slice without any prompt. `logits`: with the regions' logits."""
        if self.model.is_unet:
            classes = self.class_logits()
            return from_classes(classes, self.model.rois) if logits else not_run(codes_of(classes))
        return self.united(self.predict_slices([SlicePrompt(z) for z in range(self.shape[0])], logits), logits)

    def united(self, predictions: Iterable[SlicePrediction], logits: bool = False) -> VolumePrediction:
        """Predictions of slices as one of the volume, as `EncodedVolume.united`."""
        return united(predictions, self.shape, self.model.rois, self.model.nested, logits)

    def class_logits(self) -> np.ndarray:
        """The logarithms of a U-Net's mean class probabilities (classes, Z, rows, columns) float32, by code."""
        from scipy.special import softmax

        total, weight = 0.0, 0.0
        for angle in self.model.angles:
            classes = np.moveaxis(self._turned(angle).class_logits(), 0, -1)
            seen = seen_pixels(self.shape[1:], angle)
            total = total + softmax(turned(classes, -angle, self._slices), axis=-1) * seen[..., None]
            weight = weight + seen
        mean = np.maximum(total / weight[..., None], np.finfo(np.float32).tiny)
        return np.moveaxis(np.log(mean, dtype=np.float32), -1, 0)

    def predict_slices(self, prompts: Sequence[SlicePrompt], logits: bool = False) -> list[SlicePrediction]:
        """Segments slices, each by its own clicks or without any. `logits`: with the masks' logits.

        A rotation that turns a click out of the slice is left out for that slice.

        Raises:
            UserError: a prompt has a box or a mask.
        """
        from scipy.special import expit

        plane = self.shape[1:]
        total = np.zeros((len(prompts), len(self.model.rois), *plane), np.float32)
        weight, ious = np.zeros((len(prompts), 1, *plane), np.float32), [[] for _ in prompts]
        for angle in self.model.angles:
            moved = [turned_prompt(prompt, plane, angle) for prompt in prompts]
            kept = [number for number, prompt in enumerate(moved) if prompt is not None]
            if not kept:
                continue
            found = self._turned(angle).predict_slices([moved[number] for number in kept], logits=True)
            stacked = np.moveaxis(np.stack([one.logits for one in found]), 1, -1)
            back = np.moveaxis(turned(stacked, -angle, self._slices), -1, 1)
            seen = seen_pixels(plane, angle)
            total[kept] += expit(back) * seen
            weight[kept] += seen
            for number, one in zip(kept, found, strict=True):
                ious[number].append(one.ious)
        mean = logits_of(total / weight)
        return [
            SlicePrediction(prompt.slice, planes > 0, np.mean(iou, axis=0), planes if logits else None)
            for prompt, planes, iou in zip(prompts, mean, ious, strict=True)
        ]

    def _turned(self, angle: float) -> EncodedVolume:
        """The volume turned; its embeddings are kept no longer than it is."""
        if angle == 0:
            return self._straight
        return self._encoded(np.rint(turned(self.images, angle, self._slices)).astype(np.uint8))

    def _encoded(self, images: np.ndarray) -> EncodedVolume:
        return EncodedVolume(self.model, images, self._slices, modalities=self._modalities)


def turned(planes: np.ndarray, angle: float, slices: int = SLICES) -> np.ndarray:
    """Slices (n, rows, columns, C) turned by `angle` degrees, bilinearly and 0 from outside; float32.

    `slices` go through one call together, so that one program is compiled. Turning by `-angle` turns back.
    """
    if angle == 0:
        return planes.astype(np.float32)
    found = [_turn(planes[np.array(filled)], np.float32(angle)) for _, filled in grouped(range(len(planes)), slices)]
    return np.concatenate(jax.device_get(found))[: len(planes)]


@jax.jit
def _turn(planes: jax.Array, angle: jax.Array) -> jax.Array:
    rows, columns = planes.shape[1:3]
    index = jnp.meshgrid(jnp.arange(rows, dtype=jnp.float32), jnp.arange(columns, dtype=jnp.float32), indexing="ij")
    radians = jnp.deg2rad(angle)
    field = jnp.stack(_origin(*index, (rows, columns), jnp.cos(radians), jnp.sin(radians)))
    return jax.vmap(partial(warp_linear, field=field))(planes)


def seen_pixels(plane: Plane, angle: float) -> np.ndarray:
    """The pixels (rows, columns) of slices that are still there after turning them by `angle` degrees; bool."""
    rows, columns = plane
    index = np.meshgrid(np.arange(rows, dtype=np.float32), np.arange(columns, dtype=np.float32), indexing="ij")
    return _within(*_after(*index, plane, angle), plane)


def turned_prompt(prompt: SlicePrompt, plane: Plane, angle: float) -> SlicePrompt | None:
    """A slice's prompt where its slice is turned by `angle` degrees; None if a click is no longer in the slice.

    Raises:
        UserError: it has a box or a mask.
    """
    if prompt.box is not None or prompt.mask is not None:
        raise UserError("boxes and masks cannot be turned with the slices; use a model without rotations")
    if angle == 0:
        return prompt
    clicks = []
    for x, y, label in prompt.clicks:
        row, column = _after(y, x, plane, angle)
        if not _within(row, column, plane):
            return None
        clicks.append((float(column), float(row), label))
    return SlicePrompt(prompt.slice, tuple(clicks))


def _origin(row: Array, column: Array, plane: Plane, cos: Array, sin: Array) -> tuple[Array, Array]:
    """The place from which a turned slice takes (row, column), by the cosine and sine of its angle."""
    first, second = (plane[0] - 1) / 2, (plane[1] - 1) / 2
    dy, dx = row - first, column - second
    return first + cos * dy - sin * dx, second + sin * dy + cos * dx


def _after(row: Array, column: Array, plane: Plane, angle: float) -> tuple[Array, Array]:
    """The place to which (row, column) comes when its slice is turned by `angle` degrees."""
    radians = np.deg2rad(-angle)
    return _origin(row, column, plane, np.cos(radians), np.sin(radians))


def _within(row: Array, column: Array, plane: Plane) -> Array:
    """Whether places lie among the centres of a slice's pixels."""
    return (row >= 0) & (row <= plane[0] - 1) & (column >= 0) & (column <= plane[1] - 1)
