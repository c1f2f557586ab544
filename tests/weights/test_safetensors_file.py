"""Our reading and writing of safetensors against the package's own."""

import json
import struct
from contextlib import suppress

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from samjax.errors import UserError
from samjax.weights.safetensors_file import read_safetensors, write_safetensors
from tests.weights.checkpoints import same

BASE = np.arange(24, dtype=np.float32).reshape(4, 6)
VALUES = {
    "z": BASE,
    "transposed": np.ascontiguousarray(BASE.T),
    "half": BASE.astype(np.float16),
    "bfloat16": BASE.astype(ml_dtypes.bfloat16),
    "scalar": np.full((), 7, np.float32),
    "long": BASE.astype(np.int64),
    "empty": np.zeros((0, 3), np.float32),
}


def test_reads_what_the_package_writes(tmp_path):
    save_file(VALUES, tmp_path / "a.safetensors", metadata={"key": "value"})
    values, metadata = read_safetensors(tmp_path / "a.safetensors")
    assert same(values, VALUES)
    assert metadata == {"key": "value"}
    assert not values["z"].flags.owndata


def test_the_package_reads_what_we_write(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", VALUES | {"transposed": BASE.T}, {"key": "value"})
    with safe_open(tmp_path / "a.safetensors", framework="numpy") as file:
        assert same({name: file.get_tensor(name) for name in file.keys()}, VALUES)  # noqa: SIM118
        assert file.metadata() == {"key": "value"}


def test_the_same_weights_are_the_same_bytes(tmp_path):
    write_safetensors(tmp_path / "a", VALUES, {"a": "1", "b": "2"})
    write_safetensors(tmp_path / "b", VALUES, {"b": "2", "a": "1"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_without_metadata(tmp_path):
    save_file(VALUES, tmp_path / "a.safetensors")
    assert read_safetensors(tmp_path / "a.safetensors")[1] == {}


@pytest.mark.parametrize("kept", [9, 60, -1])
def test_truncated(tmp_path, kept):
    write_safetensors(tmp_path / "whole", VALUES, {})
    (tmp_path / "a").write_bytes((tmp_path / "whole").read_bytes()[:kept])
    with pytest.raises(UserError, match="truncated or damaged safetensors"):
        read_safetensors(tmp_path / "a")


def test_an_unknown_type_is_named(tmp_path):
    header = json.dumps({"a": {"dtype": "F8_E5M2", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    with pytest.raises(UserError, match="'a' is stored as F8_E5M2"):
        read_safetensors(tmp_path / "a")


def test_damaged_headers_never_escape_as_another_error(tmp_path):
    write_safetensors(tmp_path / "whole", VALUES, {"key": "value"})
    whole = (tmp_path / "whole").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(400):
        data = bytearray(whole)
        data[rng.integers(0, 600)] = rng.integers(256)
        (tmp_path / "a").write_bytes(data)
        with suppress(UserError):
            read_safetensors(tmp_path / "a")
