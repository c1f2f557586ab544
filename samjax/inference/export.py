"""Writes a SAM as StableHLO, which runs without samjax (`samjax export`).

Two programs, the image encoder and the prompt encoder with the mask decoder, are serialised with `jax.export`. Their
first argument is a dict of the parameters, which lie beside them, so that neither file grows with the model.
deployment.json has all else: inputs and outputs, the preparation of pictures, and the largest difference between the
loaded programs and the model.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export

from samjax.command_lines import command
from samjax.data.imaging.soft_edge import BRAIN
from samjax.errors import UserError
from samjax.files import replacing
from samjax.inference.model import SegmentationModel
from samjax.models.config import pixel_statistics
from samjax.models.prompt_encoder import make_prompts
from samjax.models.sam import Sam
from samjax.options import ExportOptions
from samjax.runs.folder import PCA
from samjax.version import __version__
from samjax.weights.safetensors_file import read_safetensors, write_safetensors

FORMAT, FORMAT_VERSION = "samjax-deployment", 1
DESCRIPTION, PARAMETERS = "deployment.json", "parameters.safetensors"
PLATFORMS = ExportOptions.platforms
TOLERANCE = 1e-5
"""Largest allowed difference between a loaded program and the model, as a share of an output's largest value."""

Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class Program:
    """A function of (parameters, *inputs) and its inputs as (name, shape, dtype, meaning); "b" stands for any size.

    `outputs` are (name, meaning).
    """

    name: str
    function: Callable[..., Any]
    inputs: tuple[tuple[str, tuple[str | int, ...], str, str], ...]
    outputs: tuple[tuple[str, str], ...]

    def abstract(self) -> list[jax.ShapeDtypeStruct]:
        """The inputs for tracing, with symbolic sizes."""
        scope = export.SymbolicScope()
        return [
            jax.ShapeDtypeStruct(export.symbolic_shape(", ".join(map(str, shape)), scope=scope), dtype)
            for _, shape, dtype, _ in self.inputs
        ]


