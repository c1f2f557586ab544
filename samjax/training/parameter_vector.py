"""The trainable parameters as one vector, so that a step's update takes a handful of kernels.

A model has about 150 small trainable arrays. Updated one by one, they took half of all kernels of a training step; as
one vector they are also one sum over the devices, and one array of a checkpoint.

`jax.flatten_util.ravel_pytree` makes the same vector, and a step compiles and runs as fast with it. But its inverse
compiles a program of its own outside a step, which takes seconds; a vector in NumPy needs only views.
"""

from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from math import prod

import jax
import jax.numpy as jnp
from flax import nnx


@dataclass(frozen=True)
class Layout:
    """Layout of a tree's arrays in its vector: the tree's structure, and the arrays' shapes in its order."""

    structure: jax.tree_util.PyTreeDef
    shapes: tuple[tuple[int, ...], ...]

    def names(self) -> list[str]:
        """The arrays' paths in the tree, in the vector's order."""
        tree = jax.tree.unflatten(self.structure, range(len(self.shapes)))
        # NNX ends each path in an attribute of its own.
        paths = (
            tuple(key for key in path if not isinstance(key, jax.tree_util.GetAttrKey))
            for path, _ in jax.tree_util.tree_leaves_with_path(tree)
        )
        return [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]


@partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["layout"])
@dataclass(frozen=True)
class ParameterVector:
    """A tree of arrays as one vector; a pytree of one leaf, which optax takes like any other.

    Attributes:
        values: (P,) float32, the arrays one after the other, in NumPy or on a device.
        layout: the structure of the tree, and the shapes of its arrays.
    """

    values: jax.Array
    layout: Layout = field(repr=False)

    def tree(self) -> nnx.State:
        """The arrays in their tree again: slices of the vector."""
        shapes = self.layout.shapes
        ends = list(accumulate(map(prod, shapes)))
        parts = (self.values[end - prod(shape) : end].reshape(shape) for end, shape in zip(ends, shapes, strict=True))
        return jax.tree.unflatten(self.layout.structure, parts)

    def traced_tree(self) -> nnx.State:
        """`tree` in a compiled function: arrays of their own in place of slices.

        Inside the vector they begin anywhere. XLA may give a slice to cuBLAS as it lies there, which fails where that
        is no multiple of 16 bytes.
        """
        return jax.lax.optimization_barrier(self.tree())


def to_vector(tree: nnx.State) -> ParameterVector:
    """The float32 arrays of a tree as one vector."""
    leaves, structure = jax.tree.flatten(tree)
    # The barrier: fused with what follows, the concatenation would be one enormous kernel.
    values = jax.lax.optimization_barrier(jnp.concatenate([leaf.reshape(-1) for leaf in leaves]))
    return ParameterVector(values, Layout(structure, tuple(leaf.shape for leaf in leaves)))
