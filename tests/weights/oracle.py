"""The official PyTorch models in a small size, for the parity tests; importing this needs torch."""

import importlib.util
import sys
import types
from functools import partial

import torch

from samjax.models.presets import SamConfig


def _register_without_torchvision() -> None:
    """Lets `segment_anything.modeling` be imported: the package's own __init__ asks for torchvision."""
    if "segment_anything" not in sys.modules:
        spec = importlib.util.find_spec("segment_anything")
        package = types.ModuleType("segment_anything")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["segment_anything"] = package


def meta_sam(config: SamConfig) -> torch.nn.Module:
    """Meta's Sam of this architecture with every parameter random."""
    _register_without_torchvision()
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    tokens = config.image_size // config.patch_size
    sam = Sam(
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
    return _randomised(sam)


def transformers_sam(config: dict) -> torch.nn.Module:
    """Hugging Face's SamModel from the content of a config.json, with every parameter random."""
    from transformers import SamConfig as TransformersConfig
    from transformers import SamModel

    return _randomised(SamModel(TransformersConfig(**config)))


def _randomised(model: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.device.type != "meta":
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()
