"""Initial values drawn by path with NumPy for parameters that no weight file gives; their only source.

Most kernels have a deviation of 1 / sqrt(fan-in) (LeCun et al. 1998). Some differ, so that a SAM can be trained from
here in the time that two cores have. No program is compiled to draw them. Each value depends on the seed and its own
path alone.
"""

import re
import zlib
from collections.abc import Callable, Mapping

import numpy as np

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def _normal(deviation: Callable[[tuple[int, ...]], float]) -> Draw:
    return lambda rng, shape: rng.standard_normal(shape, np.float32) * np.float32(deviation(shape))


def _constant(value: float) -> Draw:
    return lambda rng, shape: np.full(shape, value, np.float32)


def _positions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Sines and cosines of the row, then of the column, wavelengths from 2 pi tokens on (Vaswani et al. 2017)."""
    _, height, width, dim = shape
    frequencies = 10000.0 ** -np.linspace(0, 1, dim // 4, endpoint=False)

    def waves(length: int) -> np.ndarray:
        angles = np.arange(length)[:, None] * frequencies
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    rows, columns = np.broadcast_arrays(waves(height)[:, None], waves(width)[None])
    return np.concatenate([rows, columns], axis=-1)[None].astype(np.float32)


def _wavelengths(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Frequencies of a normal distribution as SAM's, but some of them lower: where a box begins and ends is smooth."""
    return rng.standard_normal(shape, np.float32) * np.geomspace(0.08, 1, shape[1], dtype=np.float32)


def _identity(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A 3 x 3 convolution close to the identity; a random one would blur the position of each token."""
    kernel = 0.1 * rng.standard_normal(shape, np.float32) * np.float32(np.prod(shape[:-1]) ** -0.5)
    kernel[1, 1] += np.eye(*shape[2:], dtype=np.float32)
    return kernel


_RULES: tuple[tuple[str, Draw], ...] = (
    (r".*/lora/\w+/a", _normal(lambda shape: shape[0] ** -0.5)),
    (r".*/lora/\w+/b", _constant(0)),
    (r".*/(cross_slice|adapters/\w+)/up/kernel", _constant(0)),
    (r".*/output_upscaling/\d/kernel|decoder/\d+/up/kernel", _normal(lambda shape: shape[2] ** -0.5)),
    # He et al. 2015, equation 15, for the U-Net's leaky ReLU of slope 0.01.
    (
        r"(encoder|decoder)/\d+/convs/\d+/conv/kernel|heads/\d+/kernel",
        _normal(lambda shape: (2 / (1 + 0.01**2) / float(np.prod(shape[:-1]))) ** 0.5),
    ),
    # As ViT's (Dosovitskiy et al. 2021): larger weights drown the patches in what all tokens share, and a SAM that is
    # trained from here then learns to do without the picture.
    (r"image_encoder/blocks/\d+/(attn|mlp)/\w+/kernel", _normal(lambda shape: 0.02)),
    (r"image_encoder/neck/2/kernel", _identity),
    (r".*/kernel", _normal(lambda shape: float(np.prod(shape[:-1])) ** -0.5)),
    (r".*/scale", _constant(1)),
    (r".*/pos_embed", _positions),
    (r".*/positional_encoding_gaussian_matrix", _wavelengths),
    (r".*/embedding", _normal(lambda shape: 1.0)),
    (r".*/bias|.*/rel_pos_[hw]", _constant(0)),
)


def initial_values(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Float32 values for parameters given as {stored path: shape}, blocks unstacked.

    Raises KeyError for a path that no rule covers.
    """

    def draw(path: str, shape: tuple[int, ...]) -> np.ndarray:
        for pattern, rule in _RULES:
            if re.fullmatch(pattern, path):
                return rule(np.random.default_rng((seed, zlib.crc32(path.encode()))), shape)
        raise KeyError(f"no rule draws {path}")

    return {path: draw(path, shape) for path, shape in shapes.items()}
