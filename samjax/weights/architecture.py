"""The architecture of a SAM from the shapes of its tensors, and the shapes from the architecture."""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

from samjax.errors import UserError
from samjax.models.config import PRESETS, SamConfig

Shape = tuple[int, ...]


def deduce(shapes: Mapping[str, Shape], where: object) -> SamConfig:
    """Reads the architecture off the shapes of the tensors, by our paths.

    `decoder_heads` leaves no trace in any shape: it is SAM's 8. `where` is the file to name in an error.

    Raises:
        UserError: a tensor that is needed is missing or has another number of dimensions, or the
            relative-position tables fit no window.
    """

    def size(path: str, axis: int) -> int:
        shape = shapes.get(path, ())
        if axis >= len(shape) or shape[axis] < 1:
            found = f"has the shape {shape}" if path in shapes else "is missing"
            raise UserError(f"{where}: not a complete SAM checkpoint: {path} {found}")
        return shape[axis]

    encoder, decoder = "image_encoder", "mask_decoder"
    depth = _count(shapes, rf"{encoder}/blocks/(\d+)/.*")
    embed_dim = size(f"{encoder}/patch_embed/proj/kernel", 3)
    patch_size = size(f"{encoder}/patch_embed/proj/kernel", 0)
    tokens = size(f"{encoder}/pos_embed", 1)
    head_dim = size(f"{encoder}/blocks/0/attn/rel_pos_h", 1)
    if embed_dim % head_dim:
        raise UserError(f"{where}: a width of {embed_dim} is no multiple of the {head_dim} of its position tables")
    num_heads = embed_dim // head_dim
    tables = [size(f"{encoder}/blocks/{index}/attn/rel_pos_h", 0) for index in range(depth)]
    window_size, global_indexes = _windows(tables, tokens, (embed_dim, depth, num_heads), where)
    return SamConfig(
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        global_attn_indexes=global_indexes,
        window_size=window_size,
        patch_size=patch_size,
        image_size=tokens * patch_size,
        in_channels=size(f"{encoder}/patch_embed/proj/kernel", 2),
        mlp_dim=size(f"{encoder}/blocks/0/mlp/lin1/kernel", 1),
        out_dim=size(f"{encoder}/neck/0/kernel", 3),
        decoder_mlp_dim=size(f"{decoder}/transformer/layers/0/mlp/lin1/kernel", 1),
        decoder_depth=_count(shapes, rf"{decoder}/transformer/layers/(\d+)/.*"),
        decoder_heads=8,
        num_multimask=_count(shapes, rf"{decoder}/output_hypernetworks_mlps/(\d+)/.*") - 1,
        mask_channels=size("prompt_encoder/mask_downscaling/3/kernel", 3),
        iou_head_dim=size(f"{decoder}/iou_prediction_head/layers/0/kernel", 1),
        iou_head_depth=_count(shapes, rf"{decoder}/iou_prediction_head/layers/(\d+)/.*"),
    )


def _count(paths: Iterable[str], pattern: str) -> int:
    """How many different indexes stand in the paths that match."""
    compiled = re.compile(pattern)
    return len({match.group(1) for path in paths if (match := compiled.fullmatch(path))})


def _windows(tables: list[int], tokens: int, size: tuple[int, int, int], where: object) -> tuple[int, tuple[int, ...]]:
    """The window's side and the global blocks, from the length of each block's relative-position table.

    A block over n tokens has 2 n - 1 relative positions. Where a window is as wide as the stored picture, all
    tables are equal and the global blocks leave no trace: those of the published model of this `size` (width,
    depth, heads) are taken, or all blocks, which computes the same at the picture size of the weights.
    """
    full = 2 * tokens - 1
    windowed = sorted({length for length in tables if length != full})
    if not windowed:
        for preset in PRESETS.values():
            if (preset.embed_dim, preset.depth, preset.num_heads) == size:
                return tokens, preset.global_attn_indexes
        return tokens, tuple(range(len(tables)))
    if len(windowed) > 1 or windowed[0] % 2 == 0:
        raise UserError(
            f"{where}: relative-position tables of {windowed} entries fit no single window beside the {full} "
            f"of global attention over {tokens} x {tokens} tokens"
        )
    return (windowed[0] + 1) // 2, tuple(index for index, length in enumerate(tables) if length == full)


def expected_shapes(config: SamConfig) -> dict[str, Shape]:
    """Every tensor of a SAM of this architecture, by our paths."""
    return {**_encoder_shapes(config), **_prompt_shapes(config), **_decoder_shapes(config)}


def _linear(path: str, fan_in: int, fan_out: int) -> dict[str, Shape]:
    return {f"{path}/kernel": (fan_in, fan_out), f"{path}/bias": (fan_out,)}


def _conv(path: str, side: int, fan_in: int, fan_out: int) -> dict[str, Shape]:
    return {f"{path}/kernel": (side, side, fan_in, fan_out), f"{path}/bias": (fan_out,)}


