"""Reads one file of weights; the kind of file is recognised by its content, not its name."""

from pathlib import Path

from samjax.errors import UserError
from samjax.weights.pth import OLD_TORCH_MAGIC, ZIP_MAGIC, read_pth
from samjax.weights.safetensors_file import read_safetensors

_GIT_LFS = b"version https://git-lfs"


def read_file(path: Path) -> tuple[object, dict[str, str]]:
    """The content of a PyTorch checkpoint or a safetensors file, and the latter's metadata.

    Tensors are read-only arrays that map the file. A safetensors file gives {name: tensor}; a checkpoint any content
    that was saved in it.

    Raises:
        UserError: the file is missing, damaged, malicious or of another kind.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a .pth or .safetensors file")
    with path.open("rb") as file:
        start = file.read(len(_GIT_LFS))
    if start.startswith(ZIP_MAGIC):
        return read_pth(path), {}
    if start[8:9] == b"{":
        return read_safetensors(path)
    if start.startswith(OLD_TORCH_MAGIC):
        raise UserError(
            f"{path}: in the format of PyTorch before 1.6, which is not read; "
            "load it with torch.load and save it again with torch.save"
        )
    if start == _GIT_LFS:
        raise UserError(f"{path}: Git's placeholder for a large file, not the file itself; fetch it with git lfs pull")
    found = f"it begins with {start[: len(OLD_TORCH_MAGIC)]!r}" if start else "it is empty"
    raise UserError(f"{path}: neither a PyTorch checkpoint nor a safetensors file ({found})")