@dataclass(frozen=True)
class Deployed:
    """Programs loaded from their files; `description` is the content of deployment.json."""

    description: dict[str, Any]
    parameters: Parameters
    programs: dict[str, Callable[..., Any]]

    def encode(
        self, images: np.ndarray, slices: np.ndarray | None = None, present: np.ndarray | None = None
    ) -> jax.Array:
        """Pictures (b, Z, S, S, C) in [0, 255] -> embeddings (b, Z, h, w, dim).

        `slices` (b, Z) is False for padding. `present` (b, C) is False for channels of missing modalities; only models
        that were trained with --modality-dropout take it.
        """
        inputs = {"images": np.asarray(images, np.float32), "slices": slices, "present": present}
        given = [entry["name"] for entry in self.description["programs"]["encoder"]["inputs"][1:]]
        if present is not None and "present" not in given:
            raise UserError(f"{self.description['model']}: needs all its modalities; leave out `present`")
        shapes = {"slices": images.shape[:2], "present": (len(images), images.shape[-1])}
        arrays = [np.ones(shapes[name], bool) if inputs[name] is None else inputs[name] for name in given]
        return self.programs["encoder"](self.parameters, *arrays)

    def decode(self, *inputs: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """Logits (b, p, masks, 4h, 4w) and predicted IoU (b, p, masks) of the inputs that deployment.json lists."""
        return self.programs["decoder"](self.parameters, *inputs)


def deploy(model: SegmentationModel, out: Path, platforms: tuple[str, ...] = PLATFORMS) -> dict[str, Any]:
    """Writes encoder.stablehlo, decoder.stablehlo, parameters.safetensors and deployment.json; returns the latter.

    Numbers of pictures, prompts and clicks stay open; the side of the input and the slices of a sample are fixed.
    If the machine is one of `platforms`, the files are loaded again and compared with the model.

    Raises:
        UserError: the model is a U-Net, or `out` holds something.
        RuntimeError: the loaded programs give other numbers than the model.
    """
    new_folder(model, out)
    parameters, programs = programs_of(model)
    write_safetensors(out / PARAMETERS, parameters, {"format": FORMAT})
    if model.channels.pca is not None:
        model.channels.pca.save(out / PCA)
    with jax.default_matmul_precision(model.compute.precision):
        described = {program.name: _write(program, parameters, out, platforms) for program in programs}
        description = describe(model, platforms, described)
        save(out, description)
        if jax.default_backend() in [{"cuda": "gpu"}.get(name, name) for name in platforms]:
            description["difference"] = _differences(out, programs, parameters)
            save(out, description)
    return description


def new_folder(model: SegmentationModel, out: Path) -> None:
    """Makes the folder of an export. Raises a `UserError` if it holds something, or the model is a U-Net."""
    if model.is_unet:
        raise UserError(f"{model.name}: a U-Net; only SAM is exported")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is no empty folder; name a new one")
    out.mkdir(parents=True, exist_ok=True)


def load(folder: Path | str) -> Deployed:
    """Reads what `deploy` wrote.

    Raises:
        UserError: there is no export in the folder.
    """
    folder = Path(folder)
    if not (folder / DESCRIPTION).is_file():
        raise UserError(f"{folder}: no {DESCRIPTION} there; name a folder that `{command('export')}` wrote")
    description = json.loads((folder / DESCRIPTION).read_text())
    programs = {
        name: jax.jit(export.deserialize(bytearray((folder / program["file"]).read_bytes())).call)
        for name, program in description["programs"].items()
    }
    return Deployed(description, read_safetensors(folder / PARAMETERS)[0], programs)


def programs_of(model: SegmentationModel) -> tuple[Parameters, list[Program]]:
    """The parameters by path, and the two programs that take them."""
    network, size, depth = model.network(), model.image_size, model.depth
    graphdef, state = nnx.split(network)
    leaves = {"/".join(map(str, path)): (path, leaf) for path, leaf in nnx.to_flat_state(state)}

    def bound(parameters: Parameters) -> Sam:
        pairs = [(path, leaf.replace(parameters[name])) for name, (path, leaf) in leaves.items()]
        return nnx.merge(graphdef, nnx.from_flat_state(pairs))

    def encoder(parameters: Parameters, images: jax.Array, slices: jax.Array, *present: jax.Array) -> jax.Array:
        return bound(parameters).encode(images, slices, *present)

    def decoder(parameters: Parameters, embeddings: jax.Array, *prompts: jax.Array) -> tuple[jax.Array, jax.Array]:
        points, labels, boxes, has_box, masks, has_mask = prompts
        slots = make_prompts(points, labels, boxes, has_box)
        return bound(parameters).decode(embeddings, slots, masks=masks, has_mask=has_mask, multimask=None)

    config, tokens = network.config, size // network.config.patch_size
    regions = "the single mask" if len(model.rois) == 1 else f"the masks of {', '.join(model.rois)}"
    pictures = ("b", depth, size, size, config.in_channels)
    present = ("present", ("b", config.in_channels), "bool", "False for channels of modalities that a scan lacks")
    return {name: np.asarray(leaf[...]) for name, (_, leaf) in leaves.items()}, [
        Program(
            "encoder",
            encoder,
            (
                ("images", pictures, "float32", "contiguous slices, grey levels in [0, 255]"),
                ("slices", ("b", depth), "bool", "False for slices that only fill a sample up"),
                *([present] if model.modality_dropout else []),
            ),
            (("embeddings", "one for each slice; the decoder takes them one by one"),),
        ),
        Program(
            "decoder",
            decoder,
            (
                ("embeddings", ("b", tokens, tokens, config.out_dim), "float32", "of b slices"),
                ("points", ("b", "p", "k", 2), "float32", "k clicks (x, y) of p prompts, in pixels of the input"),
                ("labels", ("b", "p", "k"), "int32", "1 inside, 0 outside, -2 no click"),
                ("boxes", ("b", "p", 4), "float32", "(x0, y0, x1, y1) in pixels of the input"),
                ("has_box", ("b", "p"), "bool", "whether the prompt has its box"),
                ("masks", ("b", "p", 4 * tokens, 4 * tokens), "float32", "logits of an earlier prediction"),
                ("has_mask", ("b", "p"), "bool", "whether the prompt has its mask"),
            ),
            (
                ("logits", f"(b, p, masks, side, side), positive inside; {regions}, then the alternatives"),
                ("iou", "(b, p, masks), as predicted"),
            ),
        ),
    ]


def _write(program: Program, parameters: Parameters, out: Path, platforms: tuple[str, ...]) -> dict[str, Any]:
    """Serialises a program; returns its entry in deployment.json."""
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in parameters.items()}
    exported = export.export(jax.jit(program.function), platforms=platforms)(shapes, *program.abstract())
    name = f"{program.name}.stablehlo"
    with replacing(out / name) as temporary:
        temporary.write_bytes(exported.serialize())
    return {
        "file": name,
        "calling_convention_version": exported.calling_convention_version,
        "inputs": [{"name": PARAMETERS, "meaning": "dict of the arrays in that file"}]
        + [
            {"name": name, "shape": list(shape), "dtype": dtype, "meaning": meaning}
            for name, shape, dtype, meaning in program.inputs
        ],
        "outputs": [
            {"name": name, "shape": list(map(str, shape.shape)), "dtype": str(shape.dtype), "meaning": meaning}
            for (name, meaning), shape in zip(program.outputs, exported.out_avals, strict=True)
        ],
    }


