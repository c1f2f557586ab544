import errno
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from samjax.data.cache import cases as cache
from samjax.data.cache.cases import build_cache, open_case
from samjax.data.formats.layouts import find_cases
from samjax.data.imaging.grids import RunGrid
from samjax.data.imaging.volumes import read_case, resample_volume
from samjax.errors import UserError
from tests.data.trees import example, save, save_brats, save_msd

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def cases(tmp_path):
    for number in range(3):
        save_brats(tmp_path / "data", f"BraTS2021_{number:05d}", example(number), orientation="RAS")
    return find_cases(tmp_path / "data", "adult")


def build(cases, directory, workers=1):
    return build_cache(cases, directory, workers=workers, progress=False)


def test_slices_come_back_where_they_were(tmp_path, cases):
    opened, failures = build(cases, tmp_path / "cache")
    assert not failures
    assert [one.case for one in opened] == cases
    for one in opened:
        volume = read_case(one.case)
        images, labels = one.read(0, 9)
        assert images.shape == (9, 20, 16, 4)
        assert images.dtype == labels.dtype == np.uint8
        np.testing.assert_array_equal(images[volume.box.index], volume.images)
        np.testing.assert_array_equal(labels[volume.box.index], volume.labels)
        assert images.sum() == volume.images.sum()
        assert one.geometry == volume.geometry
        assert one.shape == (9, 20, 16)
        assert one.labelled
        np.testing.assert_array_equal(one.counts, volume.counts)
        for code in range(4):
            np.testing.assert_array_equal((labels == code).sum(axis=(1, 2)), one.counts[:, code])


def test_part_of_a_volume_padded_and_beyond_its_ends(tmp_path, cases):
    (one, *_), _ = build(cases, tmp_path / "cache")
    images, labels = one.read(0, 9)
    some, some_labels = one.read(6, 12, size=24)
    assert some.shape == (6, 24, 24, 4)
    np.testing.assert_array_equal(some[:3, :20, :16], images[6:])
    np.testing.assert_array_equal(some_labels[:3, :20, :16], labels[6:])
    assert not some[3:].any()
    assert not some[:, 20:].any()
    assert not some[:, :, 16:].any()
    np.testing.assert_array_equal(one.read(-2, 2)[0][2:], images[:2])
    assert not one.read(40, 42)[0].any()
    with pytest.raises(ValueError, match="does not hold"):
        one.read(0, 1, size=18)


