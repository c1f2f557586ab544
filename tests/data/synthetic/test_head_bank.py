"""The bank of heads on the disk: resumed after a stop, the same by any number of processes."""

import numpy as np
import pytest

from samjax.data.synthetic.head_bank import bank_folder, build_heads, missing_heads, read_head
from tests.data.synthetic.heads import ball_head


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_any_number_of_processes_makes_the_same_files(tmp_path):
    for workers in (1, 2):
        build_heads(tmp_path / str(workers), 2, workers, progress=False, make=ball_head)
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_a_build_that_was_stopped_goes_on_where_it_stopped(tmp_path):
    made = []

    def make(seed, number):
        made.append(number)
        return ball_head(seed, number)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_heads(tmp_path, 3, 1, progress=False, done=stop, make=make)
    assert missing_heads(tmp_path, 3) == [1, 2]
    (tmp_path / "head-00001.npy").write_bytes(b"half a head")  # without its second file it is not finished
    build_heads(tmp_path, 3, 1, progress=False, make=make)
    assert made == [0, 1, 2]
    assert not missing_heads(tmp_path, 3)
    np.testing.assert_array_equal(read_head(tmp_path, 1).voxels, ball_head(0, 1))


def test_tumours_start_where_the_head_has_their_tissue(tmp_path):
    folder = bank_folder(tmp_path)
    build_heads(folder, 1, 1, progress=False, make=ball_head)
    head = read_head(folder, 0)
    middle = (np.asarray(head.voxels.shape[:3]) - 1) / 2

    def radius(places):
        return np.linalg.norm(places - middle, axis=1)

    assert radius(head.white).max() < 33
    assert radius(head.surface).min() > 35
    assert radius(head.surface).max() < 39
    assert (head.stem[:, 0] < 30).all()
