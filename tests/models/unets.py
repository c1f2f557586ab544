"""A small U-Net with random weights, and pictures for it."""

import zlib

import jax
import numpy as np

from samjax.models.config import ComputeConfig
from samjax.models.flat import flat_shapes, from_flat
from samjax.models.unet import UNet, UNetConfig

SMALL = UNetConfig(in_channels=2, features=(4, 6, 8, 8))
"""Four resolutions, of which two are supervised; sides are filled up to multiples of 8."""


def weights(config: UNetConfig = SMALL) -> dict[str, np.ndarray]:
    """Random weights by our paths: nothing is at zero or one."""
    drawn = {}
    for path, shape in flat_shapes(UNet(config)).items():
        values = np.random.RandomState(zlib.crc32(path.encode())).standard_normal(shape).astype(np.float32)
        if path.endswith("/bias"):
            drawn[path] = 0.1 * values
        elif path.endswith("/scale"):
            drawn[path] = 1 + 0.2 * values
        else:
            drawn[path] = values / np.float32(np.sqrt(np.prod(shape[:-1])))
    return drawn


def unet(compute: ComputeConfig | None = None, config: UNetConfig = SMALL) -> UNet:
    """A model with these weights."""
    model = UNet(config, compute)
    from_flat(model, weights(config))
    return model


predict = jax.jit(UNet.__call__, static_argnames="supervised")
"""`UNet.__call__`, compiled once for all tests."""


def scans(*shape: int, seed: int = 0) -> np.ndarray:
    """uint8 pictures (B, H, W, C) whose first row and column are outside the scan."""
    images = np.random.RandomState(seed).randint(1, 256, shape).astype(np.uint8)
    images[:, 0], images[:, :, 0] = 0, 0
    return images