def test_without_a_cache_all_is_the_same(tmp_path, cases):
    opened, _ = build(cases, tmp_path / "cache")
    held, _ = build(cases, None)
    for one, other in zip(opened, held, strict=True):
        for ours, theirs in zip(one.read(1, 7, 32), other.read(1, 7, 32), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(one.counts, other.counts)
        assert (one.box, one.geometry, one.case) == (other.box, other.geometry, other.case)


@pytest.mark.parametrize("directory", ["cache", None])
def test_several_processes_give_the_same(tmp_path, cases, directory):
    (tmp_path / "data" / "BraTS2021_00001_t2.nii.gz").write_bytes(b"")
    where = tmp_path / directory if directory else None
    opened, failures = build(cases, where, workers=2)
    assert [one.case.id[-1] for one in opened] == ["0", "2"]
    assert [failure.case for failure in failures] == [cases[1]]
    assert "BraTS2021_00001_t2.nii.gz: not a NIfTI" in failures[0].reason
    np.testing.assert_array_equal(opened[1].read(0, 9)[0], open_case(cases[2], None).read(0, 9)[0])


def test_the_file_is_a_safetensors_that_describes_itself(tmp_path, cases):
    (one, *_), _ = build(cases, tmp_path / "cache")
    with safe_open(one.path, "numpy") as file:
        about = json.loads(file.metadata()["case"])
        np.testing.assert_array_equal(file.get_tensor("images"), one.images)
        np.testing.assert_array_equal(file.get_tensor("labels"), one.labels)
        np.testing.assert_array_equal(file.get_tensor("counts"), one.counts)
    assert about["id"] == "BraTS2021_00000"
    assert about["shape"] == [9, 20, 16]
    assert about["spacing"] == [1, 1, 1]
    assert about["scheme"] == "brats2021"
    assert about["labelled"] is True
    assert about["modalities"] == ["t1", "t1gd", "t2", "flair"]
    assert one.path.name.startswith(f"BraTS2021_00000-{about['key'][:16]}")


def test_opened_cases_are_small_and_keep_no_file_open(tmp_path, cases):
    opened, _ = build(cases, tmp_path / "cache")
    assert len(pickle.dumps(opened[0])) < 3000
    copy = pickle.loads(pickle.dumps(opened[0]))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for one in [*opened * 3, copy]:
        one.read(2, 5)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    np.testing.assert_array_equal(copy.read(2, 5)[0], opened[0].read(2, 5)[0])
    assert not opened[0].images.flags.writeable


def test_a_second_run_reads_no_scan(tmp_path, cases, monkeypatch):
    build(cases, tmp_path / "cache")
    monkeypatch.setattr(cache, "read_case", lambda case: pytest.fail("read again"))
    assert len(build(cases, tmp_path / "cache")[0]) == 3


class TestOtherGrids:
    """Cases of 1 mm on grids of 2 mm, and of 1 mm with slices of 3."""

    def test_a_resampled_case_is_the_resampled_volume(self, tmp_path, cases):
        grid = RunGrid(2, 2, 3)
        (one, *_), _ = build_cache(cases, tmp_path / "cache", workers=1, progress=False, grid=grid)
        own, expected = read_case(one.case), resample_volume(read_case(one.case), (3, 10, 8))
        held = open_case(one.case, None, grid)
        for found in (one, held):
            assert (found.shape, found.box, found.geometry) == ((3, 10, 8), expected.box, expected.geometry)
            np.testing.assert_array_equal(found.images, expected.images)
            np.testing.assert_array_equal(found.labels, expected.labels)
            np.testing.assert_array_equal(found.counts, expected.counts)
            assert found.source_geometry == own.geometry
        plain = open_case(one.case, tmp_path / "cache")
        assert plain.origin is None
        assert one.fingerprint == held.fingerprint == plain.fingerprint
        assert one.label_digest == held.label_digest == plain.label_digest
        assert plain.source_geometry == plain.geometry == own.geometry
        assert pickle.loads(pickle.dumps(one)).origin == one.origin

    def test_every_shape_has_its_file_and_the_own_grid_keeps_its(self, tmp_path, cases):
        def path(grid):
            return open_case(cases[0], tmp_path / "cache", grid).path

        own = path(None)
        assert path(RunGrid(1, 1)) == path(RunGrid(1.005, 0.995)) == own
        assert path(RunGrid(2, 2)) == path(RunGrid(2.01, 2.01)) != own  # 10 x 8 pixels both
        assert path(RunGrid(2, 2, 3)) not in (own, path(RunGrid(2, 2)))
        assert len(list((tmp_path / "cache").iterdir())) == 3

    def test_the_announced_size_is_that_of_the_resampled_cases(self, tmp_path, cases, monkeypatch, capsys):
        monkeypatch.setenv("COLUMNS", "300")
        sizes = []
        for grid in (None, RunGrid(0.5, 0.5), RunGrid(2, 2, 3)):
            build_cache(cases, tmp_path / "cache", workers=1, progress=True, grid=grid)
            size, unit = re.search(r"about ([\d.]+) (B|kB|MB),", capsys.readouterr().err).groups()
            sizes.append(float(size) * {"B": 1, "kB": 1e3, "MB": 1e6}[unit])
        assert sizes[1] == pytest.approx(4 * sizes[0], rel=0.01)
        assert sizes[2] == pytest.approx(sizes[0] / 12, rel=0.01)


def change_time(case):
    os.utime(case.images["t2"].path, ns=(1, 1))


def change_size(case):
    path = case.images["t2"].path
    time_before = path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes() + bytes(8))
    os.utime(path, ns=(time_before, time_before))


