"""The names of SAM's tensors in our spelling, Meta's and Hugging Face's, and the axis order of each tensor.

Ours are Meta's names with "/" for "." and the last word by the kind of module: `kernel` (stored input-first,
as Flax does), `scale`, `embedding`, `bias`. One table serves every direction.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from samjax.errors import UserError

Spelling = Literal["meta", "transformers"]


@dataclass(frozen=True)
class Kind:
    """The name and axis order of a module's `weight` here: ours = theirs.transpose(axes)."""

    word: str
    axes: tuple[int, ...]


LINEAR = Kind("kernel", (1, 0))  # (out, in) -> (in, out)
CONV = Kind("kernel", (2, 3, 1, 0))  # (out, in, h, w) -> (h, w, in, out)
DECONV = Kind("kernel", (2, 3, 0, 1))  # (in, out, h, w) -> (h, w, in, out), not flipped
NORM = Kind("scale", (0,))
EMBEDDING = Kind("embedding", (0, 1))


def _attention(meta: str, transformers: str) -> tuple[tuple[str, str, Kind], ...]:
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    return tuple((f"{meta}.{name}", f"{transformers}.{name}", LINEAR) for name in names)


def _head(name: str, depth: int) -> tuple[tuple[str, str, Kind], ...]:
    """An MLP of `depth` layers: Hugging Face numbers only the inner ones."""
    inner = (f"layers.{index}" for index in range(depth - 2))
    return tuple(
        (f"{name}.layers.{index}", f"{name}.{word}", LINEAR)
        for index, word in enumerate(("proj_in", *inner, "proj_out"))
    )


def _modules(iou_head_depth: int) -> tuple[tuple[str, str, Kind], ...]:
    """Rows of (Meta's module, Hugging Face's module, kind); "#" stands for an index."""
    blocks, layers = "image_encoder.blocks.#", "vision_encoder.layers.#"
    two_way = "mask_decoder.transformer.layers.#"
    final = "mask_decoder.transformer.final_attn_token_to_image"
    return (
        ("image_encoder.patch_embed.proj", "vision_encoder.patch_embed.projection", CONV),
        (f"{blocks}.norm1", f"{layers}.layer_norm1", NORM),
        (f"{blocks}.attn.qkv", f"{layers}.attn.qkv", LINEAR),
        (f"{blocks}.attn.proj", f"{layers}.attn.proj", LINEAR),
        (f"{blocks}.norm2", f"{layers}.layer_norm2", NORM),
        (f"{blocks}.mlp.lin1", f"{layers}.mlp.lin1", LINEAR),
        (f"{blocks}.mlp.lin2", f"{layers}.mlp.lin2", LINEAR),
        ("image_encoder.neck.0", "vision_encoder.neck.conv1", CONV),
        ("image_encoder.neck.1", "vision_encoder.neck.layer_norm1", NORM),
        ("image_encoder.neck.2", "vision_encoder.neck.conv2", CONV),
        ("image_encoder.neck.3", "vision_encoder.neck.layer_norm2", NORM),
        ("prompt_encoder.point_embeddings.#", "prompt_encoder.point_embed.#", EMBEDDING),
        ("prompt_encoder.not_a_point_embed", "prompt_encoder.not_a_point_embed", EMBEDDING),
        ("prompt_encoder.no_mask_embed", "prompt_encoder.no_mask_embed", EMBEDDING),
        ("prompt_encoder.mask_downscaling.0", "prompt_encoder.mask_embed.conv1", CONV),
        ("prompt_encoder.mask_downscaling.1", "prompt_encoder.mask_embed.layer_norm1", NORM),
        ("prompt_encoder.mask_downscaling.3", "prompt_encoder.mask_embed.conv2", CONV),
        ("prompt_encoder.mask_downscaling.4", "prompt_encoder.mask_embed.layer_norm2", NORM),
        ("prompt_encoder.mask_downscaling.6", "prompt_encoder.mask_embed.conv3", CONV),
        ("mask_decoder.iou_token", "mask_decoder.iou_token", EMBEDDING),
        ("mask_decoder.mask_tokens", "mask_decoder.mask_tokens", EMBEDDING),
        *_attention(f"{two_way}.self_attn", f"{two_way}.self_attn"),
        *_attention(f"{two_way}.cross_attn_token_to_image", f"{two_way}.cross_attn_token_to_image"),
        *_attention(f"{two_way}.cross_attn_image_to_token", f"{two_way}.cross_attn_image_to_token"),
        *((f"{two_way}.norm{index}", f"{two_way}.layer_norm{index}", NORM) for index in (1, 2, 3, 4)),
        (f"{two_way}.mlp.lin1", f"{two_way}.mlp.lin1", LINEAR),
        (f"{two_way}.mlp.lin2", f"{two_way}.mlp.lin2", LINEAR),
        *_attention(final, final),
        ("mask_decoder.transformer.norm_final_attn", "mask_decoder.transformer.layer_norm_final_attn", NORM),
        ("mask_decoder.output_upscaling.0", "mask_decoder.upscale_conv1", DECONV),
        ("mask_decoder.output_upscaling.1", "mask_decoder.upscale_layer_norm", NORM),
        ("mask_decoder.output_upscaling.3", "mask_decoder.upscale_conv2", DECONV),
        *_head("mask_decoder.output_hypernetworks_mlps.#", 3),
        *_head("mask_decoder.iou_prediction_head", iou_head_depth),
    )


