"""Going on with a run: on other devices, for longer, with moved inputs, and what is refused without leaving a trace."""

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest
from flax import nnx

from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import Stopped, UserError
from samjax.models.adapt import random_sam
from samjax.models.flat import to_flat
from samjax.options import TrainOptions
from samjax.training import loop
from samjax.training.loop import train
from samjax.training.metrics_log import MetricsLog
from samjax.weights.base import save_weights
from samjax.weights.safetensors_file import read_safetensors
from tests.interrupted import history
from tests.training import small
from tests.training.test_run_options import one_line

CONFIG = replace(small.CONFIG, depth=1, global_attn_indexes=(0,), decoder_depth=1, iou_head_depth=2)
STEPS = 6
"""Of which an epoch has four, on four devices."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("resuming")
    write_cohort(root / "small-2023", "adult", 5, options=PhantomOptions((40, 40, 8)))
    flat = to_flat(nnx.state(random_sam(CONFIG, seed=3)), CONFIG.block_spans)
    save_weights(root / "small.safetensors", flat, CONFIG)
    return root


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, place: Path) -> Iterator[None]:
    monkeypatch.chdir(place)
    monkeypatch.setattr(loop, "draw_curves", lambda *_: None)  # takes longer than the steps


@pytest.fixture
def begin(place: Path, quick: None) -> Callable[..., Path]:
    """Trains a new run."""

    def begin(name: str, **changes: object) -> Path:
        options = TrainOptions(
            strategy="decoder", data=("demo=small-2023",), weights="small.safetensors", run=place / name,
            cache_dir=place / "cache", image_size=64, max_steps=STEPS, lr=1e-3, workers=0, swa_start=0.5,
        )  # fmt: skip
        return train(replace(options, **changes))

    return begin


def resume(run: Path, **options: object) -> Path:
    cache = run.parent / "cache"
    return train(TrainOptions(resume=True, run=run, cache_dir=cache, workers=0, **options))


def use_devices(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Lets training see the first so many of the four devices alone."""
    chosen = jax.local_devices()[:count]
    for name in ("devices", "local_devices"):
        monkeypatch.setattr(jax, name, lambda *_, **__: chosen)
    for name in ("device_count", "local_device_count"):
        monkeypatch.setattr(jax, name, lambda *_: count)


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Asks a run to stop when the row of a step has been written: it stops after the next one."""
    write = MetricsLog.write

    def written(log: MetricsLog, kind: str, at: int, epoch: int, **values: object) -> None:
        write(log, kind, at, epoch, **values)
        if (kind, at) == ("train", step):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(MetricsLog, "write", written)


@pytest.fixture
def stopped(begin: Callable[..., Path], place: Path) -> Callable[..., Path]:
    """A run that was stopped after its third step."""

    def stopped(name: str, **changes: object) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, 2)
            with pytest.raises(Stopped, match="after step 3 of"):
                begin(name, **changes)
        return place / name

    return stopped


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The run to which nothing happens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(loop, "draw_curves", lambda *_: None)
        options = TrainOptions(
            strategy="decoder", data=("demo=small-2023",), weights="small.safetensors", run=place / "whole",
            cache_dir=place / "cache", image_size=64, max_steps=STEPS, lr=1e-3, workers=0, swa_start=0.5,
        )  # fmt: skip
        return train(options)


def rows(run: Path, kind: str = "train") -> list[dict]:
    return [row for row in history(run) if row["kind"] == kind]


def final(run: Path, part: str = "last") -> dict[str, np.ndarray]:
    tensors = read_safetensors(run / "final.safetensors")[0]
    return {name.removeprefix(f"{part}/"): x for name, x in tensors.items() if name.startswith(f"{part}/")}


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run; the lock is empty and of no run's business."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


@pytest.mark.parametrize("devices", [1, 2])
def test_on_other_devices_the_run_is_the_same(
    devices: int, stopped: Callable[..., Path], whole: Path, monkeypatch: pytest.MonkeyPatch
):
    """The same windows in the same steps, at the same rates: a step's four samples come in micro-batches."""
    run = stopped(f"on-{devices}", schedule="constant")
    use_devices(monkeypatch, devices)
    resume(run)
    for found, expected in zip(rows(run), rows(whole), strict=True):
        same = ("step", "epoch", "lr", "slices", "counted", "averaging")
        assert {name: found[name] for name in same} == {name: expected[name] for name in same}
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    for part in ("last", "average"):
        values, expected = final(run, part), final(whole, part)
        assert values.keys() == expected.keys()
        for name, x in values.items():
            # Adam moves each weight by up to the rate in each step.
            np.testing.assert_allclose(x, expected[name], atol=0.1 * 1e-3 * STEPS, err_msg=name)


