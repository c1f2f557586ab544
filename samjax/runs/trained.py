"""The trained parameters of a run: writing them, reading them with the base weights, and starting from them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from samjax.command_lines import command
from samjax.data.on_device.channels import parse_channels
from samjax.errors import UserError
from samjax.models.flat import flat_shapes
from samjax.models.lora import merge_lora
from samjax.runs.checksums import CHECKSUM, COPY_AGAIN, TENSORS, checksum, metadata_checksum, with_checksums
from samjax.runs.config import FORMAT_VERSION, RunConfig
from samjax.runs.folder import FINAL, WEIGHTS, model_folder, read_config
from samjax.runs.model import Shapes, abstract_model, trained_shapes
from samjax.runs.packed import BASE, FILES, PACKED
from samjax.strategies import find_strategy
from samjax.weights.base import Sight, Weights, digest, load_base, save_weights
from samjax.weights.matching import finite_float32, first_names, match, plainly_named
from samjax.weights.safetensors_file import read_safetensors, write_safetensors

Trained = dict[str, dict[str, np.ndarray]]
"""Trained parameters by stored path: the `last` ones and, where weights were averaged, their `average`."""

LAST, AVERAGE = "last", "average"
STEP = "step"
"""Metadata key of the steps that the run took."""


def final_of(trained: Trained) -> dict[str, np.ndarray]:
    """The average if there is one, else the last weights; empty if nothing is trained."""
    return trained.get(AVERAGE) or trained.get(LAST) or {}


def save_final(folder: Path, trained: Trained, config: RunConfig, step: int | None = None, half: bool = False) -> None:
    """Writes final.safetensors: the trained parameters, by stored path, under `last/` and, if averaged, `average/`.

    `step` is the number of steps of the run; with `half`, parameters are rounded to float16 where that can hold them.
    Pretraining also writes weights.safetensors, mostly in float16, which `--weights` takes.
    """
    if half:
        trained = {group: _halved(flat) for group, flat in trained.items()}
    _write_trained(folder / FINAL, trained, final_metadata(config, step))
    if find_strategy(config.options.strategy).family == "pictures":
        flat = load_base_of(config, folder).flat | final_of(trained)
        save_weights(folder / WEIGHTS, _halved(flat), config.architecture)


def final_metadata(config: RunConfig, step: int | None) -> dict[str, str]:
    """The metadata of a run's final.safetensors, without checksums."""
    metadata = {
        "format": "samjax-run",
        "format_version": FORMAT_VERSION,
        "strategy": config.options.strategy,
        "channels": str(config.options.channels),
        "roi": config.options.roi,
        "prompts": ",".join(config.prompts_seen),
        "base_sha256": config.base_sha256,
        "config": config.to_json(),
    }
    return metadata if step is None else metadata | {STEP: str(step)}


def ended_at(folder: Path, step: int) -> bool:
    """Whether the run has ended with this step, by its final.safetensors; one without a step counts as ended."""
    path = folder / FINAL
    return path.is_file() and read_safetensors(path)[1].get(STEP, str(step)) == str(step)


