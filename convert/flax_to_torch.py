"""Converts samjax's weights and runs to PyTorch's; PyTorch is not needed.

python convert/flax_to_torch.py vit_b.safetensors vit_b.pth
python convert/flax_to_torch.py runs/latest fine_tuned.pth
"""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from samjax.cli.process import run_command
from samjax.errors import UserError
from samjax.weights.base import Weights, describe, file_sha256, load_weights
from samjax.weights.export import plain_sam, save_meta, save_transformers
from samjax.weights.hugging_face import is_model_folder, weights_file


def main(
    src: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")],
    dst: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")],
    /,
    spelling: Annotated[Literal["meta", "transformers"], tyro.conf.arg(name="format")] = "meta",
    weights: str | None = None,
) -> None:
    """Writes weights for Meta's code or for `transformers`.

    Args:
        src: a .safetensors file of samjax (or whatever else torch_to_flax.py reads), a finished run's folder, or the
            final.safetensors in it. Of a run, LoRA is merged into the base weights, and averaged weights are taken
            where it has some; runs with a depth above 1 cannot be written.
        dst: for Meta's code a .pth or .safetensors file; for transformers a new folder, or a .safetensors
            file alone.
        spelling: whose names to write.
        weights: where a run's base weights have moved to.
    """
    found, notes = _read(src, weights)
    written = save_meta(dst, found.flat) if spelling == "meta" else save_transformers(dst, found.flat, found.config)
    print(describe(found.config, found.flat))
    print(f"source  {src}  sha256 {found.sha256}")
    print(f"written {written}  sha256 {file_sha256(written)}")
    for note in notes:
        print(note)


def _read(src: Path, base: str | None) -> tuple[Weights, list[str]]:
    """The weights of a file or a run, with the sha256 of the file read, and what to know about a run's."""
    from samjax.runs.folder import CONFIG, FINAL
    from samjax.runs.trained import load_trained

    folder = src.parent if src.name == FINAL else src
    if not (folder / CONFIG).is_file() or is_model_folder(folder):
        return load_weights(src)._replace(sha256=file_sha256(weights_file(src))), []
    config, trained = load_trained(folder, base)
    if config.architecture is None:
        raise UserError(f"{folder}: a run of the U-Net; only SAM has a place in Meta's code and in transformers")
    size = config.options.image_size
    flat, architecture = plain_sam(folder, trained.base | trained.trained, config.architecture, config.adaptation, size)
    notes = [f"input   {size} x {size}, channels {config.options.channels}, prompts {','.join(trained.prompts)}"]
    if architecture.in_channels != 3:
        notes.append(
            f"{architecture.in_channels} channels: build the image encoder with in_chans={architecture.in_channels} "
            "(transformers: num_channels), and normalise each channel with the mean of SAM's three means and deviations"
        )
    return Weights(flat, architecture, file_sha256(folder / FINAL)), notes


if __name__ == "__main__":
    run_command(lambda: tyro.cli(main))
