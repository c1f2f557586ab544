"""Meta's model by stages, for the comparisons with ours. Making a `MetaSam` needs torch and Meta's code."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from samjax.models.config import SamConfig
from tests.models.cases import Prompt, Stages, meta_weights


class MetaSam:
    """Meta's Sam with the random weights of `cases` or given ones, for pictures of any size.

    Meta's encoder knows one size: its position embedding is added as it is stored. For another size, square
    or not, it is replaced by PyTorch's bilinear interpolation (`align_corners=False`) of the stored one. The
    tables of relative positions are left to Meta's own `get_rel_pos`, which interpolates those of the global
    blocks.
    """

    def __init__(self, config: SamConfig, weights: Mapping[str, Any] | None = None, device: str = "cpu"):
        """
        Args:
            weights: PyTorch tensors by Meta's names; None: the random ones.
            device: where PyTorch computes.
        """
        import torch

        from benchmarks.meta_sam import meta_architecture

        self.sam = meta_architecture(config).eval().requires_grad_(False)
        if weights is None:
            weights = {name: torch.from_numpy(value) for name, value in meta_weights(config).items()}
        self.sam.load_state_dict(weights, strict=True)
        self.sam.to(device)
        self.device = device
        self.patch = config.patch_size
        self.positions = self.sam.image_encoder.pos_embed.detach().clone()
        self.captured: dict[str, torch.Tensor] = {}
        encoder = self.sam.image_encoder
        watched = {f"blocks/{index}": block for index, block in enumerate(encoder.blocks)}
        watched |= {"patch_embed": encoder.patch_embed, "transformer": self.sam.mask_decoder.transformer}
        for name, module in watched.items():
            module.register_forward_hook(lambda _, inputs, output, name=name: self.captured.update({name: output}))

    def encoder_stages(self, images: np.ndarray) -> Stages:
        """Every stage of the encoder for pictures (B, H, W, 3) in [0, 255]: (B, h, w, dim) by name."""
        import torch
        from torch.nn.functional import interpolate

        sam, encoder = self.sam, self.sam.image_encoder
        grid = [side // self.patch for side in images.shape[1:3]]
        with torch.no_grad():
            x = (torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2) - sam.pixel_mean) / sam.pixel_std
            positions = self.positions.permute(0, 3, 1, 2)
            if list(positions.shape[2:]) != grid:
                positions = interpolate(positions, grid, mode="bilinear", align_corners=False)
            encoder.pos_embed = torch.nn.Parameter(positions.permute(0, 2, 3, 1), requires_grad=False)
            neck = encoder(x).permute(0, 2, 3, 1)
        names = ["patch_embed", *(f"blocks/{index}" for index in range(len(encoder.blocks)))]
        stages = {name: self.captured[name] for name in names} | {"neck": neck}
        return {name: value.cpu().numpy() for name, value in stages.items()}

    def decoder_stages(self, embedding: np.ndarray, prompt: Prompt) -> Stages:
        """Every stage from the prompt on, for one prompt and an embedding (h, w, dim)."""
        import torch

        sam, encoder = self.sam, self.sam.prompt_encoder
        height, width = embedding.shape[:2]
        encoder.image_embedding_size = (height, width)
        encoder.input_image_size = (height * self.patch, width * self.patch)
        part = {
            name: None if value is None else torch.from_numpy(value)[None].to(self.device)
            for name, value in vars(prompt).items()
        }
        with torch.no_grad():
            sparse, dense = encoder(
                points=None if part["points"] is None else (part["points"], part["labels"]),
                boxes=part["box"],
                masks=None if part["mask"] is None else part["mask"][None],
            )
            single, multi = (
                sam.mask_decoder(
                    image_embeddings=torch.from_numpy(embedding).to(self.device).permute(2, 0, 1)[None],
                    image_pe=encoder.get_dense_pe(),
                    sparse_prompt_embeddings=sparse,
                    dense_prompt_embeddings=dense,
                    multimask_output=multimask,
                )
                for multimask in (False, True)
            )
        stages = {
            "sparse": sparse[0],
            "dense": dense[0].permute(1, 2, 0),
            "tokens": self.captured["transformer"][0][0],
            "single mask": single[0][0],
            "multi masks": multi[0][0],
            "iou": torch.cat([single[1][0], multi[1][0]]),
        }
        return {name: value.cpu().numpy() for name, value in stages.items()}