def change_header(case):
    """Another file of the same size and time."""
    path = case.images["t2"].path
    status = path.stat()
    save(path, np.roll(example().images["t2"], 1, axis=1), spacing=(1.0, 1.0, 1.1))
    data = path.read_bytes()
    path.write_bytes(data + bytes(status.st_size - len(data)))
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [change_time, change_size, change_header])
def test_a_changed_source_is_prepared_anew(tmp_path, cases, change):
    roomy = cases[0].images["t2"].path
    roomy.write_bytes(roomy.read_bytes() + bytes(200))  # gzip allows zeros at the end
    (before, *_), _ = build(cases, tmp_path / "cache")
    change(cases[0])
    assert cache._opened(cases[0], tmp_path / "cache") is None
    assert cache._opened(cases[1], tmp_path / "cache") is not None
    assert before.read(0, 2)[0].shape == (2, 20, 16, 4)


def test_scheme_and_version_are_part_of_the_key(tmp_path, cases, monkeypatch):
    build(cases, tmp_path / "cache")
    (other, *_) = find_cases(tmp_path / "data", labels="edema=1,non-enhancing=2,enhancing=4")
    assert cache._opened(other, tmp_path / "cache") is None
    assert (
        open_case(other, tmp_path / "cache").counts[:, 1].sum()
        != open_case(cases[0], tmp_path / "cache").counts[:, 1].sum()
    )
    monkeypatch.setattr(cache, "PREPROCESSING_VERSION", 1000)
    assert cache._opened(cases[0], tmp_path / "cache") is None


def test_decathlon_with_another_channel_order_is_another_case(tmp_path):
    root = save_msd(tmp_path / "task", {"BRATS_001": example()})
    first = open_case(find_cases(root)[0], tmp_path / "cache")
    content = (root / "dataset.json").read_text()
    swap = content.replace("T1w", "x").replace("T2w", "T1w").replace('"x"', '"T2w"')
    (root / "dataset.json").write_text(swap)
    second = open_case(find_cases(root)[0], tmp_path / "cache")
    np.testing.assert_array_equal(first.images[..., 0], second.images[..., 2])


def test_unlabelled_cases(tmp_path):
    save_brats(tmp_path / "data", "BraTS2021_00000", example(), scheme=None)
    one = open_case(find_cases(tmp_path / "data")[0], tmp_path / "cache")
    assert not one.labelled
    assert not one.read(0, 9)[1].any()
    assert one.counts.tolist() == [[320, 0, 0, 0]] * 9


@pytest.mark.parametrize("directory", ["cache", None])
def test_a_missing_modality_is_zero_and_the_others_are_as_they_were(tmp_path, cases, directory):
    where = tmp_path / directory if directory else None
    whole = open_case(cases[0], where)
    cases[0].images["t1"].path.unlink()
    cases[0].images["flair"].path.unlink()
    (case, *_) = find_cases(tmp_path / "data")
    one = open_case(case, where)
    images, labels = one.read(0, 9)
    assert not images[..., [0, 3]].any()
    expected, expected_labels = whole.read(0, 9)
    np.testing.assert_array_equal(images[..., [1, 2]], expected[..., [1, 2]])
    np.testing.assert_array_equal(labels, expected_labels)
    assert one.modalities == ("t1gd", "t2")
    assert one.present.tolist() == [False, True, True, False]
    if directory:
        assert json.loads(safe_open(one.path, "numpy").metadata()["case"])["present"] == ["t1gd", "t2"]
        assert one.path != whole.path


