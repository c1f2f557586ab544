"""Checkpoints: what comes back is what was saved or the one before, whatever happened to the files."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest

from samjax.errors import UserError
from samjax.training.checkpoints import Checkpoints
from samjax.training.parameter_vector import ParameterVector, to_vector
from samjax.training.step import TrainState

LAST, BEFORE = 4, 2


def state(step: int) -> TrainState:
    """A state that no other step has."""
    rng = np.random.default_rng(step)

    def parameters() -> ParameterVector:
        return to_vector(
            {"kernel": rng.standard_normal((40, 30), np.float32), "bias": rng.standard_normal(5, np.float32)}
        )

    return TrainState(np.array(step, np.int32), parameters(), parameters(), parameters(), np.array(0, np.int32))


def host(step: int, best: int | None = None) -> dict:
    return {"stage": 0, "epoch": 1, "index": step, "lr": 0.1 + step / 3, "best": None, "best_step": best}


def like(host: dict) -> TrainState:
    return state(0)


def assert_is(found: tuple[TrainState, dict] | None, step: int) -> None:
    assert found is not None
    assert found[1] == host(step)
    assert jax.tree.structure(found[0]) == jax.tree.structure(state(step))
    for ours, saved in zip(jax.tree.leaves(found[0]), jax.tree.leaves(state(step)), strict=True):
        assert ours.dtype == saved.dtype
        np.testing.assert_array_equal(ours, saved)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    with closing(Checkpoints(folder)) as checkpoints:
        for step in (BEFORE, LAST):
            checkpoints.save(state(step), host(step))
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """Makes copies that may be damaged."""
    folder = tmp_path / "copy"

    def fresh() -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(saved, folder)
        return folder

    return fresh


def test_the_newest_is_restored_exactly(saved: Path):
    with closing(Checkpoints(saved)) as checkpoints:
        assert_is(checkpoints.restore(like), LAST)


def test_nothing_saved_is_nothing_restored(tmp_path: Path):
    with closing(Checkpoints(tmp_path)) as checkpoints:
        assert checkpoints.restore(like) is None


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_damaged_checkpoints_go_with_the_next_save(copy: Callable[[], Path]):
    folder = copy()
    shutil.rmtree(folder / str(LAST) / "state")
    with closing(Checkpoints(folder)) as checkpoints:
        assert_is(checkpoints.restore(like), BEFORE)
        assert (folder / str(LAST)).exists()
        checkpoints.save(state(BEFORE + 1), host(BEFORE + 1))
    assert sorted(int(path.name) for path in folder.iterdir()) == [BEFORE, BEFORE + 1]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path) -> None:
    """One bit in the middle is another."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, emptied, zeroed, flipped, Path.unlink])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    damage: Callable[[Path], None], saved: Path, copy: Callable[[], Path], capfd: pytest.CaptureFixture
):
    """Whichever file is damaged: some are needed, and one that is not must not matter."""
    files = sorted(path.relative_to(saved) for path in (saved / str(LAST)).rglob("*") if path.is_file())
    used = []
    for file in files:
        folder = copy()
        damage(folder / file)
        before = contents(folder)
        with closing(Checkpoints(folder)) as checkpoints:
            found = checkpoints.restore(like)
        warnings = capfd.readouterr().err.splitlines()
        used.append(int(found[0].step))
        assert_is(found, used[-1])
        if used[-1] == BEFORE:
            assert len(warnings) == 1, warnings
            assert f"{folder / str(LAST)}: damaged, so not used (" in warnings[0]
        else:
            assert warnings == []
        assert contents(folder) == before, "reading changes nothing"
    assert set(used) == {BEFORE, LAST}
    tensors = max(files, key=lambda file: (saved / file).stat().st_size)
    assert used[files.index(tensors)] == BEFORE


def test_a_checkpoint_without_a_part_or_without_anything_is_not_used(
    copy: Callable[[], Path], capfd: pytest.CaptureFixture
):
    for part in ("state", "host", "."):
        folder = copy() / str(LAST)
        shutil.rmtree(folder / part)
        folder.mkdir(exist_ok=True)
        with closing(Checkpoints(folder.parent)) as checkpoints:
            assert_is(checkpoints.restore(like), BEFORE)
        assert str(folder) in capfd.readouterr().err


def test_a_step_whose_checkpoint_was_damaged_is_saved_again(copy: Callable[[], Path]):
    folder = copy()
    shutil.rmtree(folder / str(LAST) / "state")
    with closing(Checkpoints(folder)) as checkpoints:
        assert_is(checkpoints.restore(like), BEFORE)
        checkpoints.save(state(LAST), host(LAST))
    with closing(Checkpoints(folder)) as checkpoints:
        assert_is(checkpoints.restore(like), LAST)


def test_what_a_kill_left_of_a_save_or_a_removal_does_not_matter_and_goes(copy: Callable[[], Path]):
    folder = copy()
    shutil.copytree(folder / str(LAST), folder / "6.orbax-checkpoint-tmp")
    shutil.rmtree(folder / str(BEFORE) / "state")
    with closing(Checkpoints(folder)) as checkpoints:
        assert_is(checkpoints.restore(like), LAST)
        checkpoints.save(state(6), host(6))
    assert sorted(path.name for path in folder.iterdir()) == ["4", "6"]


@pytest.mark.parametrize("shapes", [{"bias": (5,), "weight": (40, 30)}, {"bias": (30,), "kernel": (5, 235)}])
def test_parameters_of_another_version_are_not_taken_for_ours(
    shapes: dict[str, tuple[int, ...]], saved: Path, capfd: pytest.CaptureFixture
):
    """Their vector is as long as ours."""
    other = to_vector({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    assert other.values.shape == state(0).trainable.values.shape
    template = TrainState(state(0).step, other, other, other, state(0).averaged)
    with closing(Checkpoints(saved)) as checkpoints, pytest.raises(UserError, match="start a new run"):
        checkpoints.restore(lambda host: template)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("of another version of samjax, so not used" in line for line in lines)


def test_all_damaged_is_an_error_that_names_them(copy: Callable[[], Path], capfd: pytest.CaptureFixture):
    folder = copy()
    for step in (BEFORE, LAST):
        cut(folder / str(step) / "host" / "metadata")
    with closing(Checkpoints(folder)) as checkpoints, pytest.raises(UserError, match=r"\[4, 2\].*start a new run"):
        checkpoints.restore(like)
    assert len(capfd.readouterr().err.splitlines()) == 2


def test_the_two_newest_are_kept_and_the_best_also_by_a_later_process(tmp_path: Path):
    with closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(state(1), host(1))
        checkpoints.save(state(2), host(2, best=2))
    with closing(Checkpoints(tmp_path)) as checkpoints:
        for step in range(3, 7):
            checkpoints.save(state(step), host(step, best=2))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [2, 5, 6]
    with closing(Checkpoints(tmp_path)) as checkpoints:
        checkpoints.save(state(7), host(7, best=7))
        checkpoints.save(state(8), host(8, best=7))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [7, 8]
