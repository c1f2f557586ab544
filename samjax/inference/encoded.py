"""A volume or picture with a model: its windows are encoded when they are first needed, and kept."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from samjax.data.cases import MODALITIES
from samjax.inference.model import SegmentationModel
from samjax.inference.predictions import SlicePrediction, VolumePrediction, from_classes, not_run, united
from samjax.inference.programs import (
    Item,
    class_logits,
    classify,
    decode,
    encode,
    grouped,
    mask_logits,
    model_input,
    to_pixel_logits,
    to_pixels,
)
from samjax.inference.prompts import SlicePrompt, Slots, slots_of

SLICES = 8
"""Slices that go through the model together on each device."""

ReadEmbedding = Callable[[int], np.ndarray]
"""Function from the number of a slice to its stored embedding (h, w, dim)."""


class Decoded(NamedTuple):
    """Result of n prompts, on the device: logits (n, M, h, w) at a quarter of the model's input, predicted IoU (n, M),
    and masks (n, M, N, N) bool of the padded square. M are the model's regions, the prompted one first."""

    logits: jax.Array
    iou: jax.Array
    masks: jax.Array


BEYOND = -20.0
"""The logit beyond what a scan shows, where a model sees no more than that."""

Frame = tuple[slice, slice]
"""Rows and columns."""


def whole_frame(images: np.ndarray) -> Frame:
    """All rows and columns of images (Z, rows, columns, C)."""
    return slice(0, images.shape[1]), slice(0, images.shape[2])


def frame_of(images: np.ndarray) -> Frame:
    """The rows and columns between which images (Z, rows, columns, C) show anything; all if there is nothing."""
    shown = images.any(axis=(0, 3))
    sides = [np.flatnonzero(shown.any(axis=axis)) for axis in (1, 0)]
    if not all(side.size for side in sides):
        return whole_frame(images)
    first, second = (slice(int(side[0]), int(side[-1]) + 1) for side in sides)
    return first, second