def describe(model: SegmentationModel, platforms: tuple[str, ...], programs: dict[str, Any]) -> dict[str, Any]:
    """The content of deployment.json, before the comparison."""
    mean, std = pixel_statistics(model.channels.count)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": model.name,
        "region": model.rois[0],
        "regions": list(model.rois),
        "channels": model.channels.text,
        "modalities": {"needed": list(model.needs.modalities), "some_are_enough": model.needs.dropout},
        "made_with": {"jax": version("jax"), "samjax": __version__},
        "platforms": list(platforms),
        "dtype": model.compute.dtype,
        "pictures": {
            "modality": "percentiles 0.5 and 99.5 of the voxels that are not background become 0 and 255; background "
            f"stays 0; of a brain with a soft edge, of those that differ from it by {BRAIN:g} of the median or more",
            "spacing": None if model.grid is None else f"resampled linearly to {model.grid.words}",
            "slice": _slice_words(model),
            "axes": "rows from anterior to posterior, columns from the patient's right to left, slices upwards",
        },
        "normalisation": {
            "where": "inside the encoder; do not apply it",
            "mean": [round(float(x), 3) for x in mean],
            "std": [round(float(x), 3) for x in std],
        },
        "programs": programs,
        "difference": None,
    }


def _slice_words(model: SegmentationModel) -> str:
    crop = "cropped to the rows and columns in which any slice of the scan shows anything, " if model.cropped else ""
    side = f"the larger side, at least {model.native} pixels" if model.native else "the larger side"
    return f"{crop}padded right and below with 0 to a square of {side}, then resized bilinearly to {model.image_size}"


def save(out: Path, description: dict[str, Any]) -> None:
    with replacing(out / DESCRIPTION) as temporary:
        temporary.write_text(json.dumps(description, indent=2) + "\n")


def _differences(out: Path, programs: list[Program], parameters: Parameters) -> dict[str, float]:
    """The largest difference of each program, loaded from its file, from the model, as a share of the largest value.

    Raises:
        RuntimeError: it is above the tolerance.
    """
    loaded, found = load(out), {}
    for program in programs:
        inputs = example_inputs(program)
        expected = jax.tree.leaves(jax.jit(program.function)(parameters, *inputs))
        ours = jax.tree.leaves(loaded.programs[program.name](loaded.parameters, *inputs))
        found[program.name] = largest_difference(ours, expected)
        if not found[program.name] <= TOLERANCE:
            raise RuntimeError(f"{out}: the loaded {program.name} differs from the model by {found[program.name]:.1e}")
    return found


def largest_difference(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference of outputs, as a share of the largest value of the expected one."""
    return max(float(jnp.abs(x - y).max() / jnp.abs(y).max()) for x, y in zip(found, expected, strict=True))


def example_inputs(program: Program, sizes: Mapping[str, int] | None = None) -> list[np.ndarray]:
    """Random inputs of these sizes; None: two pictures, three prompts, two clicks."""
    rng, sizes = np.random.default_rng(0), sizes or {"b": 2, "p": 3, "k": 2}
    inputs = []
    for name, shape, dtype, _ in program.inputs:
        shape = tuple(sizes.get(side, side) for side in shape)
        if dtype == "bool":
            inputs.append(np.ones(shape, bool) if name == "slices" else rng.random(shape) < 0.5)
        elif dtype == "int32":
            inputs.append(rng.choice([-2, 0, 1], shape).astype(np.int32))
        else:
            inputs.append(rng.normal(size=shape).astype(np.float32) + 40 * (name in ("points", "boxes", "images")))
    return inputs
