"""Converts a SAM checkpoint to samjax's safetensors; PyTorch is not needed.

python convert/torch_to_flax.py sam_vit_b_01ec64.pth vit_b.safetensors
"""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from samjax.cli.process import run_command
from samjax.errors import UserError
from samjax.weights.base import describe, file_sha256, load_weights, save_weights
from samjax.weights.download import BASE_URL, download


def main(
    src: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")],
    dst: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")],
    /,
    model: Annotated[Literal["vit_b", "vit_l", "vit_h"] | None, tyro.conf.arg(name="download")] = None,
    url: str = BASE_URL,
) -> None:
    """Converts a SAM checkpoint (Meta's, MedSAM's or Hugging Face's) to samjax's safetensors.

    Args:
        src: a PyTorch checkpoint (.pth, .bin) or safetensors file, the index of a model in shards
            (model.safetensors.index.json), or a folder of Hugging Face's transformers. With --download, where the
            fetched file is put: a file or a folder.
        dst: the .safetensors file to write.
        model: fetch this model of Meta's into SRC first; it goes on where an earlier try was cut off.
        url: where the files of --download lie.
    """
    if dst.suffix != ".safetensors":
        raise UserError(f"{dst}: expected a name that ends in .safetensors")
    if model is not None:
        src = fetch(model, src, url)
    weights = load_weights(src)
    save_weights(dst, weights.flat, weights.config, source=src.absolute().name, source_sha256=weights.sha256)
    print(describe(weights.config, weights.flat))
    print(f"source  {src}  sha256 {weights.sha256}")
    print(f"written {dst}  sha256 {file_sha256(dst)}")


def fetch(model: str, path: Path, url: str) -> Path:
    """Downloads with a progress bar."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns) as bar:
        task = bar.add_task(model, total=None)
        return download(
            model,
            path,
            base_url=url,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


if __name__ == "__main__":
    run_command(lambda: tyro.cli(main))
