"""Arrays on the wire of nnInteractive's protocol: a short header, then chunks that blosc2 compressed.

All integers are little-endian:

    magic      4 bytes     NNIA
    version    uint8       1
    codec      uint8       1 zstd, 2 lz4
    axes       uint8       number of axes
    letters    uint8       length of the name of the type
    type       ASCII       NumPy's name, such as float32
    shape      int64       for each axis
    chunks     uint32      number of chunks
    each chunk             uint64 length when decompressed, uint64 length as sent, the bytes that blosc2 made

Nothing is allocated or decompressed before every length has been checked against the others and against a limit.
"""

import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

import blosc2
import numpy as np

from samjax.errors import UserError

MAGIC, VERSION = b"NNIA", 1
CODECS = {1: blosc2.Codec.ZSTD, 2: blosc2.Codec.LZ4}
TYPES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
)  # fmt: skip
"""The types that are read, by NumPy's names: those that a scan or a mask may have."""
MOST_AXES = 4
LARGEST_CHUNK = 1 << 30
"""Bytes of a chunk when decompressed; blosc2 cannot take 2 GiB at once."""
OVERHEAD = 1 << 16
"""Bytes that a packed array may be larger than the array: the header, and what blosc2 adds to incompressible bytes."""

_START, _CHUNK = struct.Struct("<4sBBBB"), struct.Struct("<QQ")
# Of the header of a blosc2 chunk: its length, and the places of the filters and of the flags.
_FRAME, _FILTERS, _FLAGS = 32, slice(16, 22), 31
_SAFE_FILTERS = {filter_.value for filter_ in (blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE, blosc2.Filter.BITSHUFFLE)}
_LAZY = 0x08  # of the flags: the bytes are in a file


class _Chunk(NamedTuple):
    """A chunk's bytes as sent, and where it goes in the array, in bytes."""

    packed: memoryview
    start: int
    stop: int


def pack_array(array: np.ndarray) -> bytes:
    """The array as the protocol's bytes; its type is one of `TYPES`."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    name = array.dtype.name.encode("ascii")
    raw = memoryview(array.reshape(-1)).cast("B")
    parts = [
        _START.pack(MAGIC, VERSION, 1, array.ndim, len(name)),
        name,
        struct.pack(f"<{array.ndim}q", *array.shape),
        struct.pack("<I", math.ceil(raw.nbytes / LARGEST_CHUNK)),
    ]
    for start in range(0, raw.nbytes, LARGEST_CHUNK):
        piece = raw[start : start + LARGEST_CHUNK]
        packed = blosc2.compress2(
            piece,
            typesize=array.dtype.itemsize,
            codec=blosc2.Codec.ZSTD,
            clevel=3,
            filters=[blosc2.Filter.NOFILTER],
        )
        parts += [_CHUNK.pack(piece.nbytes, len(packed)), packed]
    return b"".join(parts)


def unpack_array(packed: bytes, limit: int, axes: int) -> np.ndarray:
    """The array of the protocol's bytes.

    Args:
        packed: what a client sent.
        limit: largest number of bytes of the array.
        axes: the number of axes that it must have.

    Raises:
        UserError: the bytes are no packed array, are damaged, or hold an array of another number of axes, of no voxels,
            of a type that is not among `TYPES`, or larger than the limit.
    """
    reader = _Reader(memoryview(packed))
    magic, version, codec, count, letters = reader.numbers(_START)
    if magic != MAGIC or version != VERSION or codec not in CODECS:
        raise _damaged(f"begins with {bytes(packed[:6])!r}; expected {MAGIC!r}, version {VERSION}, codec 1 or 2")
    if count != axes:
        raise UserError(f"array with {count} axes: expected {axes}")
    name = bytes(reader.piece(letters)).decode("ascii", "replace")
    if name not in TYPES:
        raise UserError(f"array of type {name[:20]!r}: expected one of {', '.join(TYPES)}")
    dtype, shape = np.dtype(name), reader.numbers(struct.Struct(f"<{count}q"))
    if min(shape) < 1:
        raise UserError(f"array of shape {shape}: every side must be at least 1")
    size = math.prod(shape) * dtype.itemsize
    if size > limit:
        raise UserError(f"array of shape {shape} and type {name}: {size} bytes, more than the {limit} that are taken")
    chunks = list(_chunks(reader, size, dtype.itemsize))
    # Zeros, since blosc2 may leave bytes as they were where a chunk says so.
    array = np.zeros(math.prod(shape), dtype)
    raw = array.view(np.uint8)
    for chunk in chunks:
        _decompress(chunk, raw[chunk.start : chunk.stop])
    if dtype.kind == "b":
        array = raw != 0  # any other byte than 0 and 1 would be neither True nor False
    return array.reshape(shape)


class _Reader:
    """Takes one part of the bytes after the other; a `UserError` where they end too early."""

    def __init__(self, view: memoryview):
        self.rest = view

    def piece(self, length: int) -> memoryview:
        if length > len(self.rest):
            raise _damaged(f"ends {length - len(self.rest)} bytes too early")
        taken, self.rest = self.rest[:length], self.rest[length:]
        return taken

    def numbers(self, form: struct.Struct) -> tuple:
        return form.unpack(self.piece(form.size))


def _chunks(reader: _Reader, size: int, itemsize: int) -> Iterator[_Chunk]:
    """The chunks, whose lengths add up to `size` and which end where the bytes end."""
    (count,) = reader.numbers(struct.Struct("<I"))
    done = 0
    for _ in range(count):
        length, sent = reader.numbers(_CHUNK)
        if not 0 < length <= min(size - done, LARGEST_CHUNK) or length % itemsize:
            raise _damaged(f"a chunk of {length} bytes where {size - done} are left")
        if sent < _FRAME:
            raise _damaged(f"a chunk sent as {sent} bytes, fewer than its header has")
        yield _Chunk(reader.piece(sent), done, done + length)
        done += length
    if done != size or len(reader.rest):
        raise _damaged(f"chunks of {done} bytes for an array of {size}, and {len(reader.rest)} bytes behind them")


def _decompress(chunk: _Chunk, into: np.ndarray) -> None:
    """Decompresses a chunk into its place. What blosc2 says of the chunk must be what the header says."""
    packed = chunk.packed
    try:
        length, sent, _ = blosc2.get_cbuffer_sizes(packed)
    except (RuntimeError, ValueError):
        raise _damaged("a chunk that is not of blosc2") from None
    if length != into.nbytes or sent != len(packed):
        raise _damaged(f"a chunk of {into.nbytes} bytes that says {length}, sent as {len(packed)} and says {sent}")
    if not set(packed[_FILTERS]) <= _SAFE_FILTERS or packed[_FLAGS] & _LAZY:
        raise _damaged("a chunk with filters that are not taken; expected shuffle or none")
    try:
        blosc2.decompress2(packed, dst=into)
    except (RuntimeError, ValueError, TypeError):
        raise _damaged("a chunk that cannot be decompressed") from None


def _damaged(what: str) -> UserError:
    return UserError(f"packed array: {what}; is the client nnInteractive's?")
