"""Reading and writing safetensors without copying all tensors into memory.

The safetensors package checks a file's header here, but its NumPy side copies every tensor it reads, orders
the metadata at random (the same weights would get another sha256 each time) and writes a transposed view as
if it were contiguous. The format is small: 8 bytes with the header's length, the header in JSON, the tensors.
"""

import json
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from samjax.errors import UserError
from samjax.files import replacing

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_ALIGNMENT = 64


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns (tensors by name, metadata); the tensors are read-only arrays that map the file.

    Raises:
        UserError: the file is truncated, damaged or holds a dtype that no weights have.
    """
    try:
        with safe_open(path, framework="numpy"):
            pass  # opening checks that the header is sound and its tensors fill the file exactly
    except SafetensorError as error:
        raise UserError(
            f"{path}: truncated or damaged safetensors file ({error}); download or copy it again"
        ) from error
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    (length,) = struct.unpack("<Q", mapped[:8])
    header = json.loads(mapped[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise UserError(f"{path}: {name!r} is stored as {entry['dtype']}; expected one of {', '.join(DTYPES)}")
        begin, end = entry["data_offsets"]
        data = memoryview(mapped)[8 + length + begin : 8 + length + end]
        tensors[name] = np.frombuffer(data, DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def write_safetensors(path: Path | str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes tensors (of any layout in memory) one after the other; the same content gives the same bytes."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name, value in tensors.items():
        begin, end = end, end + value.nbytes
        header[name] = {"dtype": names[value.dtype], "shape": list(value.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            file.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)  # bfloat16 has no buffer
