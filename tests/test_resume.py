"""A run that is killed, stopped or damaged on its way ends with the numbers of one that nothing happened to."""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.models.config import SamConfig
from samjax.models.initialise import initial_values
from samjax.options import TrainOptions
from samjax.training.loop import train
from samjax.weights.architecture import expected_shapes
from samjax.weights.base import save_weights
from tests.interrupted import Training, Trainings, assert_same, checkpoints, errors, finished, history, steps

SMALL = SamConfig(
    embed_dim=16,
    depth=2,
    num_heads=2,
    mlp_dim=16,
    global_attn_indexes=(1,),
    window_size=2,
    image_size=64,
    out_dim=16,
    decoder_mlp_dim=16,
    decoder_depth=1,
    iou_head_dim=8,
    iou_head_depth=2,
)
"""Quick to trace and compile: the time of a short run goes there."""
EVERYTHING = ("--lr", "auto", "--lr-finder-every", "1", "--accumulate", "2", "--schedule", "cosine")
"""What keeps a state of its own, with the averaging, which is on anyway."""


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainings]:
    """Runs in a folder with small weights, a small cohort, and a cache with the tests' programs."""
    where = tmp_path_factory.mktemp("resume")
    save_weights(where / "small.safetensors", initial_values(expected_shapes(SMALL), seed=0), SMALL)
    write_cohort(where / "small-2023", "adult", 5, options=PhantomOptions((48, 48, 10)))
    programs = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    programs.mkdir(exist_ok=True)
    (where / "cache").mkdir()
    (where / "cache" / "compiled").symlink_to(programs)
    trainings = Trainings(where)
    yield trainings
    trainings.end_all()


def scans(*options: object) -> tuple[object, ...]:
    return ("--data", "demo=small-2023", *options)


LORA4CH = scans(
    *("--strategy", "lora4ch", "--weights", "small.safetensors", "--depth", "3", "--max-steps", "10"), *EVERYTHING
)
"""An epoch is 3 steps of 2 samples; the averaging begins after step 7."""


@pytest.fixture(scope="module")
def reference(trainings: Trainings) -> Path:
    """The run to which nothing happens."""
    finished(trainings.new("reference", *LORA4CH))
    rows = history(trainings.folder("reference"))
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, 11))
    assert [row["step"] for row in rows if row["kind"] == "finder"] == [0, 3, 6]
    assert [row["averaging"] for row in rows if row["kind"] == "train"] == [False] * 7 + [True] * 3
    return trainings.folder("reference")


def stopped(training: Training, number: int, step: int, folder: Path) -> None:
    """Told to stop by a signal, it ends with its code and one line, and leaves a checkpoint of that very step."""
    result = training.told(number)
    assert result.returncode == 128 + number, result.stdout + result.stderr
    assert len(errors(result)) == 1, result.stderr
    assert errors(result)[0].startswith("stopped: ")
    assert f"after step {step} of 10" in errors(result)[0]
    assert max(checkpoints(folder)) == step
    assert steps(folder) == list(range(1, step + 1))


