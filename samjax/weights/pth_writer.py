"""Writes a state dict as `torch.save` would, without PyTorch, for `torch.load(..., weights_only=True)`."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from samjax.files import replacing
from samjax.weights.pth import STORAGES

_ALIGNMENT = 64


def write_pth(path: Path | str, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes {name: array} as a PyTorch checkpoint; the same content gives the same bytes."""
    with replacing(path) as temporary, temporary.open("wb") as file, zipfile.ZipFile(file, "w") as archive:

        def add(name: str, data: bytes | memoryview) -> None:
            info = zipfile.ZipInfo(f"archive/{name}")
            info.file_size = len(data)
            # PyTorch maps storages, so each starts at a multiple of 64 bytes: an extra field fills the gap.
            gap = -(file.tell() + 30 + len(info.filename) + 4) % _ALIGNMENT
            info.extra = b"FB" + struct.pack("<H", gap) + b"Z" * gap
            with archive.open(info, "w") as member:
                member.write(data)

        add("data.pkl", _pickle(tensors))
        add("byteorder", b"little")
        add("version", b"3\n")
        for index, value in enumerate(tensors.values()):
            add(f"data/{index}", np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def _pickle(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A protocol 2 pickle of a dict whose values rebuild tensors from storages 0, 1, 2, ..."""
    items = b"".join(_text(name) + _tensor(str(index), value) for index, (name, value) in enumerate(tensors.items()))
    return b"\x80\x02}(" + items + b"u."


def _tensor(key: str, value: np.ndarray) -> bytes:
    storages = {dtype: name for name, dtype in STORAGES.items()}
    storage = _tuple(_text("storage"), _name(storages[value.dtype]), _text(key), _text("cpu"), _integer(value.size))
    size = _tuple(*map(_integer, value.shape))
    strides = [int(np.prod(value.shape[axis + 1 :])) for axis in range(value.ndim)]
    hooks = _name("collections.OrderedDict") + b")R"
    arguments = _tuple(storage + b"Q", _integer(0), size, _tuple(*map(_integer, strides)), b"\x89", hooks)
    return _name("torch._utils._rebuild_tensor_v2") + arguments + b"R"


def _name(dotted: str) -> bytes:
    module, name = dotted.rsplit(".", 1)
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(number: int) -> bytes:
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"
