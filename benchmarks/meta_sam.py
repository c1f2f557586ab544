"""Meta's own SAM from a .pth, unmodified. Importing this needs torch and Meta's code."""

import importlib.util
import sys
import types
from functools import partial
from pathlib import Path

import torch

from samjax.models.config import SamConfig

if "segment_anything" not in sys.modules:
    # The package's own __init__ asks for torchvision, which no model needs.
    _spec = importlib.util.find_spec("segment_anything")
    if _spec is None:
        raise ModuleNotFoundError("segment_anything is not installed", name="segment_anything")
    _package = types.ModuleType("segment_anything")
    _package.__path__ = list(_spec.submodule_search_locations)
    sys.modules["segment_anything"] = _package

from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer


def meta_sam(config: SamConfig, weights: Path) -> Sam:
    """Meta's Sam with these weights and nothing that trains."""
    sam = meta_architecture(config)
    sam.load_state_dict(torch.load(weights, weights_only=True), strict=True)
    return sam.eval().requires_grad_(False)


def meta_architecture(config: SamConfig) -> Sam:
    """Meta's Sam as their `build_sam` makes it, with the parameters that PyTorch draws."""
    tokens = config.image_size // config.patch_size
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=config.image_size,
            patch_size=config.patch_size,
            in_chans=config.in_channels,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp_ratio=config.mlp_dim / config.embed_dim,
            out_chans=config.out_dim,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=config.window_size,
            global_attn_indexes=config.global_attn_indexes,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=config.out_dim,
            image_embedding_size=(tokens, tokens),
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=config.mask_channels,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=config.num_multimask,
            transformer=TwoWayTransformer(
                depth=config.decoder_depth,
                embedding_dim=config.out_dim,
                num_heads=config.decoder_heads,
                mlp_dim=config.decoder_mlp_dim,
            ),
            transformer_dim=config.out_dim,
            iou_head_depth=config.iou_head_depth,
            iou_head_hidden_dim=config.iou_head_dim,
        ),
    )
