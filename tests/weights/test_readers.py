"""Which kind of file lies under a name, and what is said of files of other kinds."""

import pickle

import pytest

from samjax.weights.pth_writer import write_pth
from tests.weights.checkpoints import expect_line, random_named


def test_malicious(tmp_path):
    write_pth(tmp_path / "a.pth", random_named("meta"))
    data = (tmp_path / "a.pth").read_bytes()
    evil = b"cposix\nsystem\n"
    name = b"ctorch._utils\n_rebuild_tensor_v2\n"
    assert data.count(name) > 100
    patched = data.replace(name, evil + b"0" * (len(name) - len(evil)), 1)
    (tmp_path / "a.pth").write_bytes(patched)
    expect_line(tmp_path / "a.pth", "names posix.system", "nothing of it was executed")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", ["it is empty"]),
        (b"<!DOCTYPE html><html></html>", ["neither a PyTorch checkpoint nor a safetensors file", "DOCTYPE"]),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"rest", ["PyTorch before 1.6", "torch.save"]),
        (b"PK\x03\x04" + b"\0" * 100, ["truncated or damaged"]),
        (b"\x40\0\0\0\0\0\0\0{" + b" " * 20, ["truncated or damaged"]),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", ["git lfs pull"]),
    ],
    ids=["empty", "web page", "old torch", "cut zip", "cut safetensors", "git lfs"],
)
def test_other_files(tmp_path, content, parts):
    (tmp_path / "a.pth").write_bytes(content)
    expect_line(tmp_path / "a.pth", *parts)


def test_no_file(tmp_path):
    expect_line(tmp_path / "none.pth", "no such file")
    expect_line(tmp_path, "is a folder")
