"""A picture or volume before a model: its windows are encoded when first asked for, and kept."""

from collections.abc import Sequence

import jax
import numpy as np

from samjax.data.on_device.channels import Channels
from samjax.inference.programs import Network, classify, decode, encode, grouped, model_input, to_pixels
from samjax.inference.prompts import SlicePrompt, slots_of


class EncodedVolume:
    """Slices and their embeddings.

    Attributes:
        images: (Z, rows, columns, C) uint8.
        native: side of the square that slices are padded to.
        size: side of the model's input; None of a U-Net, which takes the square as it is.
    """

    def __init__(
        self,
        network: Network,
        images: np.ndarray,
        channels: Channels | None,
        native: int,
        size: int | None,
        depth: int,
        slices: int,
    ):
        """
        Args:
            channels: what slices are shown as; None: as they are.
            depth: slices of a window.
            slices: that go through the model together where there are so many.
        """
        self.images, self.native, self.size = images, native, size
        self._network, self._channels, self._depth, self._slices = network, channels, depth, slices
        self._extent = np.int32(images.shape[1:3])
        self._embeddings: dict[int, jax.Array] = {}

    def decode(
        self, prompts: Sequence[SlicePrompt], mask: np.ndarray | None = None, multimask: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Answers n prompts at once.

        Args:
            mask: (n, h, w) logits that are part of the prompts, or None.
            multimask: three alternatives (M = 3) instead of the single mask.

        Returns:
            Logits (n, M, h, w) of a quarter of `size`, predicted IoU (n, M) and masks (n, M, rows, columns) bool.
        """
        network, rows, columns = self._network, *self.images.shape[1:3]
        slots = slots_of(prompts, self.size / self.native)
        numbers = [prompt.slice // self._depth for prompt in prompts]
        index = np.int32([prompt.slice % self._depth for prompt in prompts])
        with jax.default_matmul_precision(network.precision):
            windows = self._windows(numbers)
            logits, iou = decode(network.graphdef, network.state, windows, index, slots, mask, multimask=multimask)
            pixels = to_pixels(logits, size=self.size, native=self.native)
        logits, iou, pixels = jax.device_get((logits, iou, pixels))
        return logits, iou, pixels[..., :rows, :columns]

    def classify(self) -> np.ndarray:
        """A U-Net's canonical codes (Z, rows, columns) uint8."""
        network, rows, columns = self._network, *self.images.shape[1:3]
        found = []
        for group, filled in grouped(range(len(self.images)), self._slices):
            slices = np.concatenate([self._read(z, 1) for z in filled])
            with jax.default_matmul_precision(network.precision):
                codes = classify(network.graphdef, network.state, slices, self._extent, channels=self._channels)
            found.append(jax.device_get(codes)[: len(group), :rows, :columns])
        return np.concatenate(found)

    def encode(self, slices: Sequence[int]) -> None:
        """Makes sure of the embeddings of these slices' windows, several windows at a time."""
        missing = sorted({z // self._depth for z in slices} - self._embeddings.keys())
        with jax.default_matmul_precision(self._network.precision):
            for group, filled in grouped(missing, max(1, self._slices // self._depth)):
                self._embeddings |= zip(group, self._encoded(filled), strict=False)

    def _windows(self, numbers: Sequence[int]) -> tuple[jax.Array, ...]:
        """The embeddings (depth, h, w, dim) of these windows."""
        self.encode([number * self._depth for number in numbers])
        return tuple(self._embeddings[number] for number in numbers)

    def _encoded(self, numbers: Sequence[int]) -> tuple[jax.Array, ...]:
        starts = np.array(numbers) * self._depth
        native = np.stack([self._read(start, self._depth) for start in starts])
        valid = starts[:, None] + np.arange(self._depth) < len(self.images)
        pictures = model_input(native, self._extent, channels=self._channels, size=self.size)
        return encode(self._network.graphdef, self._network.state, pictures, valid)

    def _read(self, start: int, count: int) -> np.ndarray:
        """Slices padded to the native square with background, and beyond the end: (count, N, N, C) uint8."""
        rows, columns, channels = self.images.shape[1:]
        padded = np.zeros((count, self.native, self.native, channels), np.uint8)
        found = self.images[start : start + count]
        padded[: len(found), :rows, :columns] = found
        return padded