# Tensors that belong to no such module: (Meta's name, Hugging Face's name, number of dimensions).
_TENSORS = (
    ("image_encoder.pos_embed", "vision_encoder.pos_embed", 4),
    ("image_encoder.blocks.#.attn.rel_pos_h", "vision_encoder.layers.#.attn.rel_pos_h", 2),
    ("image_encoder.blocks.#.attn.rel_pos_w", "vision_encoder.layers.#.attn.rel_pos_w", 2),
    (
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "shared_image_embedding.positional_embedding",
        2,
    ),
)

# Hugging Face's model holds this tensor twice; some files store both.
_TWIN = "prompt_encoder.shared_embedding.positional_embedding"
_TWIN_OF = "shared_image_embedding.positional_embedding"

_ANCHORS: dict[Spelling, str] = {
    "meta": "image_encoder.patch_embed.proj.weight",
    "transformers": "vision_encoder.patch_embed.projection.weight",
}
OUR_ANCHOR = "image_encoder/patch_embed/proj/kernel"

_IOU_HEAD = re.compile(r"mask_decoder[./]iou_prediction_head[./](layers[./]\d+|proj_in|proj_out)[./](weight|kernel)")


@dataclass(frozen=True)
class _Rule:
    """One row of the table for one tensor of a module: ours = theirs.transpose(axes)."""

    theirs: str
    ours: str
    axes: tuple[int, ...]


@cache
def _rules(spelling: Spelling, iou_head_depth: int) -> tuple[_Rule, ...]:
    rules = []
    for meta, transformers, kind in _modules(iou_head_depth):
        theirs = meta if spelling == "meta" else transformers
        ours = meta.replace(".", "/")
        rules.append(_Rule(f"{theirs}.weight", f"{ours}/{kind.word}", kind.axes))
        rules.append(_Rule(f"{theirs}.bias", f"{ours}/bias", (0,)))
    for meta, transformers, ndim in _TENSORS:
        theirs = meta if spelling == "meta" else transformers
        rules.append(_Rule(theirs, meta.replace(".", "/"), tuple(range(ndim))))
    return tuple(rules)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(r"(0|[1-9]\d*)".join(map(re.escape, template.split("#"))))


def _find(name: str, templates: Iterable[str]) -> tuple[int, tuple[str, ...]] | None:
    """The position of the one template that `name` matches, and its indexes; None without a match."""
    matches = [
        (position, match.groups())
        for position, template in enumerate(templates)
        if (match := _pattern(template).fullmatch(name))
    ]
    if len(matches) > 1:
        raise AssertionError(f"{name} matches {len(matches)} rows of the table of names")
    return matches[0] if matches else None


def _fill(template: str, indexes: tuple[str, ...]) -> str:
    for index in indexes:
        template = template.replace("#", index, 1)
    return template


def iou_head_depth(names: Iterable[str]) -> int:
    """The number of layers in the IoU head, counted from tensor names in any spelling."""
    return sum(_IOU_HEAD.fullmatch(name) is not None for name in names)


def spelling_of(names: Iterable[str]) -> tuple[Spelling, str] | None:
    """The spelling of PyTorch names and the prefix around them ("module." under DDP); None if not SAM's."""
    names = list(names)
    for spelling, anchor in _ANCHORS.items():
        prefixes = [name.removesuffix(anchor) for name in names if name == anchor or name.endswith("." + anchor)]
        if prefixes:
            return spelling, min(prefixes, key=len)
    return None


def to_ours(tensors: Mapping[str, np.ndarray], spelling: Spelling, prefix: str, where: object) -> dict[str, np.ndarray]:
    """Renames and transposes (without copying) PyTorch tensors. Unknown names are kept as they are.

    Raises:
        UserError: two tensors of the file `where` have one name here.
    """
    depth = iou_head_depth(name.removeprefix(prefix) for name in tensors)
    rules = _rules(spelling, depth)
    templates = [rule.theirs for rule in rules]
    ours: dict[str, np.ndarray] = {}
    for full_name, value in tensors.items():
        name = full_name.removeprefix(prefix)
        if spelling == "transformers" and name == _TWIN:
            name = _TWIN_OF
        found = _find(name, templates)
        if found:
            rule = rules[found[0]]
            path = _fill(rule.ours, found[1])
            value = value.transpose(rule.axes) if value.ndim == len(rule.axes) else value
        else:
            path = full_name
        if path in ours and not (name == _TWIN_OF and np.array_equal(ours[path], value)):
            raise UserError(f"{where}: holds {full_name} and another tensor that both mean {path}; keep one")
        ours[path] = value
    return ours


def from_ours(flat: Mapping[str, np.ndarray], spelling: Spelling) -> dict[str, np.ndarray]:
    """Undoes `to_ours`, without prefix. Raises ValueError for a path outside the table."""
    rules = _rules(spelling, iou_head_depth(flat))
    templates = [rule.ours for rule in rules]
    theirs = {}
    for path, value in flat.items():
        found = _find(path, templates)
        if found is None:
            raise ValueError(f"no tensor of SAM is called {path}")
        rule = rules[found[0]]
        theirs[_fill(rule.theirs, found[1])] = value.transpose(np.argsort(rule.axes))
    return theirs
