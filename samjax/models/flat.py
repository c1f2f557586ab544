"""Parameters by the names that files store them under.

The encoder holds its blocks stacked; files name them one by one (`image_encoder/blocks/7/...`).
"""

import re
from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx

BlockSpans = tuple[int, ...]
"""The number of blocks in each span of a group; see `SamConfig.block_spans`."""
_BLOCK = re.compile(r"image_encoder/blocks/(\d+)/(.+)")


def to_flat(state: nnx.State, spans: BlockSpans) -> dict[str, np.ndarray]:
    """A state (of a model, or a part of one) as {stored path: array}, blocks unstacked."""
    flat = {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}
    return unstack_blocks(jax.device_get(flat), spans)


def flat_shapes(model: nnx.Module, chosen: nnx.filterlib.Filter = ...) -> dict[str, tuple[int, ...]]:
    """{stored path: shape} of the `chosen` parameters (all of them) of a model, with values or without.

    Blocks are unstacked.

    The `block_spans` come from the model's `config`, here and in `from_flat`.
    """
    # A zero-stride view of each shape: unstacking then only looks at shapes.
    views = {
        "/".join(map(str, path)): np.broadcast_to(np.float32(0), leaf.shape)
        for path, leaf in nnx.to_flat_state(nnx.state(model, chosen))
    }
    return {path: view.shape for path, view in unstack_blocks(views, model.config.block_spans).items()}


def from_flat(model: nnx.Module, flat: dict[str, np.ndarray]) -> None:
    """Sets the parameters of `model` that `flat` names by stored path; the others stay as they are."""
    leaves = {"/".join(map(str, path)): (path, leaf) for path, leaf in nnx.to_flat_state(nnx.state(model))}
    updates = []
    for name, array in stack_blocks(flat, model.config.block_spans).items():
        if name not in leaves:
            raise KeyError(f"the model has no parameter {name}")
        path, leaf = leaves[name]
        if leaf.shape != array.shape:
            raise ValueError(f"{name}: shape {array.shape}, expected {leaf.shape}")
        # JAX may keep what it is given: here a view would keep a whole mapped file.
        own = array if array.flags.owndata else array.copy()
        updates.append((path, leaf.replace(jax.device_put(own))))  # `jnp.asarray` compiles a program a shape
    nnx.update(model, nnx.from_flat_state(updates))


def stack_blocks(flat: Mapping[str, np.ndarray], spans: BlockSpans) -> dict[str, np.ndarray]:
    """Makes the stacked entries that the encoder holds from stored ones, one per block.

    With the spans (2, 1), `image_encoder/blocks/7/x` becomes [2, 1] of `image_encoder/blocks/0/x`: the group from block
    6 on is number 2, and its first span has the blocks 6 and 7.
    """
    stacked: dict[str, np.ndarray] = {}
    parts: dict[str, dict[tuple[int, int], np.ndarray]] = {}
    for path, array in flat.items():
        if found := _BLOCK.fullmatch(path):
            group, place = divmod(int(found[1]), sum(spans))
            number = next(number for number in range(len(spans)) if place < sum(spans[: number + 1]))
            name = f"image_encoder/blocks/{number}/{found[2]}"
            parts.setdefault(name, {})[group, place - sum(spans[:number])] = array
        else:
            stacked[path] = array
    for path, blocks in parts.items():
        groups, length = (1 + max(place) for place in zip(*blocks, strict=True))
        first = blocks[0, 0]
        stacked[path] = np.empty((groups, length, *first.shape), first.dtype)
        for place in np.ndindex(groups, length):
            stacked[path][place] = blocks[place]
    return stacked


def unstack_blocks(stacked: Mapping[str, np.ndarray], spans: BlockSpans) -> dict[str, np.ndarray]:
    """Undoes `stack_blocks`."""
    flat: dict[str, np.ndarray] = {}
    for path, array in stacked.items():
        if found := _BLOCK.fullmatch(path):
            start = sum(spans[: int(found[1])])
            for group, place in np.ndindex(*array.shape[:2]):
                index = group * sum(spans) + start + place
                flat[f"image_encoder/blocks/{index}/{found[2]}"] = np.asarray(array)[group, place]
        else:
            flat[path] = array
    return flat
