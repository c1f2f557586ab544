"""A checkpoint of SAM in samjax and in Meta's own PyTorch code, stage by stage: make parity-weights FILE=...

Both get the same picture and prompts. Every stage of the image encoder is compared, then every stage of the decoder on
PyTorch's embedding, then the masks that each makes of the picture by itself.

Exit code 0: all agree; 1: a stage differs; 2: the file cannot be used.
"""

import gc
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from tyro.conf import Positional, arg

from samjax.errors import UserError
from samjax.weights.base import Weights, describe, file_sha256, load_weights
from samjax.weights.hugging_face import weights_file
from samjax.weights.names import from_ours

TOLERANCE = 1e-4
"""Largest allowed difference, as a share of the largest value of PyTorch's stage."""

Stages = dict[str, np.ndarray]


@dataclass(frozen=True)
class Options:
    """Compare a checkpoint in samjax and in Meta's PyTorch code, stage by stage."""

    file: Positional[Path]
    """Checkpoint: Meta's or MedSAM's .pth, or anything else that samjax reads."""
    image_size: Annotated[int | None, arg(help_behavior_hint="(default: what the weights were trained at)")] = None
    """Side of the input in pixels. PyTorch's model gets positions that PyTorch interpolated to it."""
    image: Path | None = None
    """A picture to compare on, resized to a square. Default: noise, in which no value repeats."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Where both compute; gpu in full float32, without TF32."""


@dataclass(frozen=True)
class Row:
    """The difference of a stage: absolute, and as a share of the largest value of PyTorch's."""

    stage: str
    absolute: float
    relative: float

    @property
    def agrees(self) -> bool:
        return self.relative <= TOLERANCE  # not so for nan


def compare(options: Options) -> list[Row]:
    """The rows of all stages. PyTorch's model is gone before samjax's is made.

    Raises:
        UserError: the file or picture cannot be used, or there is no GPU for PyTorch.
    """
    import torch

    from tests.models.oracle import MetaSam

    weights = load_weights(options.file)
    config, side = weights.config, options.image_size or weights.config.image_size
    if side % config.patch_size:
        raise UserError(f"--image-size {side}: expected a multiple of the patch, {config.patch_size}")
    print(describe(config, weights.flat))
    print(f"sha256 {file_sha256(weights_file(options.file))}; input {side} x {side} on the {options.device}")
    torch.backends.cudnn.allow_tf32 = False
    if options.device == "gpu" and not torch.cuda.is_available():
        raise UserError("--device gpu: PyTorch finds no GPU; leave it out")
    images, prompts = picture(options.image, side, config.in_channels), _prompts(side, config.patch_size)
    tensors, how = torch_tensors(options.file, weights)
    print(f"PyTorch {torch.__version__} loads {how}")
    start = time.perf_counter()
    meta = MetaSam(config, tensors, "cuda" if options.device == "gpu" else "cpu")
    del tensors
    encoder = meta.encoder_stages(images)
    embedding = encoder["neck"][0]
    decoder = {name: meta.decoder_stages(embedding, prompt) for name, prompt in prompts.items()}
    print(f"PyTorch: {time.perf_counter() - start:.0f} s", end="; ", flush=True)
    del meta
    gc.collect()
    start = time.perf_counter()
    found, ours, alone = our_stages(weights, images, embedding, list(prompts.values()), options.device)
    print(f"samjax, with compilation: {time.perf_counter() - start:.0f} s\n")
    rows = [_row(name, found[name], encoder[name]) for name in encoder]
    for (name, expected), stages, own in zip(decoder.items(), ours, alone, strict=True):
        rows += [_row(f"{name}: {stage}", stages[stage], expected[stage]) for stage in expected if expected[stage].size]
        rows.append(_row(f"{name}: picture to masks", own["multi masks"], expected["multi masks"]))
        rows.append(_mask_row(name, own["single mask"], expected["single mask"]))
    return rows