def test_hidden_modalities_are_read_as_missing_ones(tmp_path, cases):
    whole = open_case(cases[0], tmp_path / "cache")
    hidden = replace(whole, hidden=frozenset({"t1", "flair"}))
    cases[0].images["t1"].path.unlink()
    cases[0].images["flair"].path.unlink()
    without = open_case(find_cases(tmp_path / "data")[0], tmp_path / "cache")
    assert hidden.modalities == without.modalities
    for ours, theirs in zip(hidden.read(0, 9, 32), without.read(0, 9, 32), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert hidden.fingerprint == whole.fingerprint, "it is still the same scan"


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:100], lambda data: b""])
def test_half_a_cached_file_is_built_again(tmp_path, cases, damage):
    (one, *_), _ = build(cases, tmp_path / "cache")
    whole = one.path.read_bytes()
    one.path.write_bytes(damage(whole))
    build(cases, tmp_path / "cache")
    assert one.path.read_bytes() == whole


def full_disk(code):
    def write(path, *_):
        path.write_bytes(b"half")
        raise OSError(code, os.strerror(code))

    return write


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, cases, monkeypatch, code):
    monkeypatch.setattr(cache, "_write", full_disk(code))
    with pytest.raises(UserError, match=r"cache: no space left .*--cache-dir.*--no-cache") as caught:
        build(cases, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_the_work(tmp_path, cases, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 5000))
    monkeypatch.setattr(cache, "read_case", lambda case: pytest.fail("started"))
    with pytest.raises(UserError, match=r"3 cases takes about 18\.1 kB, but 5 kB are free"):
        build(cases, tmp_path / "cache")


def test_size_and_free_space_are_printed(tmp_path, cases, capfd):
    build_cache(cases, tmp_path / "cache", workers=1, progress=True)
    assert "Preparing 3 cases in" in capfd.readouterr().err
    build_cache(cases, tmp_path / "cache", workers=1, progress=True)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path, cases):
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(UserError, match="the cache cannot be written"):
        build(cases, tmp_path / "cache")


def test_a_file_in_the_place_of_the_folder(tmp_path, cases):
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match="the cache cannot be written"):
        build(cases, tmp_path / "cache")


def test_stale_temporary_files_are_removed_and_fresh_ones_kept(tmp_path, cases):
    directory = tmp_path / "cache"
    directory.mkdir()
    for name, age in ((".tmp-old", 3600), (".tmp-new", 0)):
        (directory / name).write_bytes(b"x")
        os.utime(directory / name, (time.time() - age,) * 2)
    build(cases, directory)
    assert not (directory / ".tmp-old").exists()
    assert (directory / ".tmp-new").exists()


PROGRAM = """
import sys, time
from pathlib import Path
from samjax.data.cache import cases as cache
from samjax.data.formats.layouts import find_cases
if sys.argv[3] == "slow":
    write = cache._write
    def slow(path, *rest):
        write(path, *rest)
        print("written", flush=True)
        time.sleep(60)
    cache._write = slow
cases = find_cases(sys.argv[1], "adult")
opened, failures = cache.build_cache(cases, Path(sys.argv[2]), workers=1, progress=False)
assert len(opened) == 3 and not failures
print(sum(int(one.read(0, 9)[0].sum()) for one in opened))
"""


def start(tmp_path, how):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "data"), str(tmp_path / "cache"), how]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_builds_at_once_agree(tmp_path, cases):
    runs = [start(tmp_path, "fast") for _ in range(3)]
    sums = {run.communicate(timeout=60)[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert len(sums) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_killed_build_harms_no_one(tmp_path, cases):
    run = start(tmp_path, "slow")
    assert run.stdout.readline() == "written\n"
    run.send_signal(signal.SIGKILL)
    run.communicate()
    (left,) = (tmp_path / "cache").iterdir()
    assert left.name.startswith(".tmp-")
    opened, _ = build(cases, tmp_path / "cache")
    np.testing.assert_array_equal(opened[0].read(0, 9)[0], open_case(cases[0], None).read(0, 9)[0])


def test_nothing_heavy_is_imported():
    """Worker processes start with these modules."""
    code = (
        "import sys, samjax.data.cache.cases, samjax.data.case_check, samjax.data.splits, "
        "samjax.data.on_device.channels, samjax.data.slices; "
        "print([m for m in ('jax', 'rich', 'matplotlib', 'tyro') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