def _norm(path: str, dim: int) -> dict[str, Shape]:
    return {f"{path}/scale": (dim,), f"{path}/bias": (dim,)}


def _encoder_shapes(config: SamConfig) -> dict[str, Shape]:
    dim, out, tokens = config.embed_dim, config.out_dim, config.image_size // config.patch_size
    shapes = {
        "image_encoder/pos_embed": (1, tokens, tokens, dim),
        **_conv("image_encoder/patch_embed/proj", config.patch_size, config.in_channels, dim),
    }
    for index in range(config.depth):
        block = f"image_encoder/blocks/{index}"
        length = 2 * (tokens if index in config.global_attn_indexes else config.window_size) - 1
        shapes |= {
            **_norm(f"{block}/norm1", dim),
            f"{block}/attn/rel_pos_h": (length, dim // config.num_heads),
            f"{block}/attn/rel_pos_w": (length, dim // config.num_heads),
            **_linear(f"{block}/attn/qkv", dim, 3 * dim),
            **_linear(f"{block}/attn/proj", dim, dim),
            **_norm(f"{block}/norm2", dim),
            **_linear(f"{block}/mlp/lin1", dim, config.mlp_dim),
            **_linear(f"{block}/mlp/lin2", config.mlp_dim, dim),
        }
    return shapes | {
        "image_encoder/neck/0/kernel": (1, 1, dim, out),
        **_norm("image_encoder/neck/1", out),
        "image_encoder/neck/2/kernel": (3, 3, out, out),
        **_norm("image_encoder/neck/3", out),
    }


def _prompt_shapes(config: SamConfig) -> dict[str, Shape]:
    dim, channels = config.out_dim, config.mask_channels
    kinds = ("point_embeddings/0", "point_embeddings/1", "point_embeddings/2", "point_embeddings/3")
    return {
        "prompt_encoder/pe_layer/positional_encoding_gaussian_matrix": (2, dim // 2),
        **{f"prompt_encoder/{kind}/embedding": (1, dim) for kind in (*kinds, "not_a_point_embed", "no_mask_embed")},
        **_conv("prompt_encoder/mask_downscaling/0", 2, 1, channels // 4),
        **_norm("prompt_encoder/mask_downscaling/1", channels // 4),
        **_conv("prompt_encoder/mask_downscaling/3", 2, channels // 4, channels),
        **_norm("prompt_encoder/mask_downscaling/4", channels),
        **_conv("prompt_encoder/mask_downscaling/6", 1, channels, dim),
    }


def _attention_shapes(path: str, dim: int, inner: int) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for name in ("q_proj", "k_proj", "v_proj"):
        shapes |= _linear(f"{path}/{name}", dim, inner)
    return shapes | _linear(f"{path}/out_proj", inner, dim)


def _mlp_shapes(path: str, widths: list[int]) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for index, (fan_in, fan_out) in enumerate(pairwise(widths)):
        shapes |= _linear(f"{path}/layers/{index}", fan_in, fan_out)
    return shapes


def _decoder_shapes(config: SamConfig) -> dict[str, Shape]:
    dim, masks = config.out_dim, config.num_multimask + 1
    shapes: dict[str, Shape] = {}
    for index in range(config.decoder_depth):
        layer = f"mask_decoder/transformer/layers/{index}"
        shapes |= _attention_shapes(f"{layer}/self_attn", dim, dim)
        shapes |= _attention_shapes(f"{layer}/cross_attn_token_to_image", dim, dim // 2)
        shapes |= _attention_shapes(f"{layer}/cross_attn_image_to_token", dim, dim // 2)
        for norm in ("norm1", "norm2", "norm3", "norm4"):
            shapes |= _norm(f"{layer}/{norm}", dim)
        shapes |= _linear(f"{layer}/mlp/lin1", dim, config.decoder_mlp_dim)
        shapes |= _linear(f"{layer}/mlp/lin2", config.decoder_mlp_dim, dim)
    for index in range(masks):
        shapes |= _mlp_shapes(f"mask_decoder/output_hypernetworks_mlps/{index}", [dim, dim, dim, dim // 8])
    hidden = [config.iou_head_dim] * (config.iou_head_depth - 1)
    return {
        **_attention_shapes("mask_decoder/transformer/final_attn_token_to_image", dim, dim // 2),
        **_norm("mask_decoder/transformer/norm_final_attn", dim),
        "mask_decoder/iou_token/embedding": (1, dim),
        "mask_decoder/mask_tokens/embedding": (masks, dim),
        **_conv("mask_decoder/output_upscaling/0", 2, dim, dim // 4),
        **_norm("mask_decoder/output_upscaling/1", dim // 4),
        **_conv("mask_decoder/output_upscaling/3", 2, dim // 4, dim // 8),
        **_mlp_shapes("mask_decoder/iou_prediction_head", [dim, *hidden, masks]),
        **shapes,
    }
