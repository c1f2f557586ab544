"""The loop: stages and epochs, the two steps of lora4ch-2step, a finder that leaves no trace, and what the state is."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx

from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.models.adapt import random_sam
from samjax.models.flat import to_flat
from samjax.options import TrainOptions
from samjax.runs.trained import load_stage, load_trained
from samjax.strategies import trainable_filter
from samjax.training import loop
from samjax.training.loop import Stage, plan_stages, train
from samjax.training.lr_finder import Sweep
from samjax.training.optimizers import make_transform
from samjax.training.progress import parameter_counts
from samjax.training.step import TrainState, initial_state, unreplicate
from samjax.weights.base import save_weights
from samjax.weights.safetensors_file import read_safetensors
from tests.training import small

CONFIG = replace(small.CONFIG, depth=1, global_attn_indexes=(0,), decoder_depth=1, iou_head_depth=2)


class Uneven:
    """Data of 3, 5, 7, ... batches an epoch."""

    def length(self, epoch: int) -> int:
        return 3 + 2 * epoch


class TestPlan:
    @staticmethod
    def plan(count: int, epochs: int = 25, max_steps: int | None = None) -> list[Stage]:
        return plan_stages(Uneven(), SimpleNamespace(epochs=epochs, max_steps=max_steps), count)

    @pytest.mark.parametrize(("epochs", "steps"), [(1, 3), (2, 8), (4, 24)])
    def test_epochs_last_as_long_as_each_does(self, epochs, steps):
        assert self.plan(1, epochs) == [Stage(0, 0, steps, 0)]

    def test_a_second_stage_takes_the_epochs_that_follow(self):
        assert self.plan(2, 2) == [Stage(0, 0, 8, 0), Stage(1, 8, 8 + 7 + 9, 2)]
        assert [stage.steps for stage in self.plan(2, 2)] == [8, 16]

    @pytest.mark.parametrize("steps", [1, 3, 4, 8, 9])
    def test_a_number_of_steps_counts_whatever_the_epochs(self, steps):
        assert self.plan(1, epochs=1, max_steps=steps) == [Stage(0, 0, steps, 0)]

    @pytest.mark.parametrize(("steps", "epoch"), [(1, 1), (3, 1), (4, 2), (8, 2), (9, 3)])
    def test_a_second_stage_begins_with_an_epoch_of_its_own(self, steps, epoch):
        assert self.plan(2, max_steps=steps) == [Stage(0, 0, steps, 0), Stage(1, steps, 2 * steps, epoch)]


def size(tree: object) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("options", [{}, {"optimizer": "adamw", "clip_norm": 1.0}])
def test_the_state_is_of_what_trains_alone(options):
    """Besides the trainable arrays: two moments of Adam, the average, and three counts."""
    _, trainable, frozen = nnx.split(small.lora4ch(), trainable_filter(small.strategy()), ...)
    transform = make_transform(TrainOptions(**options))
    state = jax.eval_shape(lambda: initial_state(trainable, transform))
    number = sum(parameter_counts(trainable).values())
    assert size(trainable) == size(state.average) == number
    assert size(state.optimizer) == 2 * number + 1
    assert size(state) == 4 * number + 3
    assert size(frozen) > 1000


@dataclass(frozen=True)
class Began:
    """What a stage begins with, on the first device."""

    state: TrainState
    frozen: nnx.State

    @property
    def trainable(self) -> dict[str, np.ndarray]:
        return to_flat(self.state.trainable.tree(), CONFIG.block_spans)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The whole model by stored path."""
        return to_flat(self.frozen, CONFIG.block_spans) | self.trainable


