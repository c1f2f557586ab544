"""The pmapped step: what it changes, what it must not, and that the number of devices does not matter."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from samjax.data.on_device.augment import Augmentation
from samjax.strategies import trainable_filter
from samjax.training.step import initial_state, make_train_step, replicate, unreplicate
from tests.training import small


def prepared(
    transform: optax.GradientTransformation, devices: int, prompt: str = "box", micro_batches: int = 1, **options
):
    """The pmapped step on some of the devices and the state before its first step."""
    graphdef, trainable, frozen = nnx.split(small.lora4ch(), trainable_filter(small.strategy()), ...)
    step = make_train_step(graphdef, small.scorer(prompt, **options), transform, seed=7, micro_batches=micro_batches)
    return step, replicate(initial_state(trainable, transform), devices), replicate(frozen, devices)


def rate(value: float, devices: int, update_average: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Learning rate, and whether the weights enter the average."""
    return np.full(devices, value, np.float32), np.full(devices, update_average)


def test_steps_lower_the_loss_and_keep_the_frozen_weights_bitwise():
    step, state, frozen = prepared(optax.scale_by_adam(), 1)
    before = [x.copy() for x in small.leaves(frozen)]
    data = small.on_devices(small.batch(2), 1)
    losses = []
    for _ in range(12):
        state, metrics = step(state, frozen, data, *rate(1e-2, 1))
        losses.append(float(metrics["loss"][0]))
    assert losses[-1] < 0.9 * losses[0]
    assert all(np.array_equal(a, b) for a, b in zip(before, small.leaves(frozen), strict=True))
    assert int(unreplicate(state).step) == 12


def test_every_trainable_array_that_a_loss_reaches_moves():
    step, state, frozen = prepared(optax.scale_by_adam(), 1)
    start = {path: leaf[...] for path, leaf in nnx.to_flat_state(unreplicate(state).trainable.tree())}
    data = small.on_devices(small.batch(2), 1)
    for _ in range(2):  # LoRA's a moves only once b has left zero
        state, _ = step(state, frozen, data, *rate(1e-2, 1))
    still = {
        "/".join(map(str, path))
        for path, leaf in nnx.to_flat_state(unreplicate(state).trainable.tree())
        if np.array_equal(leaf[...], start[path])
    }
    # The multi-mask tokens' heads get no gradient from the single mask.
    assert all("output_hypernetworks_mlps/" in path and "mlps/0/" not in path for path in still), still


def test_four_devices_with_unequal_empty_slices_make_the_update_of_one():
    empty = ((0, 0), (0, 1), (1, 0), (5, 1))
    data = small.batch(8, empty=empty)
    updated, losses = [], []
    for devices in (1, 4):
        options = {"augmentation": Augmentation(), "modality_dropout": 0.4}
        step, state, frozen = prepared(optax.identity(), devices, "point:0.7,box:0.3", **options)
        state, metrics = step(state, frozen, small.on_devices(data, devices), *rate(1.0, devices))
        updated.append(small.leaves(unreplicate(state).trainable.tree()))
        losses.append(float(metrics["loss"][0]))
        assert int(metrics["counted"][0]) == 16 - len(empty)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    start = small.leaves(nnx.split(small.lora4ch(), trainable_filter(small.strategy()), ...)[1])
    moved = max(np.abs(a - s).max() for a, s in zip(updated[0], start, strict=True))
    worst = max(np.abs(a - b).max() for a, b in zip(*updated, strict=True))
    assert moved > 1e-2
    assert worst < 1e-5 * max(1.0, moved)


@pytest.mark.parametrize(("devices", "micro_batches"), [(1, 4), (1, 8), (2, 2)])
def test_micro_batches_with_unequal_empty_slices_make_the_update_of_one_batch(devices, micro_batches):
    """Sums over counted slices by their number: a mean of the micro-batches' means would be another update."""
    empty = ((0, 0), (0, 1), (1, 0), (5, 1))
    data = small.batch(8, empty=empty)
    updated, metrics = [], []
    for count, parts in ((1, 1), (devices, micro_batches)):
        options = {"augmentation": Augmentation(), "micro_batches": parts}
        step, state, frozen = prepared(optax.identity(), count, "point:0.7,box:0.3", **options)
        state, found = step(state, frozen, small.on_devices(data, count), *rate(1.0, count))
        updated.append(small.leaves(unreplicate(state).trainable.tree()))
        metrics.append({name: float(x[0]) for name, x in found.items()})
    assert metrics[1]["counted"] == 16 - len(empty)
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-4)
    start = small.leaves(nnx.split(small.lora4ch(), trainable_filter(small.strategy()), ...)[1])
    moved = max(np.abs(a - s).max() for a, s in zip(updated[0], start, strict=True))
    worst = max(np.abs(a - b).max() for a, b in zip(*updated, strict=True))
    assert moved > 1e-2
    assert worst < 1e-5 * max(1.0, moved)