def test_a_run_ends_the_same_whatever_happens_on_its_way(trainings: Trainings, reference: Path):
    folder = trainings.folder("eventful")
    training = trainings.new("eventful", *LORA4CH, "--workers", "1", moment="row:train:2").halted()
    before = (folder / "config.json").read_bytes()
    second = trainings.resumed("eventful", "--lr", "0.1", "--allow-changes").ended()
    assert second.returncode == 2, second.stderr
    assert errors(second) == ["error: --run runs/eventful: another process is training there"]
    assert (folder / "config.json").read_bytes() == before
    stopped(training, signal.SIGTERM, 3, folder)

    # While a checkpoint is being saved, at the begin of an epoch and the finder's sweep.
    assert trainings.resumed("eventful", moment="place:checkpoints/8").halted().killed()
    assert max(checkpoints(folder)) == 6
    # Within the averaging.
    stopped(trainings.resumed("eventful", moment="row:train:8").halted(), signal.SIGINT, 9, folder)

    largest = max((folder / "checkpoints" / "9").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(bytes(largest.stat().st_size))
    result = finished(trainings.resumed("eventful"))
    assert len(errors(result)) == 1, result.stderr
    assert "checkpoints/9: damaged, so not used" in errors(result)[0]
    assert_same(folder, reference)


def test_without_a_usable_checkpoint_a_run_is_refused(trainings: Trainings, reference: Path):
    folder = trainings.folder("ruined")
    shutil.copytree(reference, folder)
    ruined = checkpoints(folder)
    for step in ruined:
        shutil.rmtree(folder / "checkpoints" / str(step) / "host")
    before = (folder / "metrics.jsonl").read_bytes()
    result = trainings.resumed("ruined").ended()
    assert result.returncode == 2, result.stderr
    warnings, error = errors(result)[:-1], errors(result)[-1]
    assert all(f"checkpoints/{step}: dam" in line for step, line in zip(ruined[::-1], warnings, strict=True)), warnings
    assert error.startswith("error: runs/ruined/checkpoints: none of the checkpoints")
    assert (folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr": 0.5}, ("--lr 0.5", "the run has auto", "--allow-changes")),
        ({"swa_start": 0.5, "clicks": 3}, ("--swa-start 0.5", "the run has 0.75", "--clicks 3", "the run has 1")),
        ({"channels": "t1"}, ("--channels t1", "the run has t1,t1gd,t2,flair", "start a new run")),
        ({"channels": "t1", "allow_changes": True}, ("--channels t1", "the run has t1,t1gd,t2,flair")),
        ({"seed": 7, "lr": 0.5, "allow_changes": True}, ("--seed 7", "the run has 0", "start a new run")),
    ],
)
def test_other_options_are_refused_by_name_and_values(changes: dict, words: tuple[str, ...], reference: Path):
    before = (reference / "config.json").read_bytes()
    with pytest.raises(UserError) as caught:
        train(TrainOptions(resume=True, run=reference, **changes))
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (reference / "config.json").read_bytes() == before


def small(strategy: str, *options: object) -> tuple[object, ...]:
    return ("--strategy", strategy, "--weights", "small.safetensors", "--max-steps", "8", *options)


EVERY_STRATEGY = {
    "decoder": (scans(*small("decoder", "--accumulate", "3")), ("row:train:3", "place:checkpoints/8")),
    "lora": (scans(*small("lora", "--swa-cycle", "2")), ("row:validation:4", "row:train:7")),
    "lora4ch": (LORA4CH, ("row:train:3", "row:finder:6", "row:train:9", "place:final.safetensors")),
    # Stages of 8 steps, with averaging after steps 6 and 14: killed in both parts of both, and between them.
    "lora4ch-2step": (
        scans(*small("lora4ch-2step", "--lr", "auto", "--schedule", "cosine")),
        (
            "row:train:3",
            "row:train:7",
            "place:checkpoints/8",
            "place:stage1.safetensors",
            "row:finder:8",
            "row:train:9",
            "row:train:11",
            "row:train:15",
        ),
    ),
    "adapter": (scans(*small("adapter", "--depth", "2")), ("row:train:3", "row:train:7")),
    "full": (scans(*small("full", "--optimizer", "adamw", "--clip-norm", "1")), ("row:train:3", "row:train:7")),
    "unet": (
        scans("--strategy", "unet", "--max-steps", "8", *EVERYTHING),
        ("row:train:3", "place:checkpoints/6", "row:train:7"),
    ),
    "pretrain": (small("pretrain", "--batch-size", "2", "--image-size", "64"), ("row:train:3", "row:train:7")),
}
"""For each strategy the options of a run, and the moments at which its processes are killed one after the other."""


@pytest.mark.slow
@pytest.mark.parametrize("strategy", EVERY_STRATEGY)
def test_every_strategy_ends_the_same_when_killed(strategy: str, trainings: Trainings):
    options, moments = EVERY_STRATEGY[strategy]
    finished(trainings.new(f"{strategy}-whole", *options))
    trainings.new(f"{strategy}-killed", *options, moment=moments[0]).halted().killed()
    for moment in moments[1:]:
        trainings.resumed(f"{strategy}-killed", moment=moment).halted().killed()
    finished(trainings.resumed(f"{strategy}-killed"))
    assert_same(trainings.folder(f"{strategy}-killed"), trainings.folder(f"{strategy}-whole"))


