"""A pickle is read as data: what it names is looked up or refused, and never run."""

import os
import pickle
import pickletools
import struct
from collections import OrderedDict

import pytest

from samjax.weights.inert_pickle import Name, PickleRefused, read_pickle


def read(data: bytes) -> object:
    return read_pickle(
        data,
        constructors={
            "collections.OrderedDict": lambda *pairs: dict(*pairs),
            "made.Pair": lambda a, b: ("pair", a, b),
        },
        constants={"torch.FloatStorage"},
        persistent=lambda identity: ("stored", identity),
    )


VALUE = {
    "a": [1, -1, 300, 70000, 1 << 40, 2.5, True, False, None],
    "b": (),
    "c": ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_comes_out_as_it_is(protocol):
    assert read(pickle.dumps(VALUE, protocol)) == VALUE


def test_shared_objects_stay_shared():
    inner = [1]
    first, second = read(pickle.dumps([inner, inner], 2))
    assert first is second


@pytest.mark.parametrize("protocol", [2, 4])
def test_ordered_dict_with_attributes_is_a_dict(protocol):
    state = OrderedDict(b=1, a=2)
    state._metadata = {"version": 1}
    found = read(pickle.dumps(state, protocol))
    assert found == {"b": 1, "a": 2}
    assert list(found) == ["b", "a"]


def test_names_and_persistent_ids():
    assert read(b"\x80\x02ctorch\nFloatStorage\n.") == Name("torch.FloatStorage")
    assert read(b"\x80\x02X\x01\x00\x00\x00kQ.") == ("stored", "k")
    assert read(b"\x80\x02cmade\nPair\nK\x01K\x02\x86R.") == ("pair", 1, 2)


class Evil:
    """Pickles as a call of os.system, which leaves a file behind if it runs."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"a": [({"b": evil},)]}], ids=["bare", "nested"])
def test_calls_are_refused_and_not_run(tmp_path, protocol, wrap):
    data = pickle.dumps(wrap(Evil(tmp_path / "ran")), protocol)
    with pytest.raises(PickleRefused, match=r"names (posix|nt)\.system|operation"):
        read(data)
    assert not (tmp_path / "ran").exists()
    pickle.loads(data)
    if wrap(1) == 1:
        assert (tmp_path / "ran").exists(), "the test's own pickle is harmless"


ATTACKS = {
    "GLOBAL and REDUCE": b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.",
    "STACK_GLOBAL of odd types": b"\x80\x04K\x01]\x93.",
    "a dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x16OrderedDict.__init__.os\x93.",
    "INST": b"(X\x02\x00\x00\x00lsios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nX\x02\x00\x00\x00lso.",
    "NEWOBJ of an allowed name": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "EXT1": b"\x80\x02\x82\x01.",
    "text PERSID": b"Pkey\n.",
    "a call of a constant": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "a call of a string": b"\x80\x02X\x02\x00\x00\x00ls)R.",
    "a call without a tuple": b"\x80\x02cmade\nPair\n]R.",
    "a call with a wrong number": b"\x80\x02cmade\nPair\n)R.",
    "BUILD on a name": b"\x80\x02ccollections\nOrderedDict\n}b.",
    "BUILD on a list": b"\x80\x02]}b.",
    "APPEND to a name": b"\x80\x02cmade\nPair\nK\x01a.",
    "SETITEM in a name": b"\x80\x02cmade\nPair\nK\x01K\x02s.",
    "a tuple as a key": b"\x80\x02})K\x01s.",
    "an odd number of items": b"\x80\x02}(K\x01u.",
    "bytes": b"\x80\x03C\x01a.",
    "an empty stack": b"\x80\x020.",
    "STOP on nothing": b"\x80\x02.",
    "TUPLE without a mark": b"\x80\x02t.",
    "too few for TUPLE3": b"\x80\x02K\x01\x87.",
    "a memo never filled": b"\x80\x02h\x07.",
    "no end": b"\x80\x02K\x01",
    "an unknown opcode": b"\x80\x02\xff.",
    "broken UTF-8": b"\x80\x02X\x01\x00\x00\x00\xff.",
    "a string longer than the file": b"\x80\x02X\xff\xff\xff\x7fa.",
    "empty": b"",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_anything_else_is_refused_in_one_line(attack):
    with pytest.raises(PickleRefused) as caught:
        read(ATTACKS[attack])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_bombs_cost_nothing():
    deep = b"\x80\x02)" + b"\x85" * 200_000
    doubling = b"\x80\x02]q\x00" + b"".join(
        b"]q" + bytes([i]) + (b"h" + bytes([i - 1]) + b"a") * 2 for i in range(1, 100)
    )
    with pytest.raises(PickleRefused, match="key"):
        read(b"\x80\x02}" + deep[2:] + b"K\x01s.")  # as a dict's key its hash would overflow the C stack
    read(doubling + b".")
    assert read(b"\x80\x02K\x07r" + struct.pack("<I", 0xFFFFFFFF) + b".") == 7  # a memo slot far out


def test_every_opcode_is_either_handled_or_refused():
    """A new opcode in a later Python is refused until someone looks at it."""
    for opcode in pickletools.opcodes:
        data = b"\x80\x02" + opcode.code.encode("latin-1") + b"\x00" * 16
        with pytest.raises(PickleRefused):
            read(data)
