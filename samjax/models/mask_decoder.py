"""SAM's mask decoder: image embeddings and prompt tokens to mask logits and predicted IoU."""

import jax
import jax.numpy as jnp
from flax import nnx

from samjax.models.config import ComputeConfig, SamConfig
from samjax.models.layers import Embedding, PatchDeconv, ReluMlp, gelu, layer_norm
from samjax.models.two_way_transformer import TwoWayTransformer


class MaskDecoder(nnx.Module):
    """One mask token for the single mask and `num_multimask` for the choice of masks."""

    def __init__(self, config: SamConfig, compute: ComputeConfig):
        dim, dtype = config.out_dim, compute.dtype
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
        self.output_hypernetworks_mlps = nnx.List(ReluMlp((dim, dim, dim, dim // 8), dtype=dtype) for _ in range(count))
        hidden = [config.iou_head_dim] * (config.iou_head_depth - 1)
        self.iou_prediction_head = ReluMlp((dim, *hidden, count), dtype=dtype)

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
            multimask: give the `num_multimask` alternatives instead of the single mask; None gives all, the single
                mask first.
            intermediates: also return the transformer's `tokens` (B, P, 1 + masks + N, dim).

        Returns:
            Logits (B, P, M, 4h, 4w) float32 and predicted IoU (B, P, M) float32, with M = 1, `num_multimask`
            or both together.
        """
        batch, prompts = sparse.shape[:2]
        height, width, dim = image_pe.shape
        count = self.mask_tokens.embedding.shape[0]
        own = jnp.concatenate([self.iou_token.embedding[...], self.mask_tokens.embedding[...]])
        own = jnp.broadcast_to(own, (batch, prompts, count + 1, dim))
        tokens = jnp.concatenate([own, sparse], axis=2)
        valid = jnp.concatenate([jnp.ones((batch, prompts, count + 1), bool), valid], axis=2)

        image = embeddings[:, None] + dense
        image = image.reshape(*image.shape[:2], height * width, dim)
        tokens, image = self.transformer(image, image_pe.reshape(1, 1, -1, dim), tokens, valid)

        upscaled = image.reshape(batch, prompts, height, width, dim)
        for layer in self.output_upscaling:
            upscaled = layer(upscaled)
        chosen = {True: range(1, count), False: range(1), None: range(count)}[multimask]
        weights = jnp.stack(
            [self.output_hypernetworks_mlps[index](tokens[:, :, 1 + index]) for index in chosen], axis=2
        )
        masks = jnp.einsum("bpmc,bphwc->bpmhw", weights, upscaled, preferred_element_type=jnp.float32)
        iou = self.iou_prediction_head(tokens[:, :, 0])[..., chosen.start : chosen.stop].astype(jnp.float32)
        return (masks, iou, {"tokens": tokens}) if intermediates else (masks, iou)
