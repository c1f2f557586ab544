"""Converts samjax's weights back to PyTorch's; PyTorch is not needed.

python convert/flax_to_torch.py vit_b.safetensors vit_b.pth
"""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from samjax.errors import run_door
from samjax.weights.export import save_meta, save_transformers
from samjax.weights.files import file_sha256, load_weights
from samjax.weights.summary import describe


def main(
    src: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")],
    dst: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DST")],
    /,
    spelling: Annotated[Literal["meta", "transformers"], tyro.conf.arg(name="format")] = "meta",
) -> None:
    """Writes weights for Meta's code or for `transformers`.

    Args:
        src: a .safetensors file of samjax (or whatever else torch_to_flax.py reads).
        dst: for Meta's code a .pth or .safetensors file; for transformers a new folder, or a .safetensors
            file alone.
        spelling: whose names to write.
    """
    weights = load_weights(src)
    if spelling == "meta":
        written = save_meta(dst, weights.flat)
    else:
        written = save_transformers(dst, weights.flat, weights.config)
    print(describe(weights.config, weights.flat))
    print(f"source  {src}  sha256 {file_sha256(src)}")
    print(f"written {written}  sha256 {file_sha256(written)}")


if __name__ == "__main__":
    run_door(lambda: tyro.cli(main))
