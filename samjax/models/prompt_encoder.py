"""SAM's prompt encoder: clicks, boxes and masks to tokens and a dense map.

Prompts have static shapes: every prompt has the same number of slots, and the label of a slot tells its content.
SAM appends one "not a point" token where there are clicks and no box. Surplus tokens change the masks, so a slot that
holds nothing is `EMPTY` and is masked out of every attention of the decoder.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from samjax.models.config import SamConfig
from samjax.models.layers import Embedding, PatchConv, gelu, layer_norm

EMPTY = -2
NOT_A_POINT = -1
NEGATIVE = 0
POSITIVE = 1
BOX_FIRST = 2
BOX_SECOND = 3


class Prompts(NamedTuple):
    """P prompts for each of B pictures, with N slots each.

    Attributes:
        coords: (B, P, N, 2) float32, (x, y) in pixels of the encoder's input; integers mean pixel centres, as in
            Meta's predictor.
        labels: (B, P, N) int32, one of EMPTY, NOT_A_POINT, NEGATIVE, POSITIVE, BOX_FIRST, BOX_SECOND.
    """

    coords: jax.Array
    labels: jax.Array


def make_prompts(
    points: jax.Array, labels: jax.Array, boxes: jax.Array | None = None, has_box: jax.Array | None = None
) -> Prompts:
    """Lays clicks and boxes into slots and adds the "not a point" token exactly where SAM does.

    Args:
        points: (B, P, K, 2) clicks as (x, y); K may be 0.
        labels: (B, P, K) POSITIVE, NEGATIVE or EMPTY.
        boxes: (B, P, 4) as (x0, y0, x1, y1), or None.
        has_box: (B, P) bool; None: every prompt has one, if `boxes` is given.

    Returns:
        Prompts with K + 1 slots, or K + 3 with boxes.
    """
    shape = labels.shape[:2]
    if boxes is None:
        has_box = jnp.zeros(shape, bool)
    elif has_box is None:
        has_box = jnp.ones(shape, bool)
    has_points = (labels != EMPTY).any(axis=-1)
    pad_label = jnp.where(has_points & ~has_box, NOT_A_POINT, EMPTY)[..., None]
    coords, codes = (
        [points, jnp.zeros((*shape, 1, 2), points.dtype)],
        [labels, pad_label.astype(labels.dtype)],
    )
    if boxes is not None:
        corner_labels = jnp.where(has_box[..., None], jnp.array([BOX_FIRST, BOX_SECOND]), EMPTY)
        coords.append(boxes.reshape(*shape, 2, 2).astype(points.dtype))
        codes.append(corner_labels.astype(labels.dtype))
    return Prompts(jnp.concatenate(coords, axis=2), jnp.concatenate(codes, axis=2))


class Buffer(nnx.Variable):
    """A stored array that is part of the model but is never trained."""


class RandomPositions(nnx.Module):
    """Positions as sines and cosines of random frequencies (Tancik et al. 2020); the matrix is a buffer."""

    def __init__(self, dim: int):
        self.positional_encoding_gaussian_matrix = Buffer(jax.ShapeDtypeStruct((2, dim // 2), jnp.float32))

    def __call__(self, coords: jax.Array) -> jax.Array:
        """Encodes positions (x, y) in [0, 1]: (..., 2) -> (..., dim)."""
        # "highest": the phases are large, and a rounded product would move the sines visibly.
        phases = jnp.matmul(2 * coords - 1, self.positional_encoding_gaussian_matrix[...], precision="highest")
        phases = 2 * np.pi * phases
        return jnp.concatenate([jnp.sin(phases), jnp.cos(phases)], axis=-1)

    def grid(self, height: int, width: int) -> jax.Array:
        """The encoding of every token of a grid, (height, width, dim)."""
        y, x = (jnp.arange(height) + 0.5) / height, (jnp.arange(width) + 0.5) / width
        return self(jnp.stack(jnp.meshgrid(x, y), axis=-1))


class PromptEncoder(nnx.Module):
    """Prompts to sparse tokens; masks to a dense map."""

    def __init__(self, config: SamConfig):
        dim, channels = config.out_dim, config.mask_channels
        self.pe_layer = RandomPositions(dim)
        self.point_embeddings = nnx.List(Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = Embedding(1, dim)
        self.no_mask_embed = Embedding(1, dim)
        self.mask_downscaling = nnx.List(
            [
                PatchConv(1, channels // 4, 2),
                layer_norm(channels // 4, 1e-6),
                gelu,
                PatchConv(channels // 4, channels, 2),
                layer_norm(channels, 1e-6),
                gelu,
                PatchConv(channels, dim, 1),
            ]
        )

    def sparse(self, prompts: Prompts, image_size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
        """Embeds clicks and box corners.

        Args:
            image_size: (height, width) in pixels of the encoder's input.

        Returns:
            Tokens (B, P, N, dim) and (B, P, N) bool, True for slots that hold something.
        """
        height, width = image_size
        labels = prompts.labels[..., None]
        scale = jnp.array([width, height], jnp.float32)
        positions = self.pe_layer((prompts.coords + 0.5) / scale[None, None, None])
        tokens = jnp.where(labels >= NEGATIVE, positions, 0.0)
        tables = {NOT_A_POINT: self.not_a_point_embed}
        tables |= dict(zip((NEGATIVE, POSITIVE, BOX_FIRST, BOX_SECOND), self.point_embeddings, strict=True))
        for label, table in tables.items():
            tokens += jnp.where(labels == label, table.embedding[...][None, None], 0.0)
        return tokens, prompts.labels != EMPTY

    def dense(self, masks: jax.Array | None = None, has_mask: jax.Array | None = None) -> jax.Array:
        """Embeds mask prompts.

        Args:
            masks: (B, P, 4h, 4w) logits of an earlier prediction, or None: no prompt has one.
            has_mask: (B, P) bool; None: every prompt has one, if `masks` is given.

        Returns:
            (B, P, h, w, dim), or (1, 1, 1, 1, dim) without masks.
        """
        no_mask = self.no_mask_embed.embedding[...][None, None, None]
        if masks is None:
            return no_mask
        x = masks[..., None]
        for layer in self.mask_downscaling:
            x = layer(x)
        return x if has_mask is None else jnp.where(has_mask[..., None, None, None], x, no_mask)