@dataclass(frozen=True)
class Run:
    """A finished run, and what each of its stages began with."""

    folder: Path
    began: tuple[Began, ...]

    def rows(self, kind: str) -> list[dict]:
        found = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [row for row in found if row["kind"] == kind]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Trains a small SAM in two steps on four small cases."""
    root = tmp_path_factory.mktemp("loop")
    write_cohort(root / "small-2023", "adult", 4, options=PhantomOptions((48, 48, 10)))
    save_weights(root / "base.safetensors", to_flat(nnx.state(random_sam(CONFIG, seed=3)), CONFIG.block_spans), CONFIG)

    def run(name: str, **options: object) -> Run:
        began: list[Began] = []
        compile_step = loop.compile_step

        def noted(step: object, state: TrainState, frozen: nnx.State, *arguments: object) -> object:
            began.append(Began(unreplicate(state), unreplicate(frozen)))
            return compile_step(step, state, frozen, *arguments)

        common = TrainOptions(
            strategy="lora4ch-2step", data=(f"demo={root / 'small-2023'}",), weights=str(root / "base.safetensors"),
            prompt="box", depth=2, image_size=64, lora_targets="v", augment=False, lr=1e-2, max_steps=6, swa_start=0.6,
            workers=0, cache_dir=root / "cache", run=root / name,
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(root)
            patch.setattr(loop, "compile_step", noted)
            for drawing in ("draw_curves", "save_sweep"):  # takes longer than the steps
                patch.setattr(loop, drawing, lambda *_: None)
            return Run(train(replace(common, **options)), tuple(began))

    return run


@pytest.fixture(scope="module")
def plain(trained: Callable[..., Run]) -> Run:
    return trained("plain")


PATCH = ["image_encoder/patch_embed/proj/bias", "image_encoder/patch_embed/proj/kernel"]


def test_a_profile_is_written_and_changes_nothing(plain, trained):
    profiled = trained("profiled", profile=2)
    traces = list((profiled.folder / "profile").rglob("perfetto_trace.json.gz"))
    assert len(traces) == 2, "one in each stage, the steps of which end with the profile"
    (found, _), (expected, _) = (read_safetensors(run.folder / "final.safetensors") for run in (profiled, plain))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_step_one_trains_the_patch_embedding_alone(plain):
    one, two = plain.began
    assert (int(one.state.step), int(two.state.step)) == (0, 6)
    assert sorted(one.trainable) == PATCH
    before, between = one.weights, two.weights
    assert before.keys() == between.keys()
    for name, values in before.items():
        assert np.array_equal(values, between[name]) == (name not in PATCH), name

    # Step two begins with the average that step one left.
    stage = load_stage(plain.folder, 1)
    for name in PATCH:
        assert np.array_equal(stage["average"][name], between[name])
        assert not np.array_equal(stage["average"][name], stage["last"][name])


@pytest.mark.parametrize("average", [True, False])
def test_step_two_leaves_the_patch_embedding_and_the_run_holds_both(plain, average):
    two = plain.began[1]
    found = load_trained(plain.folder, average=average)[1].trained
    assert found.keys() == {*PATCH, *two.trainable}
    assert all(np.array_equal(found[name], two.weights[name]) for name in PATCH)
    for part in ("/lora/", "/cross_slice/", "mask_decoder/"):
        of_part = [name for name in two.trainable if part in name]
        assert any(not np.array_equal(found[name], two.trainable[name]) for name in of_part), part


def test_rows_count_on_from_step_to_step(plain):
    rows = plain.rows("train")
    assert [row["step"] for row in rows] == list(range(1, 13))
    epochs = [row["epoch"] for row in rows]
    assert sorted(epochs) == epochs
    assert epochs[5] < epochs[6]
    assert [row["averaging"] for row in rows] == 2 * [*3 * [False], *3 * [True]]


def test_a_finder_changes_nothing_but_the_rate(plain, trained, monkeypatch):
    """Against a run whose sweeps suggest the rate that it has anyway."""
    swept: list[list[float]] = []

    def same_rate(measure: Callable[[float], float], rates: np.ndarray) -> Sweep:
        losses = np.array([measure(float(rate)) for rate in rates[-6:]])
        swept.append(losses.tolist())
        return Sweep(rates[-6:], losses, losses, 1e-2)

    monkeypatch.setattr(loop, "find_rate", same_rate)
    asked = trained("asked", lr_finder_every=1)
    rows = plain.rows("train")
    losses = [row["loss"] for row in rows]
    assert [row["loss"] for row in asked.rows("train")] == losses
    one, other = (read_safetensors(run.folder / "final.safetensors")[0] for run in (plain, asked))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)

    # It is asked at the start of every epoch before the averaging, and sweeps over that epoch's batches.
    begins = [n for n, row in enumerate(rows) if n == 0 or row["epoch"] != rows[n - 1]["epoch"]]
    due = [n for n in begins if not rows[n]["averaging"]]
    assert len(begins) > len(due) >= 3
    assert [row["step"] for row in asked.rows("finder")] == due
    assert [sweep[0] for sweep in swept] == [losses[n] for n in due]
    assert all(len(set(sweep)) == 6 for sweep in swept)
