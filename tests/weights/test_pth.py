"""The .pth reader: what PyTorch wrote, and what an attacker or a broken download made of it."""

import pickle
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.weights import pth
from samjax.weights.pth import read_pth
from samjax.weights.pth_writer import write_pth
from tests.weights.checkpoints import TORCH_SAVE, same, write_archive

FLOATS = np.arange(24, dtype=np.float32)


def tensor(
    storage=b"FloatStorage",
    key=b"0",
    count=24,
    offset=0,
    size=(4, 6),
    stride=(6, 1),
    function=b"_rebuild_tensor_v2",
) -> bytes:
    """The pickle of {"a": tensor}, with any of its numbers wrong."""
    text = lambda word: b"X" + len(word).to_bytes(4, "little") + word  # noqa: E731
    number = lambda value: b"J" + value.to_bytes(4, "little", signed=True)  # noqa: E731
    group = lambda values: b"(" + b"".join(map(number, values)) + b"t"  # noqa: E731
    identity = (
        b"(" + text(b"storage") + b"ctorch\n" + storage + b"\n" + text(key) + text(b"cpu") + number(count) + b"tQ"
    )
    arguments = b"(" + identity + number(offset) + group(size) + group(stride) + b"\x89ccollections\nOrderedDict\n)Rt"
    return b"\x80\x02}" + text(b"a") + b"ctorch._utils\n" + function + b"\n" + arguments + b"Rs."


def archive(path, pickled, **members) -> dict[str, np.ndarray]:
    return read_pth(write_archive(path / "a.pth", pickled, {"0": FLOATS.tobytes()}, **members))


def test_reads_what_torch_wrote():
    """The stored file was written by torch.save; it lies under `state_dict` beside other things."""
    content, base = read_pth(TORCH_SAVE), FLOATS.reshape(4, 6)
    expected = {
        "base": base,
        "transposed": base.T,
        "part": base[1:3, ::2],
        "scalar": np.float32(7),
        "parameter": base[0],
        "empty": np.zeros((0, 3), np.float32),
        "half": base.astype(np.float16),
        "double": base.astype(np.float64),
        "long": base.astype(np.int64),
        "bool": base > 5,
    }
    assert content["epoch"] == 3
    state = content["state_dict"]
    bfloat16 = state.pop("bfloat16")
    assert bfloat16.dtype.name == "bfloat16"
    assert np.array_equal(bfloat16.astype(np.float32), base)
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == value.dtype, name
        assert np.array_equal(state[name], value), name


def test_tensors_map_the_file(tmp_path):
    write_pth(tmp_path / "a.pth", {"a": FLOATS})
    value = read_pth(tmp_path / "a.pth")["a"]
    assert not value.flags.writeable
    assert not value.flags.owndata
    assert value.flags.aligned


def test_a_view_is_read_at_its_offset_and_stride(tmp_path):
    found = archive(tmp_path, tensor(offset=7, size=(2, 3), stride=(6, 2)))["a"]
    assert np.array_equal(found, FLOATS.reshape(4, 6)[1:3, 1::2])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"offset": 1}, "does not fit"),
        ({"offset": -1}, "wrong kind"),
        ({"size": (5, 6)}, "does not fit"),
        ({"size": (-4, 6)}, "wrong kind"),
        ({"size": (4, 6, 2)}, "with stride"),
        ({"stride": (7, 1)}, "does not fit"),
        ({"stride": (-6, 1)}, "wrong kind"),
        ({"size": (2**31 - 1, 6), "stride": (0, 1)}, "does not fit"),
        ({"count": 25}, "25 elements of float32 are declared"),
        ({"storage": b"DoubleStorage"}, "24 elements of float64 are declared"),
        ({"storage": b"ComplexFloatStorage"}, "names torch.ComplexFloatStorage"),
        ({"key": b"1"}, "lacks its member 'archive/data/1'"),
        ({"key": b"../data.pkl"}, "lacks its member"),
        ({"function": b"_rebuild_qtensor"}, "names torch._utils._rebuild_qtensor"),
    ],
)
def test_a_tensor_that_leaves_its_storage_is_refused(tmp_path, change, reason):
    with pytest.raises(UserError) as caught:
        archive(tmp_path, tensor(**change))
    assert reason in str(caught.value)
    assert str(tmp_path / "a.pth") in str(caught.value)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_a_malicious_checkpoint_is_refused_and_not_run(tmp_path):
    pickled = pickle.dumps({"model": {"image_encoder.pos_embed": Evil(tmp_path / "ran")}}, 2)
    with pytest.raises(UserError) as caught:
        archive(tmp_path, pickled)
    assert f"{tmp_path / 'a.pth'}: its pickle names " in str(caught.value)
    assert "open" in str(caught.value)
    assert "nothing of it was executed" in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept", [5, 100, 0.3, 0.9, -1])
def test_truncated(tmp_path, kept):
    write_pth(tmp_path / "whole.pth", {"a": FLOATS, "b": FLOATS})
    data = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match="truncated or damaged"):
        read_pth(tmp_path / "a.pth")


def test_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match=r"not one that torch\.save wrote"):
        read_pth(tmp_path / "a.pth")


def test_compressed_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", tensor())
        file.writestr("archive/data/0", FLOATS.tobytes())
    with pytest.raises(UserError, match="is compressed or encrypted"):
        read_pth(tmp_path / "a.pth")


def test_a_member_that_reaches_past_the_file_is_refused(tmp_path):
    write_pth(tmp_path / "a.pth", {"a": FLOATS})
    data = bytearray((tmp_path / "a.pth").read_bytes())
    entry = data.rindex(b"archive/data/0") - 46  # the member's entry in the zip's directory
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + 24 : entry + 28] = (1 << 20).to_bytes(4, "little")  # its size
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(UserError, match="'archive/data/0' lies outside the file"):
        read_pth(tmp_path / "a.pth")


def test_big_endian_is_refused(tmp_path):
    with pytest.raises(UserError, match="big-endian"):
        archive(tmp_path, tensor(), byteorder=b"big")


def test_an_oversized_pickle_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(pth, "MAX_PICKLE_BYTES", 100)
    with pytest.raises(UserError, match="at most 100"):
        archive(tmp_path, tensor())


def test_damaged_bytes_never_escape_as_another_error(tmp_path):
    """Whatever bytes change, the reader returns tensors or says that the file is wrong."""
    whole = TORCH_SAVE.read_bytes()
    rng = np.random.default_rng(0)
    read = 0
    for _ in range(500):
        data = bytearray(whole)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            data[position] = rng.integers(256)
        (tmp_path / "a.pth").write_bytes(data)
        with suppress(UserError):
            read_pth(tmp_path / "a.pth")
            read += 1
    assert 50 < read < 450


def test_writer_is_read_back_and_deterministic(tmp_path):
    values = {
        "a.weight": FLOATS.reshape(4, 6),
        "b": FLOATS.reshape(4, 6).T,
        "c": np.float32(3) + np.zeros(()),
    }
    values["half"] = FLOATS.astype(np.float16)
    write_pth(tmp_path / "a.pth", values)
    write_pth(tmp_path / "b.pth", values)
    assert same(read_pth(tmp_path / "a.pth"), values)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
