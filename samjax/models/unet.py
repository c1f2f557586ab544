"""The 2-D U-Net of nnU-Net v2 (its PlainConvUNet; Isensee et al. 2021), the baseline that SAM is compared with.

It sees a slice without any prompt and predicts all classes at once.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from samjax.models.config import ComputeConfig
from samjax.models.flat import BlockSpans, flat_shapes, from_flat
from samjax.models.initialise import initial_values
from samjax.models.layers import PatchDeconv, convolution, instance_norm
from samjax.models.missing import without_missing

SLOPE = 0.01
"""The slope of the leaky ReLU below zero."""


@dataclass(frozen=True)
class UNetConfig:
    """The architecture of a U-Net."""

    in_channels: int = 4
    classes: int = 4
    """The canonical codes: background, edema, non-enhancing, enhancing."""
    features: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Channels of each resolution, from full downwards, each half the side of the one before. nnU-Net's own start at
    32 and end at 512; half of that trains on a few CPU cores."""
    convs_per_stage: int = 2

    block_spans: ClassVar[BlockSpans] = ()
    """Block spans for `samjax.models.flat`; none, since no parameters are stacked."""

    @property
    def supervised(self) -> int:
        """Resolutions that have a segmentation head: all but the two lowest, as in nnU-Net's deep supervision."""
        return max(1, len(self.features) - 2)


def standardise(images: jax.Array) -> jax.Array:
    """Each picture's channels by their z-score over the pixels that are not zero, which stay zero.

    (B, H, W, C) of any real dtype -> float32. nnU-Net takes the z-score over the whole scan; here only the picture is
    known. A deviation below one grey level counts as one.
    """
    images = images.astype(jnp.float32)
    tissue = images != 0
    count = jnp.maximum(tissue.sum((1, 2), keepdims=True), 1)
    centred = jnp.where(tissue, images - images.sum((1, 2), keepdims=True) / count, 0.0)
    variance = (centred**2).sum((1, 2), keepdims=True) / count
    return centred / jnp.sqrt(jnp.maximum(variance, 1.0))


class ConvBlock(nnx.Module):
    """3x3 convolution, instance norm and leaky ReLU: (B, H, W, C) -> (B, H / stride, W / stride, D), even sides.

    As in nnU-Net the convolution has a bias, although the norm subtracts it again.
    """

    def __init__(self, in_dim: int, out_dim: int, stride: int, *, dtype: str):
        self.conv = convolution(in_dim, out_dim, 3, stride, bias=True, dtype=dtype)
        self.norm = instance_norm(out_dim, 1e-5)
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.leaky_relu(self.norm(self.conv(x)), SLOPE).astype(self.dtype)


def _conv_blocks(in_dim: int, out_dim: int, stride: int, count: int, dtype: str) -> nnx.List:
    """`count` blocks; the first has the stride."""
    return nnx.List(
        ConvBlock(out_dim if index else in_dim, out_dim, 1 if index else stride, dtype=dtype) for index in range(count)
    )


class EncoderStage(nnx.Module):
    """The convolutions of one resolution on the way down."""

    def __init__(self, config: UNetConfig, level: int, dtype: str):
        in_dim, stride = (config.features[level - 1], 2) if level else (config.in_channels, 1)
        self.convs = _conv_blocks(in_dim, config.features[level], stride, config.convs_per_stage, dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        for conv in self.convs:
            x = conv(x)
        return x


class DecoderStage(nnx.Module):
    """One resolution on the way up: from the next lower one and the encoder's output at this one (`skip`)."""

    def __init__(self, config: UNetConfig, level: int, dtype: str):
        dim, below = config.features[level : level + 2]
        self.up = PatchDeconv(below, dim, 2, dtype=dtype)
        self.convs = _conv_blocks(2 * dim, dim, 1, config.convs_per_stage, dtype)

    def __call__(self, below: jax.Array, skip: jax.Array) -> jax.Array:
        x = jnp.concatenate([self.up(below), skip], axis=-1)
        for conv in self.convs:
            x = conv(x)
        return x


class UNet(nnx.Module):
    """Encoder and decoder stages and segmentation heads, each list from full resolution downwards."""

    def __init__(self, config: UNetConfig, compute: ComputeConfig | None = None):
        compute = compute or ComputeConfig()
        dtype, levels = compute.activations, range(len(config.features))
        self.encoder = nnx.List(EncoderStage(config, level, dtype) for level in levels)
        self.decoder = nnx.List(DecoderStage(config, level, dtype) for level in levels[:-1])
        self.heads = nnx.List(
            convolution(dim, config.classes, 1, bias=True, dtype=dtype) for dim in config.features[: config.supervised]
        )
        self.config = config
        self.compute = compute

    def __call__(
        self, images: jax.Array, present: jax.Array | None = None, *, supervised: bool = False
    ) -> jax.Array | tuple[jax.Array, ...]:
        """Logits of the classes for each pixel.

        Sides that the stages do not divide are filled up with background at the right and bottom. The instance norms
        count background whoever added it, as nnU-Net's do: a margin around a picture changes its logits a little, so
        train and predict at the same size.

        Args:
            images: (B, H, W, channels) in [0, 255], 0 outside the scan; float or uint8. Normalised here.
            present: (B, channels) bool, False for channels of missing modalities; None: all are there.
            supervised: also give the lower resolutions that the loss supervises.

        Returns:
            (B, H, W, classes) float32; if `supervised`, a tuple of these for the resolutions from full downwards,
            where number i predicts every step-th pixel from step // 2 on, with step = `2 ** i`.
        """
        height, width = images.shape[1:3]
        multiple = 2 ** (len(self.config.features) - 1)
        margins = ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0))
        pictures = standardise(images)
        if present is not None:
            pictures = without_missing(pictures, present)
        x = jnp.pad(pictures, margins).astype(self.compute.activations)

        skips = []
        for stage in self.encoder:
            x = self._run(stage, x)
            skips.append(x)
        outputs = []
        for stage, skip in zip(reversed(self.decoder), reversed(skips[:-1]), strict=True):
            x = self._run(stage, x, skip)
            outputs.append(x)

        logits = []
        for level, (head, x) in enumerate(zip(self.heads, reversed(outputs), strict=False)):
            rows, columns = (len(range(2**level // 2, side, 2**level)) for side in (height, width))
            logits.append(head(x)[:, :rows, :columns].astype(jnp.float32))
            if not supervised:
                return logits[0]
        return tuple(logits)

    def _run(self, stage: EncoderStage | DecoderStage, *inputs: jax.Array) -> jax.Array:
        call = type(stage).__call__
        return (jax.checkpoint(call) if self.compute.remat else call)(stage, *inputs)


def random_unet(config: UNetConfig, compute: ComputeConfig | None = None, seed: int = 0) -> UNet:
    """A U-Net with initial parameters: He-normal kernels, as nnU-Net's."""
    model = UNet(config, compute)
    from_flat(model, initial_values(flat_shapes(model), seed))
    return model
