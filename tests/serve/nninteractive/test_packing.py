"""The wire format against nnInteractive's own, and against bytes that no client sends."""

import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from samjax.errors import UserError
from samjax.serve.nninteractive.packing import TYPES, pack_array, unpack_array

theirs = pytest.importorskip("nnInteractive.inference.remote.serialization")

LIMIT = 1 << 20
ANY = arrays.arrays(st.sampled_from(TYPES).map(np.dtype), arrays.array_shapes(min_dims=3, max_dims=3, max_side=9))


def bits(array: np.ndarray) -> bytes:
    return array.tobytes()


@given(ANY)
@settings(max_examples=200, deadline=None)
def test_both_read_what_the_other_packs(array: np.ndarray):
    ours, back = unpack_array(theirs.pack_array(array), LIMIT, 3), theirs.unpack_array(pack_array(array))
    for found in (ours, back):
        assert (found.dtype, found.shape, bits(found)) == (array.dtype, array.shape, bits(array))


def test_arrays_of_other_orders_are_packed_as_they_are():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for one in (array.T, array[::-1], array.astype(">i2")):
        np.testing.assert_array_equal(theirs.unpack_array(pack_array(one)), one)


def test_a_large_array_of_one_value_takes_few_bytes():
    array = np.zeros((64, 64, 64), np.float32)
    packed = pack_array(array)
    assert len(packed) < 200
    np.testing.assert_array_equal(unpack_array(packed, array.nbytes, 3), array)


def header(name: bytes = b"uint8", shape: tuple[int, ...] = (2, 2, 2), magic: bytes = b"NNIA", version=1, codec=1):
    return struct.pack("<4sBBBB", magic, version, codec, len(shape), len(name)) + name + struct.pack(
        f"<{len(shape)}q", *shape
    )  # fmt: skip


def chunks(*pairs: tuple[int, bytes]) -> bytes:
    return struct.pack("<I", len(pairs)) + b"".join(struct.pack("<QQ", n, len(data)) + data for n, data in pairs)


def blosc(length: int) -> bytes:
    """A chunk of blosc2 that holds so many zeros."""
    return pack_array(np.zeros((length, 1, 1), np.uint8))[8 + 5 + 24 + 4 + 16 :]


GOOD = header() + chunks((8, blosc(8)))


def test_the_bytes_of_these_tests_are_taken_where_nothing_is_wrong():
    np.testing.assert_array_equal(unpack_array(GOOD, 8, 3), np.zeros((2, 2, 2), np.uint8))
    two = header() + chunks((4, blosc(4)), (4, blosc(4)))
    np.testing.assert_array_equal(unpack_array(two, 8, 3), np.zeros((2, 2, 2), np.uint8))


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (b"", "too early"),
        (GOOD[:7], "too early"),
        (GOOD[:-1], "too early"),
        (GOOD + b"x", "1 bytes behind"),
        (header(magic=b"NNIB") + GOOD[37:], "expected b'NNIA'"),
        (header(version=2) + GOOD[37:], "version 1"),
        (header(codec=3) + GOOD[37:], "codec 1 or 2"),
        (header(shape=(2, 2)) + GOOD[37:], "2 axes: expected 3"),
        (header(shape=(1,) * 200) + GOOD[37:], "200 axes: expected 3"),
        (header(b"object") + GOOD[38:], "type 'object'"),
        (header(b"V8") + GOOD[34:], "type 'V8'"),
        (header(b"complex128") + GOOD[42:], "type 'complex128'"),
        (header(b"\xff\xfe") + GOOD[34:], "type"),
        (header(shape=(2, 0, 2)) + chunks(), "at least 1"),
        (header(shape=(2, -2, -2)) + GOOD[37:], "at least 1"),
        (header(shape=(2**62, 2**62, 2**62)) + GOOD[37:], "more than the 8"),
        (header(shape=(2**33, 2**31, 1)) + GOOD[37:], "more than the 8"),
        (header(shape=(3, 3, 1)) + chunks((9, blosc(9))), "more than the 8"),
        (header() + chunks(), "chunks of 0 bytes for an array of 8"),
        (header() + chunks((4, blosc(4))), "chunks of 4 bytes for an array of 8"),
        (header() + chunks((8, blosc(8)), (8, blosc(8))), "a chunk of 8 bytes where 0 are left"),
        (header() + chunks((16, blosc(16))), "a chunk of 16 bytes where 8 are left"),
        (header() + chunks((0, blosc(8))), "a chunk of 0 bytes"),
        (header() + chunks((2**63, blosc(8))), "where 8 are left"),
        (header(b"uint16", (2, 2, 1)) + chunks((3, blosc(3)), (5, blosc(5))), "a chunk of 3 bytes"),
        (header() + chunks((8, blosc(2**20))), "a chunk of 8 bytes that says 1048576"),
        (header() + chunks((8, blosc(4))), "a chunk of 8 bytes that says 4"),
        (header() + chunks((8, b"short")), "fewer than its header"),
        (header() + chunks((8, bytes(40))), "chunk"),
        (header() + chunks((8, b"\xff" * 40)), "chunk"),
        (header() + struct.pack("<I", 2**32 - 1), "too early"),
    ],
)
def test_bytes_that_no_client_sends_are_refused(packed: bytes, words: str):
    with pytest.raises(UserError, match=words):
        unpack_array(packed, 8, 3)


def test_lying_sizes_allocate_nothing(monkeypatch: pytest.MonkeyPatch):
    def allocated(*_: object, **__: object) -> None:
        raise AssertionError("memory was allocated")

    monkeypatch.setattr(np, "zeros", allocated)
    for packed in (
        header(shape=(2**40, 1, 1)) + GOOD[37:],
        header(b"float64", (100, 100, 1)) + GOOD[37:],
        header(b"float64", (100, 100, 1)) + struct.pack("<IQQ", 1, 80000, 2**40),
    ):
        with pytest.raises(UserError):
            unpack_array(packed, 80000, 3)


@given(st.binary(max_size=200), st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_an_array_or_a_refusal(data: bytes, place: int):
    array = np.arange(300, dtype=np.int16).reshape(10, 10, 3)
    packed = bytearray(theirs.pack_array(array))
    packed[place : place + len(data)] = data
    for some in (data, bytes(packed)):
        with suppress(UserError):
            assert unpack_array(some, 600, 3).nbytes <= 600


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_single_wrong_bytes_never_crash(data: st.DataObject):
    packed = bytearray(theirs.pack_array(np.arange(3000, dtype=np.float32).reshape(10, 10, 30)))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UserError):
        assert unpack_array(bytes(packed), 12000, 3).nbytes <= 12000
