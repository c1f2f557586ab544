"""The Segment Anything Model (Kirillov et al. 2023) as one module."""

import jax
import jax.numpy as jnp
from flax import nnx

from samjax.models.config import Adaptation, ComputeConfig, SamConfig, pixel_statistics
from samjax.models.image_encoder import ImageEncoder
from samjax.models.mask_decoder import MaskDecoder
from samjax.models.missing import without_missing
from samjax.models.prompt_encoder import PromptEncoder, Prompts


def normalise(images: jax.Array) -> jax.Array:
    """Scales pictures in [0, 255] as SAM's pretraining did: (..., channels) of any dtype -> float32."""
    mean, std = pixel_statistics(images.shape[-1])
    return (images.astype(jnp.float32) - mean) / std


class Sam(nnx.Module):
    """Image encoder, prompt encoder and mask decoder, with what an adaptation adds to the blocks and to the decoder.

    Its parameters are shapes at first: `samjax.models.adapt` and `from_flat` give them values.
    """

    def __init__(
        self,
        config: SamConfig,
        adaptation: Adaptation | None = None,
        compute: ComputeConfig | None = None,
    ):
        adaptation, compute = adaptation or Adaptation(), compute or ComputeConfig()
        self.image_encoder = ImageEncoder(config, adaptation, compute)
        self.prompt_encoder = PromptEncoder(config)
        self.mask_decoder = MaskDecoder(config, compute, adaptation.inner_regions)
        self.config = config
        self.adaptation = adaptation

    def encode(self, images: jax.Array, valid: jax.Array | None = None, present: jax.Array | None = None) -> jax.Array:
        """Encodes pictures (B, Z, H, W, channels) in [0, 255] to embeddings (B, Z, H / patch, W / patch, out_dim).

        `valid` (B, Z) is False for padding slices, `present` (B, channels) for channels of missing modalities, which
        are 0 after the normalisation. Raises ValueError if Z is above the slices the model was built for.
        """
        if images.shape[1] > 1 and images.shape[1] > self.adaptation.slices:
            raise ValueError(
                f"{images.shape[1]} slices a sample, but the model attends across {self.adaptation.slices}"
            )
        normalised = normalise(images)
        if present is not None:
            normalised = without_missing(normalised, present[:, None])
        return self.image_encoder(normalised, valid)

    def decode(
        self,
        embeddings: jax.Array,
        prompts: Prompts,
        *,
        masks: jax.Array | None = None,
        has_mask: jax.Array | None = None,
        multimask: bool | None = False,
    ) -> tuple[jax.Array, jax.Array]:
        """Masks for P prompts on each of B embeddings (B, h, w, out_dim).

        `masks` (B, P, 4h, 4w) are logits of an earlier prediction, used where `has_mask` (B, P) is True.

        Returns:
            Logits (B, P, M, 4h, 4w) at a quarter of the input's side and predicted IoU (B, P, M).
        """
        height, width = embeddings.shape[1:3]
        patch = self.config.patch_size
        sparse, valid = self.prompt_encoder.sparse(prompts, (height * patch, width * patch))
        dense = self.prompt_encoder.dense(masks, has_mask)
        image_pe = self.prompt_encoder.pe_layer.grid(height, width)
        return self.mask_decoder(embeddings, image_pe, sparse, valid, dense, multimask=multimask)

    def __call__(
        self, images: jax.Array, prompts: Prompts, valid: jax.Array | None = None, *, multimask: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """`encode`, then `decode` with a prompt batch of B * Z pictures."""
        embeddings = self.encode(images, valid)
        return self.decode(embeddings.reshape(-1, *embeddings.shape[2:]), prompts, multimask=multimask)
