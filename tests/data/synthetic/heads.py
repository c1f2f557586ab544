"""A head that is drawn at once: a ball of brain in a shell of bone and fat."""

import numpy as np

from samjax.data.synthetic.anatomy import HEAD_TISSUES, INSIDE

SHAPE = (90, 116, 100)
RADII = {"white": 33, "grey": 37, "csf": 39, "bone": 42, "fat": 45}


def ball_head(seed: int, number: int) -> np.ndarray:
    """A head like those of `make_head`, a little larger with each number."""
    axes = np.ogrid[tuple(slice(0, length) for length in SHAPE)]
    radius = np.sqrt(sum((axis - (length - 1) / 2) ** 2 for axis, length in zip(axes, SHAPE, strict=True)))
    radius -= number + seed
    voxels = np.zeros((*SHAPE, 2), np.uint8)
    for tissue, edge in reversed(RADII.items()):
        voxels[radius < edge, 0] = HEAD_TISSUES.index(tissue)
    voxels[..., 1] = INSIDE * (radius < RADII["csf"])
    return voxels