def test_a_batch_without_a_counted_slice_changes_nothing():
    """Not even by Adam's momentum, nor as a step of Adam's."""
    step, state, frozen = prepared(optax.scale_by_adam(), 1)
    state, _ = step(state, frozen, small.on_devices(small.batch(2), 1), *rate(1e-2, 1))
    before = small.leaves(unreplicate(state)[1:])
    empty = small.batch(2, empty=((0, 0), (0, 1), (1, 0), (1, 1)))
    state, metrics = step(state, frozen, small.on_devices(empty, 1), *rate(1e-2, 1, update_average=True))
    assert int(metrics["counted"][0]) == 0
    assert bool(metrics["finite"][0])
    assert all(np.array_equal(a, b) for a, b in zip(before, small.leaves(unreplicate(state)[1:]), strict=True))
    assert int(unreplicate(state).step) == 2


def test_a_batch_gives_the_mean_of_its_samples_one_by_one():
    data = small.batch(2)
    step, state, frozen = prepared(optax.identity(), 1)
    both, _ = step(state, frozen, small.on_devices(data, 1), *rate(1.0, 1))
    single = []
    for sample in range(2):
        step_one, state, frozen = prepared(optax.identity(), 1)
        part = {name: x[sample : sample + 1] for name, x in data.items()}
        state, _ = step_one(state, frozen, small.on_devices(part, 1), *rate(1.0, 1))
        single.append(small.leaves(unreplicate(state).trainable.tree()))
    for together, one, other in zip(small.leaves(unreplicate(both).trainable.tree()), *single, strict=True):
        np.testing.assert_allclose(together, (one + other) / 2, atol=2e-6)


def test_empty_and_padding_slices_do_not_count():
    data = small.batch(2, empty=((0, 0),))
    data["slices"][1, 1] = False
    data["valid"] = np.array([True, True])
    step, state, frozen = prepared(optax.identity(), 1)
    _, metrics = step(state, frozen, small.on_devices(data, 1), *rate(0.0, 1))
    assert int(metrics["counted"][0]) == 2


def test_prompt_free_samples_count_their_empty_slices():
    data = small.batch(2, empty=((0, 0), (1, 1)))
    step, state, frozen = prepared(optax.identity(), 1, "none")
    _, metrics = step(state, frozen, small.on_devices(data, 1), *rate(0.0, 1))
    assert int(metrics["counted"][0]) == 4


def test_a_step_with_non_finite_loss_changes_nothing_but_says_so():
    step, state, frozen = prepared(optax.scale_by_adam(), 1)
    frozen = jax.tree.map(lambda x: x * np.nan, frozen)
    before = [x.copy() for x in small.leaves(unreplicate(state)[1:3])]
    state, metrics = step(state, frozen, small.on_devices(small.batch(2), 1), *rate(1e-2, 1))
    assert not bool(metrics["finite"][0])
    assert all(np.array_equal(a, b) for a, b in zip(before, small.leaves(unreplicate(state)[1:3]), strict=True))


def test_the_step_is_compiled_once(caplog):
    step, state, frozen = prepared(optax.scale_by_adam(), 2)
    data = small.on_devices(small.batch(2), 2)
    state, _ = step(state, frozen, data, *rate(1e-3, 2))
    with jax.log_compiles(True):
        step(state, frozen, data, *rate(1e-3, 2))
    assert not [record for record in caplog.records if "Compiling" in record.getMessage()]


def test_the_average_is_the_mean_of_the_weights_that_entered_it():
    step, state, frozen = prepared(optax.scale_by_adam(), 1)
    data = small.on_devices(small.batch(2), 1)
    entered = []
    for update_average in (False, True, False, True, True):
        state, _ = step(state, frozen, data, *rate(1e-2, 1, update_average))
        if update_average:
            entered.append(small.leaves(unreplicate(state).trainable.tree()))
    assert int(unreplicate(state).averaged) == 3
    for average, *iterates in zip(small.leaves(unreplicate(state).average.tree()), *entered, strict=True):
        np.testing.assert_allclose(average, np.mean(iterates, axis=0), atol=1e-7, rtol=1e-5)