class EncodedVolume:
    """Slices, the model that segments them, and the embeddings computed so far.

    Attributes:
        model: the model that segments them.
        images: (Z, rows, columns, C) uint8.
        frame: rows and columns of the slices that the model sees: all, or what the scan shows; see `frame_of`.
        square: side in pixels of the square that these are padded to, right and below.
    """

    def __init__(
        self,
        model: SegmentationModel,
        images: np.ndarray,
        slices: int = SLICES,
        *,
        picture: bool = False,
        modalities: Sequence[str] = MODALITIES,
        stored: ReadEmbedding | None = None,
    ):
        """
        Args:
            images: the four modalities of a scan or, if `picture`, one picture of the model's own channels.
            slices: number of slices that go through the model together on each device.
            picture: whether to take the channels as they are, and the picture's own square.
            modalities: those that the scan has.
            stored: reads embeddings that were computed before, in place of encoding; for models of depth 1.

        Raises:
            UserError: the model cannot do without the modalities that the scan lacks.
        """
        self.model, self.images = model, images
        self.frame = frame_of(images) if model.cropped and not picture else whole_frame(images)
        rows, columns = self.extent
        self.square = max(rows, columns) if picture else model.square(rows, columns)
        self._channels = None if picture else model.channels
        self._present = model.present(modalities)
        self._stored = stored
        self._slices, self._windows = slices, max(1, slices // model.depth)
        self._embeddings: dict[int, jax.Array] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume: slices, rows and columns."""
        return self.images.shape[:3]

    @property
    def extent(self) -> np.ndarray:
        """Rows and columns of the frame, which are not padding, (2,) int32."""
        return np.int32([side.stop - side.start for side in self.frame])

    @property
    def corner(self) -> np.ndarray:
        """The frame's first pixel as (x, y), (2,) float32."""
        return np.float32([side.start for side in reversed(self.frame)])

    def groups(self, items: Sequence[Item]) -> Iterator[tuple[Sequence[Item], Sequence[Item]]]:
        """Cuts prompts or slices into groups that go through the decoder together, see `grouped`."""
        return grouped(items, self._slices * self.model.devices.count)

    def padded(self, planes: np.ndarray) -> np.ndarray:
        """What planes (n, rows, columns, ...) have in the frame, padded with zeros to the square: (n, N, N, ...)."""
        inside = planes[:, *self.frame]
        whole = np.zeros((len(planes), self.square, self.square, *planes.shape[3:]), planes.dtype)
        whole[:, : inside.shape[1], : inside.shape[2]] = inside
        return whole

    def unpadded(self, planes: np.ndarray) -> np.ndarray:
        """Planes (..., N, N) of the square as (..., rows, columns): beyond the frame 0, or `BEYOND` where logits."""
        rows, columns = self.extent
        inside = planes[..., :rows, :columns]
        if (rows, columns) == self.shape[1:]:
            return inside
        blank = BEYOND if planes.dtype.kind == "f" else 0
        whole = np.full((*planes.shape[:-2], *self.shape[1:]), blank, planes.dtype)
        whole[..., *self.frame] = inside
        return whole

    def segment(self, logits: bool = False) -> VolumePrediction:
        """Segments every slice without any prompt. `logits`: with the regions' logits."""
        if self.model.is_unet:
            return from_classes(self.class_logits(), self.model.rois) if logits else not_run(self.classify())
        return self.united(self.predict_slices([SlicePrompt(z) for z in range(self.shape[0])], logits), logits)

    def united(self, predictions: Iterable[SlicePrediction], logits: bool = False) -> VolumePrediction:
        """Predictions of slices as one of the volume; slices without any stay background.

        With `logits` it has the regions' logits, for which all slices must have theirs.
        """
        return united(predictions, self.shape, self.model.rois, self.model.nested, logits)

    def predict_slices(self, prompts: Sequence[SlicePrompt], logits: bool = False) -> list[SlicePrediction]:
        """Segments slices, each by its own prompt; a slice may come several times. `logits`: with the masks' logits."""
        self.encode([prompt.slice for prompt in prompts])
        groups = list(self.groups(prompts))
        found = [
            self.decode([prompt.slice for prompt in filled], self._slots_of(filled), **self._masks_of(filled))
            for _, filled in groups
        ]
        pixels = [self.pixel_logits(x) if logits else x.masks for x in found]
        predictions = []
        for (group, _), (iou, planes) in zip(
            groups, jax.device_get(list(zip((x.iou for x in found), pixels, strict=True))), strict=True
        ):
            for prompt, value, plane in zip(group, iou, planes, strict=False):
                plane = self.unpadded(plane)
                about = (plane > 0, value, plane) if logits else (plane, value)
                predictions.append(SlicePrediction(prompt.slice, *about))
        return predictions

    def _slots_of(self, prompts: Sequence[SlicePrompt]) -> Slots:
        """Prompts in slots, in pixels of the square."""
        slots = slots_of(prompts)
        return slots._replace(points=slots.points - self.corner, boxes=slots.boxes - np.tile(self.corner, 2))

    def _masks_of(self, prompts: Sequence[SlicePrompt]) -> dict[str, Any]:
        """The arguments of `decode` for the masks that prompts hold; none if no prompt holds one."""
        if all(prompt.mask is None for prompt in prompts):
            return {}
        blank = np.zeros(self.shape[1:], bool)
        masks = self.padded(np.stack([blank if prompt.mask is None else prompt.mask for prompt in prompts]))
        logits = mask_logits(masks, size=self.model.image_size, devices=self.model.devices)
        return {"mask": logits, "has_mask": np.array([prompt.mask is not None for prompt in prompts])}

    def pixel_logits(self, decoded: Decoded) -> jax.Array:
        """The logits (n, M, N, N) of decoded prompts in pixels of the padded square, whose sign the masks are."""
        model = self.model
        with jax.default_matmul_precision(model.compute.precision):
            return to_pixel_logits(decoded.logits, size=model.image_size, native=self.square, devices=model.devices)

    def decode(
        self,
        slices: Sequence[int],
        slots: Slots,
        mask: np.ndarray | jax.Array | None = None,
        multimask: bool = False,
        has_mask: np.ndarray | None = None,
    ) -> Decoded:
        """Segments n slices, the i-th by prompt i, all in one call of the decoder.

        Args:
            slots: n prompts, in pixels of the square.
            mask: (n, h, w) logits that are part of the prompts, or None.
            multimask: SAM's three alternatives (M = 3) instead of the mask of each region.
            has_mask: (n,) bool, the prompts whose mask counts; None: all, if there are masks.
        """
        model, size = self.model, self.model.image_size
        self.encode(slices)
        windows = tuple(self._embeddings[number // model.depth] for number in slices)
        index, scale = np.int32(slices) % model.depth, np.float32(size / self.square)
        with jax.default_matmul_precision(model.compute.precision):
            logits, iou = decode(
                model.graphdef, model.states, windows, index, slots, scale, mask, has_mask,
                multimask=multimask, devices=model.devices,
            )  # fmt: skip
            return Decoded(logits, iou, to_pixels(logits, size=size, native=self.square, devices=model.devices))

    def classify(self) -> np.ndarray:
        """A U-Net's canonical codes (Z, rows, columns) uint8."""
        return self._of_every_slice(classify)

    def class_logits(self) -> np.ndarray:
        """A U-Net's logits (classes, Z, rows, columns) float32, by canonical code."""
        return np.moveaxis(self._of_every_slice(class_logits), -1, 0)

    def _of_every_slice(self, program: Callable[..., jax.Array]) -> np.ndarray:
        """The result (Z, rows, columns, ...) of one of the U-Net's programs."""
        model, slices = self.model, len(self.images)
        found = []
        with jax.default_matmul_precision(model.compute.precision):
            for _, filled in self.groups(range(slices)):
                images = self.padded(self.images[filled])
                found.append(
                    program(
                        model.graphdef, model.states, images, self.extent, self._present,
                        channels=self._channels, devices=model.devices,
                    )
                )  # fmt: skip
        rows, columns = self.extent  # a U-Net sees whole slices
        return np.concatenate(jax.device_get(found))[:slices, :rows, :columns]

    def encode(self, slices: Sequence[int]) -> None:
        """Encodes those of these slices' windows that have no embeddings yet, several windows at a time."""
        missing = sorted({int(z) // self.model.depth for z in slices} - self._embeddings.keys())
        if self._stored is not None:
            for z in missing:
                self._embeddings[z] = self.model.devices.place(self._stored(z)[None].astype(np.float32))
            return
        for group, filled in grouped(missing, self._windows * self.model.devices.count):
            self._embeddings |= zip(group, self._encoded(filled), strict=False)

    @property
    def encoded_slices(self) -> int:
        """The number of slices whose embeddings are there."""
        return min(len(self._embeddings) * self.model.depth, len(self.images))

    @property
    def embedding_bytes(self) -> int:
        """The memory that the embeddings take."""
        return sum(embedding.nbytes for embedding in tuple(self._embeddings.values()))

    def nearest_unencoded(self, slice_: int) -> int | None:
        """The slice nearest to `slice_` that has no embedding yet; None if all have theirs."""
        depth = self.model.depth
        missing = [z for z in range(len(self.images)) if z // depth not in self._embeddings]
        return min(missing, key=lambda z: abs(z - slice_), default=None)

    def window(self, number: int) -> jax.Array:
        """The embeddings (depth, h, w, dim) of window `number`, which is encoded if necessary."""
        self.encode([number * self.model.depth])
        return self._embeddings[number]

    def _encoded(self, numbers: Sequence[int]) -> tuple[jax.Array, ...]:
        model = self.model
        index = np.array(numbers)[:, None] * model.depth + np.arange(model.depth)
        valid = index < len(self.images)
        native = np.stack([self.padded(self._read(start, model.depth)) for start in index[:, 0]])
        with jax.default_matmul_precision(model.compute.precision):
            pictures = model_input(
                native, self.extent, channels=self._channels, size=model.image_size, devices=model.devices
            )
            return encode(model.graphdef, model.states, pictures, valid, self._present, devices=model.devices)

    def _read(self, start: int, count: int) -> np.ndarray:
        """Slices from `start` on, (count, rows, columns, C) uint8; background beyond the end."""
        found = self.images[start : start + count]
        return np.concatenate([found, np.zeros((count - len(found), *found.shape[1:]), np.uint8)])
