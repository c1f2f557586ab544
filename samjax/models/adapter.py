"""Adapters of an encoder block: small bottlenecks beside frozen layers (Houlsby et al. 2019).

Their places are those of Med-SA (Wu et al. 2023, arXiv:2304.12620): one after the attention, one beside the MLP. They
are not code or weights of Med-SA or SAM-Med2D (Cheng et al. 2023, arXiv:2308.16184).
"""

import jax
from flax import nnx

from samjax.models.layers import gelu, linear

SHARE = 0.25
"""Width of the bottleneck as a share of the block's, as in Med-SA and SAM-Med2D."""
MLP_SCALE = 0.5
"""Factor of the adapter beside the MLP, as in Med-SA."""


class Adapter(nnx.Module):
    """The update x -> up(gelu(down(x))) of (..., dim).

    `samjax.models.initialise` sets the last layer to zero: a block starts as the pretrained one, bit for bit.
    """

    def __init__(self, dim: int, *, dtype: str = "float32"):
        width = round(SHARE * dim)
        self.down = linear(dim, width, dtype=dtype)
        self.up = linear(width, dim, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.up(gelu(self.down(x)))
