"""The trainable parameters as one vector."""

import jax
import numpy as np
from flax import nnx

from samjax.strategies import trainable_filter
from samjax.training.parameter_vector import to_vector
from tests.training import small


def trainable() -> nnx.State:
    return nnx.split(small.lora4ch(), trainable_filter(small.strategy()), ...)[1]


def test_the_tree_of_a_vector_is_the_tree_it_came_from():
    tree = trainable()
    vector = to_vector(tree)
    assert vector.values.shape == (sum(leaf.size for leaf in jax.tree.leaves(tree)),)
    assert len({leaf.shape for leaf in jax.tree.leaves(tree)}) > 5
    for back in (vector.tree(), jax.device_get(vector).tree(), jax.jit(lambda vector: vector.tree())(vector)):
        assert jax.tree.structure(back) == jax.tree.structure(tree)
        for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(tree), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_layout_names_the_arrays_in_order():
    tree = trainable()
    names = to_vector(tree).layout.names()
    assert len(names) == len(set(names)) == len(jax.tree.leaves(tree))
    assert "image_encoder/blocks/1/attn/lora/q/a" in names
    assert to_vector({"b": np.zeros(2), "a": np.ones(3)}).layout.names() == ["a", "b"]


def test_vectors_are_one_leaf_and_know_their_own_kind():
    vector = to_vector(trainable())
    assert jax.tree.structure(vector).num_leaves == 1
    doubled = jax.tree.map(lambda x: 2 * x, vector)
    assert jax.tree.structure(doubled) == jax.tree.structure(vector)
    np.testing.assert_array_equal(jax.tree.leaves(doubled.tree())[3], 2 * jax.tree.leaves(vector.tree())[3])