def _halved(flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors, by stored path, in float16 where that can hold them.

    The frequencies of positions stay as they are: they make large phases.
    """

    def fits(path: str, x: np.ndarray) -> bool:
        return not path.endswith("gaussian_matrix") and np.abs(x).max(initial=0) <= np.finfo(np.float16).max

    return {path: x.astype(np.float16) if fits(path, x) else x for path, x in flat.items()}


def save_stage(folder: Path, number: int, trained: Trained) -> None:
    """Writes the parameters that the first `number` stages have trained."""
    _write_trained(_stage_file(folder, number), trained, {"format": "samjax-stage"})


def load_stage(folder: Path, number: int) -> Trained:
    """The parameters that the first `number` stages have trained; empty for 0.

    Raises:
        UserError: the file is missing or damaged, or holds other tensors than these stages train.
    """
    if not number:
        return {}
    path = _stage_file(folder, number)
    if not path.is_file():
        raise UserError(f"{path}: no such file, and the run cannot go on without it; copy it back, or train anew")
    return _read_trained(path, read_config(folder), number)[0]


def _stage_file(folder: Path, number: int) -> Path:
    return folder / f"stage{number}.safetensors"


@dataclass(frozen=True)
class TrainedWeights:
    """Base and trained parameters of a run, by stored path."""

    base: dict[str, np.ndarray]
    trained: dict[str, np.ndarray]
    prompts: tuple[str, ...]
    """Kinds of prompt that the run was trained with."""


def load_start(weights: str) -> Weights:
    """The weights that a run starts from: base weights by name or path, or what another run ended with.

    Args:
        weights: the folder of a finished run, a packed run, the name of a model that comes with samjax, or what
            `load_base` takes.

    Returns:
        Of a run, the parameters by which it predicts, LoRA merged into the kernels; those that attend across slices
        and those of inner regions are among them.

    Raises:
        UserError: the weights cannot be read, or the run has no SAM.
    """
    folder = model_folder(Path(weights).expanduser())
    if not (folder / FINAL).is_file():
        return load_base(weights)
    if (folder / WEIGHTS).is_file():  # of pictures
        return load_base(str(folder / WEIGHTS))
    config, found = load_trained(folder)
    if config.architecture is None:
        raise UserError(f"--weights {weights}: a U-Net's run; give one of a SAM, or weights of a SAM")
    flat = merge_lora(found.base | found.trained, config.adaptation)
    channels = parse_channels(config.options.channels)
    sight = Sight(channels.text, config.options.image_size, config.native, config.cropped)
    return Weights(flat, replace(config.architecture, in_channels=channels.count), digest(flat), sight)


def load_base_of(config: RunConfig, folder: Path, weights: str | None = None) -> Weights:
    """The weights that the run in `folder` started from.

    Args:
        weights: their new place; None: the place that the run recorded.

    Raises:
        UserError: they are missing, or are not those that the run was trained on.
    """
    source = weights or config.base_path
    base = load_start(source)
    if base.sha256 != config.base_sha256:
        raise UserError(
            f"{source}: sha256 {base.sha256[:12]}..., but {folder} was trained on {config.base_sha256[:12]}...; "
            "name the right base weights with --weights"
        )
    return base


def load_trained(folder: Path, weights: str | None = None, average: bool = True) -> tuple[RunConfig, TrainedWeights]:
    """A finished run's configuration and weights.

    Args:
        weights: new place of the base weights; None: the place that the run recorded.
        average: take the average of the weights, if the run has one, instead of the last ones.

    Raises:
        UserError: the run is not finished; its final.safetensors is damaged, holds other tensors than the run trains,
            or was written by another run; or the base weights are missing or are not the run's.
    """
    config = read_config(folder)
    final = folder / FINAL
    if not final.is_file():
        raise UserError(
            f"{folder}: no {FINAL}: the run has not finished; continue it with "
            + command("train", "--resume", "--run", folder)
        )
    trained, metadata = _read_trained(final, config)
    _check_run(final, metadata, config)
    chosen = final_of(trained) if average else trained[LAST]
    base: dict[str, np.ndarray] = {}
    if weights is None and PACKED in metadata:
        base = chosen | trained.get(BASE.rstrip("/"), {})
    elif config.architecture:
        base = load_base_of(config, folder, weights).flat
    return config, TrainedWeights(base, chosen, tuple(metadata["prompts"].split(",")))


def packed_base(base: Mapping[str, np.ndarray], trained: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The base weights that a packed run holds, by their names in the file: those that were not trained anew."""
    return {f"{BASE}{path}": x for path, x in base.items() if path not in trained or trained[path].shape != x.shape}


def _check_run(path: Path, metadata: Mapping[str, str], config: RunConfig) -> None:
    """Raises UserError where the file was written by a run of another kind than `config`, or by no run."""
    if "prompts" not in metadata:
        raise UserError(f"{path}: its metadata do not say which prompts the run saw; copy the file anew from the run")
    options = config.options
    expected = {
        "strategy": options.strategy,
        "channels": str(options.channels),
        "roi": options.roi,
        "base_sha256": config.base_sha256,
    }
    for key, value in expected.items():
        if metadata.get(key) != value:
            raise UserError(
                f"{path}: was written by a run with {key} {metadata.get(key)}, but config.json beside it has {value}; "
                "put the files of one run together"
            )


def _write_trained(path: Path, trained: Trained, metadata: dict[str, str]) -> None:
    tensors = {f"{group}/{name}": x for group, flat in trained.items() for name, x in flat.items()}
    write_safetensors(path, tensors, with_checksums(metadata, tensors))


def _read_trained(path: Path, config: RunConfig, stages: int | None = None) -> tuple[Trained, dict[str, str]]:
    """The parameters that the first `stages` stages (None: all) of a run have trained, and the file's metadata.

    Files of versions without checksums are read without them; they may also hold the whole model.

    Raises:
        UserError: the file is damaged, lacks a trained parameter or holds another one, in another shape, or with
            values that are not finite; the line names the file and the tensor.
    """
    tensors, metadata = read_safetensors(path)
    tensors = {name: x for name, x in plainly_named(tensors, path).items() if not name.startswith(FILES)}
    checksummed = bool({CHECKSUM, TENSORS} & metadata.keys())
    if checksummed and metadata.get(CHECKSUM) != metadata_checksum(metadata):
        raise UserError(f"{path}: its metadata are not what was written (checksum); {COPY_AGAIN}")
    expected = _expected(tensors, checksummed, config, stages)
    if PACKED in metadata:
        expected |= {name: x.shape for name, x in tensors.items() if name.startswith(BASE)}
    match(tensors, expected, path, f"that {config.options.strategy} trains")
    tensors = finite_float32(tensors, path)
    if checksummed:
        checksums = json.loads(metadata[TENSORS])
        lacking = [name for name in checksums if name not in tensors and not name.startswith(FILES)]
        if lacking:  # such as a whole average
            raise UserError(f"{path}: lacks {len(lacking)} tensors ({first_names(lacking)}); {COPY_AGAIN}")
        for name, x in tensors.items():
            if checksums.get(name) != checksum(name, x):
                raise UserError(f"{path}: {name} is not what was written (checksum); {COPY_AGAIN}")
    trained: Trained = {}
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        trained.setdefault(group, {})[name] = tensor
    return trained, metadata


def _expected(tensors: Mapping[str, np.ndarray], checksummed: bool, config: RunConfig, stages: int | None) -> Shapes:
    """The shape of each tensor that a file of this run must hold, by its name in the file."""
    model = abstract_model(config)
    groups = (LAST, AVERAGE) if any(name.startswith(f"{AVERAGE}/") for name in tensors) else (LAST,)

    def in_groups(shapes: Shapes) -> Shapes:
        return {f"{group}/{path}": shape for group in groups for path, shape in shapes.items()}

    whole = in_groups(flat_shapes(model))
    if not checksummed and tensors.keys() == whole.keys():
        return whole
    return in_groups(trained_shapes(config, model, stages))
