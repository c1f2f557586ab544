"""Initial values drawn by path with NumPy, for parameters that no weight file gives.

With the mean and deviation of the modules' own initialisers (the encoder's blocks apart), but without compiling a
program to draw them: a run starts seconds earlier. Each value depends on the seed and its own path alone, whatever
else is drawn.
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


_RULES: tuple[tuple[str, Draw], ...] = (
    (r".*/lora/\w+/a", _normal(lambda shape: shape[0] ** -0.5)),
    (r".*/lora/\w+/b", _constant(0)),
    (r".*/cross_slice/up/kernel", _constant(0)),
    (r".*/output_upscaling/\d/kernel|decoder/\d+/up/kernel", _normal(lambda shape: shape[2] ** -0.5)),
    # He et al. 2015, equation 15, for the U-Net's leaky ReLU of slope 0.01.
    (
        r"(encoder|decoder)/\d+/convs/\d+/conv/kernel|heads/\d+/kernel",
        _normal(lambda shape: (2 / (1 + 0.01**2) / float(np.prod(shape[:-1]))) ** 0.5),
    ),
    # As ViT's (Dosovitskiy et al. 2021): larger weights drown the patches in what all tokens share, and a SAM that is
    # trained from here then learns to do without the picture.
    (r"image_encoder/blocks/\d+/(attn|mlp)/\w+/kernel", _normal(lambda shape: 0.02)),
    (r".*/kernel", _normal(lambda shape: float(np.prod(shape[:-1])) ** -0.5)),
    (r".*/scale", _constant(1)),
    (r".*/pos_embed", _normal(lambda shape: 0.02)),
    (r".*/embedding|.*/positional_encoding_gaussian_matrix", _normal(lambda shape: 1.0)),
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
