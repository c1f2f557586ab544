"""SAM's mask decoder: image embeddings and prompt tokens to mask logits and predicted IoU."""

import jax
import jax.numpy as jnp
from flax import nnx

from samjax.models.config import ComputeConfig, SamConfig
from samjax.models.layers import Embedding, PatchDeconv, ReluMlp, gelu, layer_norm, linear
from samjax.models.two_way_transformer import TwoWayTransformer


class InnerRegion(nnx.Module):
    """A region inside the prompted one: its mask token, its hypernetwork, and its last layer of the IoU head.

    Its token stands in the single mask's place in a set of tokens of its own. The picture attends to the prompted
    region's set alone, whose mask is therefore what it would be without inner regions.
    """

    def __init__(self, config: SamConfig, compute: ComputeConfig):
        self.mask_token = Embedding(1, config.out_dim)
        self.hypernetwork = _hypernetwork(config.out_dim, compute.activations)
        # As wide as the head's own, of which only the first output is used: the same product gives the same bits.
        self.iou_layer = linear(config.iou_head_dim, config.num_multimask + 1, dtype=compute.activations)

    def __call__(self, tokens: jax.Array, upscaled: jax.Array, iou_head: ReluMlp) -> tuple[jax.Array, jax.Array]:
        """Logits (B, P, 1, 4h, 4w) and predicted IoU (B, P, 1), float32, of the region's tokens (B, P, N, dim)."""
        mask = _masks(self.hypernetwork(tokens[:, :, 1])[:, :, None], upscaled)
        return mask, self.iou_layer(iou_head.hidden(tokens[:, :, 0]))[..., :1].astype(jnp.float32)


def _masks(weights: jax.Array, upscaled: jax.Array) -> jax.Array:
    """Logits (B, P, M, H, W) float32 of weights (B, P, M, c) and the picture's channels (B, P, H, W, c)."""
    return jnp.einsum("bpmc,bphwc->bpmhw", weights, upscaled, preferred_element_type=jnp.float32)


def _with_mask_token(tokens: jax.Array, token: jax.Array) -> jax.Array:
    """Tokens (B, P, 1 + masks + N, dim) with another one (1, dim) of the single mask."""
    own = jnp.broadcast_to(token, (*tokens.shape[:2], 1, tokens.shape[-1])).astype(tokens.dtype)
    return jnp.concatenate([tokens[:, :, :1], own, tokens[:, :, 2:]], axis=2)


def _hypernetwork(dim: int, dtype: str) -> ReluMlp:
    return ReluMlp((dim, dim, dim, dim // 8), dtype=dtype)


class MaskDecoder(nnx.Module):
    """One mask token for the single mask, `num_multimask` for the choice of masks, and one for each inner region."""

    def __init__(self, config: SamConfig, compute: ComputeConfig, inner_regions: int = 0):
        dim, dtype = config.out_dim, compute.activations
        count = config.num_multimask + 1
        self.transformer = TwoWayTransformer(config, dtype=dtype)
        self.iou_token = Embedding(1, dim)
        self.mask_tokens = Embedding(count, dim)
        self.output_upscaling = nnx.List(
            [
                PatchDeconv(dim, dim // 4, 2, dtype=dtype),
                layer_norm(dim // 4, 1e-6),
                gelu,
                PatchDeconv(dim // 4, dim // 8, 2, dtype=dtype),
                gelu,
            ]
        )
        self.output_hypernetworks_mlps = nnx.List(_hypernetwork(dim, dtype) for _ in range(count))
        hidden = [config.iou_head_dim] * (config.iou_head_depth - 1)
        self.iou_prediction_head = ReluMlp((dim, *hidden, count), dtype=dtype)
        self.inner_regions = nnx.List(InnerRegion(config, compute) for _ in range(inner_regions))

    def __call__(
        self,
        embeddings: jax.Array,
        image_pe: jax.Array,
        sparse: jax.Array,
        valid: jax.Array,
        dense: jax.Array,
        *,
        multimask: bool | None = False,
        intermediates: bool = False,
    ) -> tuple[jax.Array, jax.Array] | tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """Predicts masks for P prompts of each of B pictures.

        Args:
            embeddings: (B, h, w, dim).
            image_pe: (h, w, dim).
            sparse: (B, P, N, dim) prompt tokens.
            valid: (B, P, N) bool, False for empty slots.
            dense: broadcastable to (B, P, h, w, dim).
            multimask: give the `num_multimask` alternatives instead of the single mask and those of the inner regions;
                None gives all, the single mask first and the alternatives last.
            intermediates: also return the transformer's `tokens` (B, P, 1 + masks + N, dim) of the prompted region.

        Returns:
            Logits (B, P, M, 4h, 4w) float32 and predicted IoU (B, P, M) float32, with M = 1 + inner regions,
            `num_multimask` or both together.
        """
        batch, prompts = sparse.shape[:2]
        height, width, dim = image_pe.shape
        count = self.mask_tokens.embedding.shape[0]
        own = jnp.concatenate([self.iou_token.embedding[...], self.mask_tokens.embedding[...]])
        own = jnp.broadcast_to(own, (batch, prompts, count + 1, dim))
        tokens = jnp.concatenate([own, sparse], axis=2)
        valid = jnp.concatenate([jnp.ones((batch, prompts, count + 1), bool), valid], axis=2)
        inner = () if multimask else self.inner_regions
        sets = [tokens, *(_with_mask_token(tokens, region.mask_token.embedding[...]) for region in inner)]

        image = embeddings[:, None] + dense
        image = image.reshape(*image.shape[:2], height * width, dim)
        (tokens, *sets), image = self.transformer(image, image_pe.reshape(1, 1, -1, dim), sets, valid)

        upscaled = image.reshape(batch, prompts, height, width, dim)
        for layer in self.output_upscaling:
            upscaled = layer(upscaled)
        chosen = {True: range(1, count), False: range(1), None: range(count)}[multimask]
        weights = jnp.stack(
            [self.output_hypernetworks_mlps[index](tokens[:, :, 1 + index]) for index in chosen], axis=2
        )
        masks = _masks(weights, upscaled)
        iou = self.iou_prediction_head(tokens[:, :, 0])[..., chosen.start : chosen.stop].astype(jnp.float32)
        if inner:
            found = [region(own, upscaled, self.iou_prediction_head) for region, own in zip(inner, sets, strict=True)]
            masks = jnp.concatenate([masks[:, :, :1], *(mask for mask, _ in found), masks[:, :, 1:]], axis=2)
            iou = jnp.concatenate([iou[..., :1], *(value for _, value in found), iou[..., 1:]], axis=-1)
        return (masks, iou, {"tokens": tokens}) if intermediates else (masks, iou)