def torch_tensors(file: Path, weights: Weights) -> tuple[Mapping[str, Any], str]:
    """The tensors for Meta's code, and how they were read: by PyTorch alone if the file is a plain state dict."""
    import torch

    if file.suffix in (".pth", ".pt"):
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        expected = from_ours(weights.flat, "meta")
        if isinstance(content, Mapping) and content.keys() == expected.keys():
            return content, "the file by itself"
    tensors = {name: torch.from_numpy(np.array(x)) for name, x in from_ours(weights.flat, "meta").items()}
    return tensors, "what samjax read of the file, in Meta's names, since the file is no plain state dict of theirs"


def picture(file: Path | None, side: int, channels: int) -> np.ndarray:
    """A picture (1, side, side, channels) float32 in [0, 255]."""
    from tests.models.cases import pictures

    if file is None:
        return pictures(1, side, side, channels)
    from PIL import Image, UnidentifiedImageError

    try:
        found = Image.open(file).convert("RGB").resize((side, side))
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"--image {file}: cannot be read ({error})") from None
    if channels != 3:
        raise UserError(f"--image {file}: shows red, green and blue; these weights take {channels} channels")
    return np.asarray(found, np.float32)[None]


def our_stages(
    weights: Weights, images: np.ndarray, embedding: np.ndarray, prompts: list[Any], device: str
) -> tuple[Stages, list[Stages], list[Stages]]:
    """The encoder's stages, the decoder's on PyTorch's embedding, and the decoder's on our own."""
    import jax

    from samjax.models.flat import from_flat
    from samjax.models.sam import Sam
    from tests.models.cases import decoder_stages, encoder_stages

    with jax.default_device(jax.devices(device)[0]), jax.default_matmul_precision("highest"):
        model = Sam(weights.config)
        from_flat(model, weights.flat)
        encoder = encoder_stages(model, images)
        return (
            encoder,
            decoder_stages(model, embedding, prompts, slots=2),
            decoder_stages(model, encoder["neck"][0], prompts, slots=2),
        )


def _prompts(side: int, patch: int) -> dict[str, Any]:
    from tests.models.cases import prompts_of_every_type

    return prompts_of_every_type(side, side, patch)


def _row(stage: str, ours: np.ndarray, expected: np.ndarray) -> Row:
    absolute = float(np.abs(np.asarray(ours, np.float64) - expected).max())
    return Row(stage, absolute, absolute / float(np.abs(expected).max()))


def _mask_row(name: str, ours: np.ndarray, expected: np.ndarray) -> Row:
    """How far from 0 the logit of a pixel is at most whose masks differ; 0 where the masks are equal."""
    differs = (ours > 0) != (expected > 0)
    farthest = float(np.abs(expected[differs]).max(initial=0))
    stage = f"{name}: mask, {int(differs.sum())} of {differs.size} pixels differ"
    return Row(stage, farthest, farthest / float(np.abs(expected).max()))


def report(rows: list[Row]) -> bool:
    """Prints the table and the verdict; returns whether all stages agree."""
    width = max(len(row.stage) for row in rows)
    print(f"{'stage':<{width}}  {'absolute':>9}  {'relative':>9}")
    for row in rows:
        print(f"{row.stage:<{width}}  {row.absolute:9.1e}  {row.relative:9.1e}{'' if row.agrees else '  DIFFERS'}")
    wrong = [row for row in rows if not row.agrees]
    worst = max(rows, key=lambda row: np.nan_to_num(row.relative, nan=np.inf))
    print(
        f"\n{'FAIL' if wrong else 'PASS'}: {len(rows) - len(wrong)} of {len(rows)} stages agree to {TOLERANCE:g} of "
        f"their largest value; the largest difference is {worst.relative:.1e} ({worst.stage})"
    )
    return not wrong


def main(arguments: list[str] | None = None) -> int:
    """Compares and reports; the exit code."""
    options = tyro.cli(Options, args=arguments, prog="make parity-weights")
    try:
        return 0 if report(compare(options)) else 1
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