@pytest.mark.slow
def test_a_run_on_cached_embeddings_ends_the_same_wherever_the_pass_was_cut(trainings: Trainings):
    """A pass that goes on computes batches of other slices than one that was not cut."""
    options = scans(*small("decoder", "--cache-embeddings", "2", "--batch-size", "3"))
    one_of_several = "place:embeddings/*/*-1.safetensors"
    result = trainings.new("cached", *options, moment=one_of_several).halted().told(signal.SIGTERM)
    assert result.returncode == 128 + signal.SIGTERM
    assert [line.split(":")[0] for line in errors(result)] == ["stopped"], result.stderr
    trainings.resumed("cached", moment=one_of_several).halted().killed()
    trainings.resumed("cached", moment="row:train:3").halted().killed()
    finished(trainings.resumed("cached"))
    shutil.rmtree(trainings.where / "cache" / "embeddings")
    finished(trainings.new("cached-whole", *options))
    assert_same(trainings.folder("cached"), trainings.folder("cached-whole"))


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_at_random_ends_the_same(trainings: Trainings):
    options = scans(*small("lora4ch"), "--max-steps", "80", "--swa-start", "0.5")
    finished(trainings.new("random-whole", *options))
    folder, rng = trainings.folder("random-killed"), random.Random(20)
    training, kills = trainings.new("random-killed", *options), {"at random": 0, "while saving": 0}
    while training.running:
        if rng.random() < 0.5:
            kind = "at random"
            wait_for_rows(training, folder, rng.randint(1, 6))
            time.sleep(rng.uniform(0, 0.2))
        else:
            kind = "while saving"
            wait_for_saves(training, folder, rng.randint(1, 3))
        if training.killed():
            kills[kind] += 1
            training = trainings.resumed("random-killed", "--workers", rng.choice("012"))
    finished(training)
    assert_same(folder, trainings.folder("random-whole"))
    assert sum(kills.values()) >= 10, kills
    assert min(kills.values()) >= 3, kills


def wait_for_rows(training: Training, folder: Path, count: int) -> None:
    """Waits until so many new steps are logged, or for the end."""
    seen = set(steps(folder))
    while training.running and len(set(steps(folder)) - seen) < count:
        seen &= set(steps(folder))  # a resumed run first drops those that it will take again
        time.sleep(0.001)


def wait_for_saves(training: Training, folder: Path, count: int) -> None:
    """Waits until the so many-th checkpoint begins to be written, or for the end."""
    left = saves(folder)
    new: set[tuple[str, int]] = set()
    while training.running and len(new) < count:
        new |= saves(folder) - left
        time.sleep(0.001)


def saves(folder: Path) -> set[tuple[str, int]]:
    """The unfinished checkpoints there are now, those that a kill left included."""
    found = (folder / "checkpoints").glob("*.orbax-checkpoint-tmp*")
    with suppress(FileNotFoundError):  # finished meanwhile
        return {(path.name, path.stat().st_ino) for path in found}
    return set()


@pytest.mark.slow
def test_a_run_killed_before_it_is_one_can_be_started_again(trainings: Trainings, reference: Path):
    trainings.new("unborn", *LORA4CH, moment="place:unborn/config.json").halted().killed()
    result = trainings.resumed("unborn").ended()
    assert result.returncode == 2
    assert errors(result) == ["error: runs/unborn: no config.json there, so it is not a run folder"]
    trainings.new("unborn", *LORA4CH, moment="row:train:1").halted().killed()
    assert checkpoints(trainings.folder("unborn")) == []
    finished(trainings.resumed("unborn"))
    assert_same(trainings.folder("unborn"), reference)


@pytest.mark.slow
def test_ctrl_c_before_the_first_step_is_one_line(trainings: Trainings):
    result = trainings.new("early", *LORA4CH, moment="place:early/config.json").halted().told(signal.SIGINT)
    assert result.returncode == 128 + signal.SIGINT
    assert [line.split(":")[0] for line in errors(result)] == ["stopped"], result.stderr


@pytest.mark.slow
def test_an_allowed_change_counts_from_the_next_step_on(trainings: Trainings):
    options = scans(*small("lora4ch"))
    trainings.new("changed", *options, "--lr", "1e-3", moment="row:train:5").halted().killed()
    finished(trainings.resumed("changed", "--lr", "3e-4", "--allow-changes"))
    rates = [row["lr"] for row in history(trainings.folder("changed")) if row["kind"] == "train"]
    # A checkpoint comes every other step; the last one may still have been on its way to the disk.
    kept = rates.count(1e-3)
    assert kept in (2, 4)
    assert rates == [1e-3] * kept + [3e-4] * (8 - kept)
    config = json.loads((trainings.folder("changed") / "config.json").read_text())
    assert config["options"]["lr"] == 3e-4