def test_devices_that_cannot_share_a_step_are_refused_and_nothing_changes(
    stopped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    run = stopped("on-3")
    before = contents(run)
    with monkeypatch.context() as patch:
        use_devices(patch, 3)
        with pytest.raises(UserError) as caught:
            resume(run)
    one_line(caught, f"--run {run}", "4 samples", "3 devices", "1, 2 or 4 devices")
    with pytest.raises(UserError, match="--batch-size 2: a step of this run takes 4 samples, 1 on each of 4 devices"):
        resume(run, batch_size=2)
    assert contents(run) == before


def test_nothing_changes_before_the_first_step(stopped: Callable[..., Path], whole: Path):
    """A resumed run that fails while it starts leaves all as it was, so that it can go on without the change."""
    run = stopped("failed")
    before = contents(run)
    with pytest.MonkeyPatch.context() as patch:

        def failing(*_: object) -> None:
            raise MemoryError("as a device says")

        patch.setattr(loop, "compile_step", failing)
        with pytest.raises(MemoryError):
            resume(run, lr=0.5, allow_changes=True)
    assert contents(run) == before
    resume(run)
    assert rows(run) == rows(whole)
    for name, x in final(run).items():
        np.testing.assert_array_equal(x, final(whole)[name], err_msg=name)


def test_a_longer_runs_average_is_of_its_own_end(begin: Callable[..., Path], whole: Path):
    """Shorter at first, its weights of steps 3 and 4 were averaged; of six steps, those of steps 4 to 6 count."""
    run = begin("longer", max_steps=3)
    assert final(run, "average")
    resume(run, max_steps=STEPS, allow_changes=True)
    assert [row["averaging"] for row in rows(whole)] == [False] * 3 + [True] * 3
    for part in ("last", "average"):
        for name, x in final(run, part).items():
            np.testing.assert_array_equal(x, final(whole, part)[name], err_msg=name)


def test_without_averaging_a_longer_run_has_no_average(begin: Callable[..., Path], whole: Path):
    run = begin("no-average", max_steps=3)
    resume(run, max_steps=STEPS, swa=False, allow_changes=True)
    assert not final(run, "average")
    for name, x in final(run).items():
        np.testing.assert_array_equal(x, final(whole)[name], err_msg=name)


def test_a_finished_run_says_so_and_how_it_goes_on(whole: Path, quick: None, capsys: pytest.CaptureFixture):
    before = contents(whole)
    assert resume(whole) == whole
    said = capsys.readouterr().out.strip().splitlines()
    assert len(said) == 1, said
    for word in (str(whole), "has finished", f"{STEPS} steps", "--allow-changes --max-steps"):
        assert word in said[0]
    assert contents(whole) == before
    with pytest.raises(UserError, match=f"has taken {STEPS} steps, more than the 2"):
        resume(whole, max_steps=2, allow_changes=True)
    assert contents(whole) == before


def test_a_finished_run_without_checkpoints_is_not_trained_anew(
    whole: Path, quick: None, tmp_path: Path, capsys: pytest.CaptureFixture
):
    run = shutil.copytree(whole, tmp_path / "bare")
    shutil.rmtree(run / "checkpoints")
    before = contents(run)
    resume(run)
    assert "has finished" in capsys.readouterr().out
    with pytest.raises(UserError) as caught:
        resume(run, max_steps=STEPS + 1, allow_changes=True)
    one_line(caught, str(run / "checkpoints"), "no checkpoint to go on from")
    assert contents(run) == before


class TestMovedInputs:
    @pytest.fixture
    def moved(self, stopped: Callable[..., Path], place: Path, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
        """A stopped run whose scans and weights lie elsewhere now, under other names."""
        run = place / "moved"
        shutil.rmtree(run, ignore_errors=True)
        stopped("moved")
        elsewhere = tmp_path / "cohort-2023"
        shutil.move(place / "small-2023", elsewhere)
        shutil.move(place / "small.safetensors", tmp_path / "base.safetensors")
        yield run, elsewhere
        shutil.move(elsewhere, place / "small-2023")
        shutil.move(tmp_path / "base.safetensors", place / "small.safetensors")

    def test_they_are_taken_by_their_content(self, moved: tuple[Path, Path], whole: Path):
        run, elsewhere = moved
        weights = elsewhere.parent / "base.safetensors"
        before = contents(run)
        with pytest.raises(UserError, match=r"base weights|no such file"):
            resume(run)
        with pytest.raises(UserError, match=r"scans of demo are no longer in .*--data demo=DIR"):
            resume(run, weights=str(weights))
        assert contents(run) == before
        resume(run, weights=str(weights), data=(f"demo={elsewhere}",))
        assert rows(run) == rows(whole)
        config = json.loads((run / "config.json").read_text())
        assert config["data"] == {"demo": str(elsewhere)}
        assert config["base_path"] == str(weights)
        assert "has finished" not in (run / "config.json").read_text()

    def test_other_scans_and_other_weights_are_refused(self, moved: tuple[Path, Path], tmp_path: Path):
        run, elsewhere = moved
        weights = str(elsewhere.parent / "base.safetensors")
        write_cohort(tmp_path / "other-2023", "adult", 5, options=PhantomOptions((40, 40, 8)), seed=5)
        flat = to_flat(nnx.state(random_sam(CONFIG, seed=4)), CONFIG.block_spans)
        save_weights(tmp_path / "other.safetensors", flat, CONFIG)
        corrected = shutil.copytree(elsewhere, tmp_path / "corrected-2023")
        label = next(corrected.rglob("*-seg.nii.gz"))
        image = nib.load(label)
        values = np.asanyarray(image.dataobj).copy()
        values[values == 3] = 1  # what enhanced no longer does: the images are the same
        nib.save(nib.Nifti1Image(values, image.affine, image.header), label)
        before = contents(run)
        for given, words in (
            ({"data": (f"demo={tmp_path / 'other-2023'}",)}, ("scans of demo", "not those", "other-2023")),
            ({"data": (f"demo={corrected}",)}, (label.parent.name, "has another label")),
            ({"data": (f"men={elsewhere}",)}, ("--data men=", "the run has demo=")),
            ({"data": (f"demo={elsewhere}", f"men={elsewhere}")}, ("--data", "the run has demo=")),
            ({"weights": str(tmp_path / "other.safetensors")}, ("other.safetensors", "sha256")),
        ):
            with pytest.raises(UserError) as caught:
                resume(run, **{"weights": weights, "data": (f"demo={elsewhere}",)} | given)
            one_line(caught, *words)
        assert contents(run) == before

    def test_their_places_are_recognised_however_they_are_spelled(self, stopped: Callable[..., Path], whole: Path):
        run = stopped("spelled")
        resume(run, data=("./small-2023/",), weights="../" + run.parent.name + "/small.safetensors", lr=0.001)
        assert rows(run) == rows(whole)
