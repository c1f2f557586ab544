"""Small SAM weights and hand-made checkpoint files for the tests of this folder."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.models.config import SamConfig
from samjax.weights import pth_writer
from samjax.weights.architecture import expected_shapes
from samjax.weights.base import load_weights

# No two sizes that a transposition could exchange are equal.
SMALL = SamConfig(
    embed_dim=32,
    depth=3,
    num_heads=2,
    global_attn_indexes=(1,),
    window_size=3,
    patch_size=4,
    image_size=20,
    mlp_dim=40,
    out_dim=64,
    decoder_mlp_dim=24,
    mask_channels=8,
    iou_head_dim=20,
)

# Names and shapes of the official models in that size, under "meta" and "transformers" (see test_parity.py).
GOLDEN = json.loads((Path(__file__).parent / "names_small.json").read_text())

# A file that torch.save 2.13.0 wrote, with tensors of many kinds: `odd_state` in test_parity.py makes it.
TORCH_SAVE = Path(__file__).parent / "torch_save.pth"


def random_flat(config: SamConfig = SMALL, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights by our paths."""
    rng = np.random.default_rng(seed)
    return {path: rng.normal(size=shape).astype(np.float32) for path, shape in expected_shapes(config).items()}


def random_named(spelling: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of the small size by the names of a PyTorch model."""
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in GOLDEN[spelling].items()}


def write_archive(path: Path, pickled: bytes, storages: dict[str, bytes], **members: bytes) -> Path:
    """A checkpoint's zip archive around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)
    return path


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    """Whether two sets of tensors have the same names, shapes, types and bits."""
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


def expect_line(path, *parts: str) -> None:
    """Loading `path` fails with one line that begins with its name and holds every part."""
    with pytest.raises(UserError) as caught:
        load_weights(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert len(line) < 700
    for part in parts:
        assert part in line


def write_nested(path: Path, content: dict) -> Path:
    """A checkpoint as torch.save writes it of dicts within dicts, with tensors, strings and numbers."""
    storages: dict[str, bytes] = {}

    def pickled(value: object) -> bytes:
        if isinstance(value, dict):
            return b"}(" + b"".join(pickled(key) + pickled(x) for key, x in value.items()) + b"u"
        if isinstance(value, np.ndarray):
            key = str(len(storages))
            storages[key] = value.tobytes()
            return pth_writer._tensor(key, value)
        return pickle.dumps(value, 2)[2:-1]

    return write_archive(path, b"\x80\x02" + pickled(content) + b".", storages)
