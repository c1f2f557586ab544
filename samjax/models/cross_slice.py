"""The cross-slice branch of an encoder block (paper B, eq. 1-2)."""

import jax
from flax import nnx

from samjax.models.layers import gelu, linear, parameter


class CrossSlice(nnx.Module):
    """The bias by slice distance, and the bottleneck that adds the attended depth features to the block.

    Taken literally, the paper's equations add x twice and change the pretrained features at the first step. Here x is
    added once, and the last layer starts at zero, so that a block starts as the pretrained one.
    Parameters: bias (heads, 2 * slices - 1), down dim -> dim / 4, up dim / 4 -> dim.
    """

    def __init__(self, dim: int, heads: int, slices: int, *, dtype: str = "float32"):
        self.bias = parameter(heads, 2 * slices - 1)
        self.down = linear(dim, dim // 4, dtype=dtype)
        self.up = linear(dim // 4, dim, dtype=dtype)

    def __call__(self, attended: jax.Array) -> jax.Array:
        """Maps depth features (..., dim), after the block's own projection, to (..., dim) to add to the block."""
        return self.up(gelu(self.down(attended)))
