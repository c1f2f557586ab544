"""Models in the layout of Hugging Face's `transformers`: a folder with config.json, and weights in one file or shards.

The index of a sharded model (`model.safetensors.index.json`) has under `weight_map` the file next to it that holds each
tensor.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samjax.errors import UserError
from samjax.files import parse_json
from samjax.models.config import PIXEL_MEAN, PIXEL_STD, SamConfig
from samjax.weights.matching import first_names, plainly_named
from samjax.weights.readers import read_file

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""The files that hold a folder's weights, in the order in which `transformers` looks for them."""


def is_model_folder(path: Path) -> bool:
    """Whether a folder holds weights as Hugging Face names them."""
    return any((path / name).is_file() for name in WEIGHTS)


def weights_file(path: Path) -> Path:
    """The file that `path` means: itself, or the one with the weights where it is a folder.

    Raises:
        UserError: the folder has no such file.
    """
    if not path.is_dir():
        return path
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise UserError(
        f"{path}: is a folder without {WEIGHTS[0]}, {WEIGHTS[2]} or the index of either; name the weights file"
    )


def is_index(path: Path) -> bool:
    """Whether a file is the index of a sharded model, by its name."""
    return path.suffix == ".json"


def read_shards(index: Path) -> dict[str, np.ndarray]:
    """The tensors of a sharded model by their names in the files, which they map.

    Raises:
        UserError: `index` is no index, names a file that is missing or lies elsewhere, or does not list exactly what
            its files hold.
    """
    shard_of = _weight_map(index)
    shards = sorted(set(shard_of.values()))
    if gone := [shard for shard in shards if not (index.parent / shard).is_file()]:
        raise UserError(f"{index}: {first_names(gone)} not found; download every file that it lists beside it")
    tensors: dict[str, np.ndarray] = {}
    for shard in shards:
        for name, value in _read_shard(index.parent / shard).items():
            listed = shard_of.get(name)
            if listed != shard:
                other = f"the index lists it in {listed}" if listed else "the index does not list it"
                raise UserError(f"{index}: {name} lies in {shard}, but {other}; download the whole model again")
            tensors[name] = value
    if lacking := [name for name in shard_of if name not in tensors]:
        raise UserError(
            f"{index}: {len(lacking)} tensors are not in the files that it lists them in ({first_names(lacking)}; "
            f"{lacking[0]} should be in {shard_of[lacking[0]]}); download the whole model again"
        )
    return plainly_named(tensors, index)


def _weight_map(index: Path) -> dict[str, str]:
    """The file's name of each tensor."""
    content = _read_json(index)
    shard_of = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shard_of, dict) or not shard_of:
        raise UserError(f"{index}: no index of a sharded model, which has a weight_map; name the weights file")
    for name, shard in shard_of.items():
        if not isinstance(shard, str) or not _is_plain(shard):
            raise UserError(
                f"{index}: lists {name[:200]!r} in {shard!r}; expected the name of a file that lies beside the index"
            )
    return shard_of


def _is_plain(name: str) -> bool:
    """Whether the name is that of a file in the folder itself, on any system."""
    return name not in ("", "..") and Path(name).name == name and "\\" not in name and name.isprintable()


def _read_json(path: Path) -> object:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected a .pth or .safetensors file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); download it again") from error


def _read_shard(path: Path) -> dict[str, np.ndarray]:
    content, _ = read_file(path)
    values = content.items() if isinstance(content, dict) else ()
    return {str(name): value for name, value in values if isinstance(value, np.ndarray)}


def check_folder(folder: Path, config: SamConfig) -> None:
    """Checks that the JSON files of a model's folder describe the SAM that its tensors make, where there are any.

    Raises:
        UserError: config.json gives another kind of model or other sizes than the tensors have (`config`), or
            preprocessor_config.json another normalisation than SAM's.
    """
    if (folder / CONFIG).is_file():
        _check_sizes(folder / CONFIG, config)
    if (folder / PREPROCESSOR).is_file():
        _check_normalisation(folder / PREPROCESSOR)


def _check_sizes(path: Path, config: SamConfig) -> None:
    content = _json_object(path)
    kind = content.get("model_type", "sam")
    if kind != "sam":
        raise UserError(f"{path}: describes a model of type {kind!r}; expected 'sam'")
    for part, expected in transformers_config(config).items():
        found = content.get(part)
        if not isinstance(expected, Mapping) or not isinstance(found, Mapping):
            continue
        for key, value in expected.items():
            # Epsilons are left alone: samjax computes as Meta's code does.
            if key != "layer_norm_eps" and found.get(key) not in (value, None):
                raise UserError(
                    f"{path}: {part} has {key} = {found[key]!r}, but the tensors beside it make {value!r}; "
                    "they belong to two models"
                )


def _check_normalisation(path: Path) -> None:
    content = _json_object(path)
    scale = 255.0 if content.get("do_rescale", True) else 1.0
    for key, expected in (("image_mean", PIXEL_MEAN), ("image_std", PIXEL_STD)):
        found = content.get(key)
        if found is None:
            continue
        try:
            same = np.allclose(np.asarray(found, np.float64) * scale, expected, rtol=1e-3)
        except (TypeError, ValueError):
            same = False
        if not same:
            raise UserError(
                f"{path}: {key} is {found!r}, but SAM's is {[round(value / scale, 4) for value in expected]!r}; "
                "weights that were trained with another normalisation are not read"
            )


def _json_object(path: Path) -> dict:
    content = _read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}; expected an object")
    return content


def transformers_config(config: SamConfig) -> dict[str, object]:
    """The `config.json` of a `SamModel` of this architecture.

    Its mask decoder gets Meta's epsilon of 1e-5 for LayerNorm; Hugging Face's own default there is 1e-6.
    """
    return {
        "model_type": "sam",
        "architectures": ["SamModel"],
        "vision_config": {
            "hidden_size": config.embed_dim,
            "output_channels": config.out_dim,
            "num_hidden_layers": config.depth,
            "num_attention_heads": config.num_heads,
            "num_channels": config.in_channels,
            "image_size": config.image_size,
            "patch_size": config.patch_size,
            "window_size": config.window_size,
            "global_attn_indexes": list(config.global_attn_indexes),
            "num_pos_feats": config.out_dim // 2,
            "mlp_dim": config.mlp_dim,
        },
        "prompt_encoder_config": {
            "hidden_size": config.out_dim,
            "image_size": config.image_size,
            "patch_size": config.patch_size,
            "mask_input_channels": config.mask_channels,
        },
        "mask_decoder_config": {
            "hidden_size": config.out_dim,
            "mlp_dim": config.decoder_mlp_dim,
            "num_hidden_layers": config.decoder_depth,
            "num_attention_heads": config.decoder_heads,
            "num_multimask_outputs": config.num_multimask,
            "iou_head_depth": config.iou_head_depth,
            "iou_head_hidden_dim": config.iou_head_dim,
            "layer_norm_eps": 1e-5,
        },
    }
