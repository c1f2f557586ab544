"""Reads a PyTorch checkpoint without PyTorch and without executing its pickle.

The format (torch.save since PyTorch 1.6): an uncompressed zip archive with one pickle, `NAME/data.pkl`, whose
persistent ids name storages, and one member `NAME/data/KEY` with the raw bytes of each storage.
"""

import math
import mmap
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from samjax.errors import UserError
from samjax.weights.inert_pickle import Name, PickleRefused, read_pickle

ZIP_MAGIC = b"PK\x03\x04"
# A pickle of the number with which torch.save began its files before PyTorch 1.6.
OLD_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

STORAGES = {
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
}

# A ViT-H checkpoint with its optimiser's state needs about half a megabyte.
MAX_PICKLE_BYTES = 8 << 20


def read_pth(path: Path) -> object:
    """The content of a checkpoint: dicts, lists, strings and numbers, and tensors as read-only arrays.

    The arrays map the file.

    Raises:
        UserError: the file is truncated or damaged, or names anything but plain data and tensors.
    """
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    archive = _Archive(path, mapped)
    constructors: dict[str, Callable[..., object]] = {
        "collections.OrderedDict": _ordered_dict,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
    }
    try:
        return read_pickle(archive.pickle(), constructors, STORAGES, archive.storage)
    except PickleRefused as error:
        raise UserError(
            f"{path}: {error}; nothing of it was executed. Expected a checkpoint as "
            "torch.save(model.state_dict(), file) writes it"
        ) from error


class _Archive:
    """The zip archive of a checkpoint: finds its pickle and maps its storages."""

    def __init__(self, path: Path, mapped: mmap.mmap):
        self.path = path
        self.mapped = mapped
        try:
            with zipfile.ZipFile(path) as archive:
                self.members = {info.filename: info for info in archive.infolist()}
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise UserError(f"{path}: the file is truncated or damaged ({error}); download or copy it again") from error
        pickles = [name for name in self.members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError(f"{path}: a zip archive, but not one that torch.save wrote (it has no single data.pkl)")
        self.prefix = pickles[0].removesuffix("data.pkl")
        order = self.prefix + "byteorder"
        if order in self.members and bytes(self.bytes_of(order)) != b"little":
            raise UserError(f"{path}: written on a big-endian machine; save it again on a little-endian one")

    def pickle(self) -> bytes:
        name = self.prefix + "data.pkl"
        size = self.members[name].file_size
        if size > MAX_PICKLE_BYTES:
            raise UserError(
                f"{self.path}: its pickle has {size} bytes, at most {MAX_PICKLE_BYTES} are read; "
                "save the state dict alone"
            )
        return bytes(self.bytes_of(name))

    def storage(self, identity: object) -> np.ndarray:
        """The one-dimensional storage of a persistent id ("storage", type, key, location, element count)."""
        if not (isinstance(identity, tuple) and len(identity) == 5 and identity[0] == "storage"):
            raise TypeError("a persistent id that is no storage")
        _, kind, key, _, count = identity
        if not (isinstance(kind, Name) and kind.name in STORAGES and isinstance(key, str) and type(count) is int):
            raise TypeError("a persistent id that is no storage")
        data = self.bytes_of(f"{self.prefix}data/{key}")
        dtype = STORAGES[kind.name]
        if len(data) != count * dtype.itemsize:
            raise UserError(
                f"{self.path}: storage {key!r} has {len(data)} bytes, but {count} elements of {dtype} are "
                "declared; the file is damaged"
            )
        return np.frombuffer(data, dtype) if count else np.empty(0, dtype)

    def bytes_of(self, name: str) -> memoryview:
        """The bytes of a member, mapped. Two lengths at byte 26 of its local header tell where they start."""
        info = self.members.get(name)
        if info is None:
            raise UserError(f"{self.path}: the archive lacks its member {name!r}; the file is damaged")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise UserError(
                f"{self.path}: its member {name!r} is compressed or encrypted, which torch.save never does; "
                "save it again"
            )
        header = self.mapped[info.header_offset : info.header_offset + 30]
        start = info.header_offset + 30 + sum(struct.unpack("<26xHH", header)) if len(header) == 30 else -1
        if start < 0 or not header.startswith(ZIP_MAGIC) or start + info.file_size > len(self.mapped):
            raise UserError(f"{self.path}: its member {name!r} lies outside the file; the file is damaged")
        return memoryview(self.mapped)[start : start + info.file_size]


def _ordered_dict(pairs: object = ()) -> dict:
    """An OrderedDict, which `copy` may have written as a list of pairs."""
    if not isinstance(pairs, list | tuple) or not all(isinstance(key, str) for key, _ in pairs):
        raise TypeError("an OrderedDict made of something else than named pairs")
    return dict(pairs)


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None
) -> np.ndarray:
    """A view into a storage, in elements. Raises ValueError where it would leave the storage or repeat it."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, np.ndarray) or not all(type(number) is int and number >= 0 for number in numbers):
        raise TypeError("a tensor whose storage, offset, size or stride is of the wrong kind")
    if len(size) != len(stride):
        raise ValueError(f"a tensor of size {size} with stride {stride}")
    steps = [step if count > 1 else 0 for count, step in zip(size, stride, strict=True)]
    last = offset + sum((count - 1) * step for count, step in zip(size, steps, strict=True))
    if 0 in size:
        return np.empty(size, storage.dtype)
    if math.prod(size) > storage.size or last >= storage.size:
        raise ValueError(
            f"a tensor of size {size}, stride {stride}, offset {offset} does not fit {storage.size} elements"
        )
    return np.lib.stride_tricks.as_strided(
        storage[offset:], size, [step * storage.itemsize for step in steps], writeable=False
    )


def _parameter(tensor: object, requires_grad: object, hooks: object) -> np.ndarray:
    if not isinstance(tensor, np.ndarray):
        raise TypeError("a parameter that is no tensor")
    return tensor
