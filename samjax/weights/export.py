"""Writes a SAM for PyTorch: Meta's names, or a model that `transformers` opens."""

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from samjax.command_lines import command
from samjax.errors import UserError
from samjax.files import replacing
from samjax.models.adapt import INNER_REGIONS, PATCH_KERNEL
from samjax.models.config import Adaptation, SamConfig
from samjax.models.lora import merge_lora
from samjax.models.resizing import resize_matrix
from samjax.weights.hugging_face import CONFIG, WEIGHTS, transformers_config
from samjax.weights.matching import require_finite
from samjax.weights.names import from_ours
from samjax.weights.pth_writer import write_pth
from samjax.weights.safetensors_file import write_safetensors


def save_meta(path: Path | str, flat: Mapping[str, np.ndarray]) -> Path:
    """Writes Meta's names: a `.pth` for `torch.load`, or a `.safetensors` file, by the suffix of `path`.

    Raises:
        UserError: `path` has another suffix, or a tensor holds values that are not finite.
    """
    path = Path(path)
    if path.suffix not in (".pth", ".safetensors"):
        raise UserError(f"{path}: expected a name that ends in .pth or .safetensors")
    require_finite(flat, path)
    tensors = from_ours(flat, "meta")
    if path.suffix == ".pth":
        write_pth(path, tensors)
    else:
        write_safetensors(path, tensors, {})
    return path


def save_transformers(path: Path | str, flat: Mapping[str, np.ndarray], config: SamConfig) -> Path:
    """Writes Hugging Face's names and returns the weights file.

    A `path` that ends in `.safetensors` is the weights file; any other is a new folder for
    `transformers.SamModel.from_pretrained`, with `model.safetensors` and `config.json`.

    Raises:
        UserError: something else lies at `path`, or a tensor holds values that are not finite.
    """
    path = Path(path)
    require_finite(flat, path)
    if path.suffix == ".safetensors":
        weights = path
    else:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError(f"{path}: exists and is no empty folder; name a new folder or a .safetensors file")
        weights = path / WEIGHTS[0]
        with replacing(path / CONFIG) as temporary:
            temporary.write_text(json.dumps(transformers_config(config), indent=2) + "\n")
    write_safetensors(weights, from_ours(flat, "transformers"), {"format": "pt"})
    return weights


def plain_sam(
    where: object, flat: Mapping[str, np.ndarray], config: SamConfig, adaptation: Adaptation, image_size: int
) -> tuple[dict[str, np.ndarray], SamConfig]:
    """A fine-tuned model as a SAM of the original architecture, which gives the same masks, to rounding.

    Of several regions, the prompted one is written: its masks depend on no other, and there is one single-mask token.
    LoRA is merged into the base weights, and position tables are interpolated to the side that the model is used at,
    which PyTorch's code does not do. A patch embedding for four channels keeps its four channels.

    Args:
        where: the run, for the error.
        flat: base and trained parameters by stored path.
        config: the base weights' architecture.
        image_size: side in pixels of the model's input.

    Raises:
        UserError: it attends across slices or has adapters, which no original SAM does.
    """
    if any("/adapters/" in path for path in flat):
        raise UserError(
            f"{where}: its blocks have adapters, which Meta's architecture has no place for; export it with "
            f"`{command('export')}`"
        )
    crossing = sorted({path.rpartition("/cross_slice/")[0] for path in flat if "/cross_slice/" in path})
    if crossing:
        raise UserError(
            f"{where}: its {len(crossing)} blocks attend across {adaptation.slices} slices (cross_slice), which Meta's "
            f"architecture has no place for; train with --depth 1, or export it with `{command('export')}`"
        )
    config = replace(config, in_channels=flat[PATCH_KERNEL].shape[2], image_size=image_size)
    merged = merge_lora({path: x for path, x in flat.items() if not path.startswith(INNER_REGIONS)}, adaptation)
    tokens = config.table_tokens
    positions = merged["image_encoder/pos_embed"]
    across = resize_matrix(tokens, positions.shape[1])
    merged["image_encoder/pos_embed"] = np.einsum("ai,bj,nijc->nabc", across, across, positions)
    for block, axis in product(config.global_attn_indexes, "hw"):
        path = f"image_encoder/blocks/{block}/attn/rel_pos_{axis}"
        merged[path] = resize_matrix(2 * tokens - 1, merged[path].shape[0]) @ merged[path]
    return merged, config
