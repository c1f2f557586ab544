"""Infers the architecture of a SAM from the shapes of its tensors, and the shapes from the architecture."""

import re
from collections.abc import Iterable, Mapping

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
    """The number of different indexes in the paths that match."""
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
    """The shape of every tensor of a SAM of this architecture, by our paths."""
    # Here, since JAX and Flax take a second to import: a command's --help does not need them.
    from samjax.models.flat import flat_shapes
    from samjax.models.sam import Sam

    return flat_shapes(Sam(config))
