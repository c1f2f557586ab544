"""What a chain yields, in every way of running it, and how it ends."""

import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

from samjax.data.loading.pipeline import MapDataset
from samjax.data.loading.workers import WorkerError
from samjax.errors import UserError
from tests.data.loading.pipeline_parts import (
    Unloadable,
    Windows,
    add_noise,
    add_other_noise,
    grow,
    read,
    slow,
    stumble,
    who,
)
from tests.processes import gone, running

REPOSITORY = Path(__file__).parents[3]


def chain(size=4, seed=7):
    samples = MapDataset.source(Windows()).seed(seed).shuffle().map(read)
    return samples.random_map(add_noise).random_map(add_other_noise).batch(size)


def assert_same(left, right):
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    else:
        np.testing.assert_array_equal(left, right, strict=True)


def ids(dataset, epoch):
    """The ids of the real samples of an epoch, in order."""
    batches = [dataset.get(epoch, i) for i in range(dataset.length(epoch))]
    return np.concatenate([batch["id"][batch["valid"]] for batch in batches]).tolist()


def order(dataset, epoch=0):
    return [dataset.get(epoch, i) for i in range(dataset.length(epoch))]


# What is yielded


def test_every_sample_of_an_epoch_once_and_in_another_order_each_time():
    dataset = chain()
    for epoch, length in enumerate((11, 7, 13, 11)):
        assert dataset.length(epoch) == -(-length // 4)
        assert sorted(ids(dataset, epoch)) == [1000 * epoch + i for i in range(length)]
    assert [i - 3000 for i in ids(dataset, 3)] != ids(dataset, 0)


def test_seeds_and_epochs_never_share_an_order():
    numbers = MapDataset.source(range(50))
    orders = [order(numbers.seed(seed).shuffle(), epoch) for seed in range(4) for epoch in range(4)]
    assert len({tuple(o) for o in orders}) == 16
    assert orders[0] == order(numbers.seed(0).shuffle(), 0)


def test_each_random_step_draws_from_its_own_stream():
    batch = chain().get(0, 0)
    assert not np.isin(batch["noise"], batch["other"]).any()
    assert len(np.unique(batch["noise"])) == 8
    once = MapDataset.source(range(50)).seed(1).shuffle()
    first = np.array(order(once))
    second = np.argsort(first)[order(once.shuffle())]
    assert sorted(second) == list(range(50))
    assert (first != second).any()


@pytest.mark.parametrize("count", [1, 2, 3, 20])
@pytest.mark.parametrize("size", [1, 4, 30])
@pytest.mark.parametrize("late", [False, True])
def test_shards_partition_the_epoch_in_the_same_number_of_batches(count, size, late):
    samples = MapDataset.source(Windows()).seed(3)
    shards = []
    for index in range(count):
        part = samples.shard(index, count).shuffle() if late else samples.shuffle().shard(index, count)
        assert part.length(1) == len(range(index, 7, count))
        shards.append(part.map(read).random_map(add_noise).batch(size))
    assert {shard.length(1) for shard in shards} == {-(-7 // (count * size))}
    found = [i for shard in shards for i in ids(shard, 1)]
    assert sorted(found) == [1000 + i for i in range(7)]


def test_random_draws_go_with_the_sample_whatever_its_shard():
    samples = MapDataset.source(Windows()).seed(3).shuffle()
    whole = samples.map(read).random_map(add_noise).batch(7).get(1, 0)
    noise = {number: draw.tolist() for number, draw in zip(whole["id"], whole["noise"], strict=True)}
    for index in range(2):
        batch = samples.shard(index, 2).map(read).random_map(add_noise).batch(4).get(1, 0)
        for number, draw in zip(batch["id"], batch["noise"], strict=True):
            assert noise[number] == draw.tolist()


def test_the_last_batch_is_padded_with_samples_marked_invalid():
    batch = MapDataset.source([{"x": 1.5, "y": {"z": np.arange(2)}}, {"x": 2.5, "y": {"z": np.ones(2, int)}}])
    batch = batch.batch(5).get(0, 0)
    assert_same(batch["valid"], np.array([True, True, False, False, False]))
    assert_same(batch["x"], np.array([1.5, 2.5, 1.5, 2.5, 1.5]))
    assert batch["y"]["z"].shape == (5, 2)


def test_steps_leave_the_chain_they_are_added_to_as_it_was():
    base = MapDataset.source(range(20)).seed(5)
    before = order(base)
    shuffled = base.shuffle()
    mapped, batched = shuffled.map(str), shuffled.map(lambda i: {"i": i}).batch(3)
    assert order(base) == before == list(range(20))
    assert order(mapped) == [str(i) for i in order(shuffled)]
    assert batched.length(0) == 7
    for dataset in (base, shuffled, mapped, batched):
        with pytest.raises(dataclasses.FrozenInstanceError):
            dataset.parent = None


def test_elements_that_do_not_exist_are_refused():
    dataset = chain()
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"element {index} of epoch 0, which has 3"):
            dataset.get(0, index)


# Iterating


@pytest.mark.parametrize(("workers", "prefetch"), [(0, 0), (0, 3), (1, 2), (3, 2)])
def test_batches_and_states_are_equal_for_any_number_of_workers_and_after_set_state(workers, prefetch):
    dataset = chain()
    places = [(epoch, i) for epoch in range(4) for i in range(dataset.length(epoch))]
    with dataset.to_iter(workers, prefetch=prefetch, epochs=3) as batches:
        states, found = [batches.get_state()], []
        for batch in batches:
            found.append((batches.position, batch))
            states.append(json.loads(json.dumps(batches.get_state())))
        assert [position for position, _ in found] == places[:9]
        assert [(state["epoch"], state["index"]) for state in states] == places[:10]
        for place, batch in found:  # only now, to see that later batches did not write into them
            assert_same(batch, dataset.get(*place))
            assert batch["image"].flags.writeable
        for start in np.random.default_rng(0).integers(8, size=3):
            batches.set_state(states[start])
            assert batches.get_state() == states[start]
            assert_same(next(batches), found[start][1])
            assert_same(next(batches), found[start + 1][1])
            assert batches.position == places[start + 1]
        batches.set_state(states[9])
        assert list(batches) == []


def test_start_and_number_of_epochs():
    dataset = chain()
    batches = dataset.to_iter(start=(1, 1), epochs=2)
    positions = []
    for batch in batches:
        assert_same(batch, dataset.get(*batches.position))
        positions.append(batches.position)
    assert positions == [(1, 1), (2, 0), (2, 1), (2, 2), (2, 3)]
    endless = dataset.to_iter(start=(40, 0), prefetch=0)
    assert [next(endless) and endless.position[0] for _ in range(10)] == [40] * 2 + [41] * 4 + [42] * 3 + [43]


class Counter:
    """Counts the samples that are read."""

    def __init__(self):
        self.count = 0

    def __call__(self, sample):
        self.count += 1
        return {"x": sample}


def test_going_to_a_state_replays_nothing():
    counter = Counter()
    batches = MapDataset.source(range(1000)).seed(1).shuffle().map(counter).batch(5).to_iter(prefetch=0)
    batches.set_state({"epoch": 300, "index": 150})
    next(batches)
    assert counter.count == 5


def test_prefetching_is_bounded_and_not_part_of_the_state():
    counter = Counter()
    batches = MapDataset.source(range(1000)).map(counter).batch(1).to_iter(prefetch=3)
    next(batches)
    time.sleep(0.2)
    assert counter.count == 4
    assert batches.get_state() == {"epoch": 0, "index": 1}


def test_wait_seconds_is_the_time_since_last_asked():
    batches = MapDataset.source(range(100)).map(slow).batch(1).to_iter(prefetch=0)
    assert batches.wait_seconds == 0
    next(batches), next(batches)
    assert 0.2 <= batches.wait_seconds < 2
    assert batches.wait_seconds == 0
    ahead = MapDataset.source(range(100)).map(slow).batch(1).to_iter(prefetch=1)
    next(ahead), time.sleep(0.6)
    assert ahead.wait_seconds >= 0.1
    next(ahead)
    assert ahead.wait_seconds < 0.1


def test_workers_pass_on_anything_of_any_size_and_import_no_jax():
    dataset = MapDataset.source(range(7)).map(grow)
    with dataset.to_iter(1, epochs=1) as elements:
        found = list(elements)
    for index, element in enumerate(found):
        assert element.pop("text") == ["any", None]
        assert element.pop("jax") is False
        assert element.pop("named memory") is False
        expected = grow(index)
        for key in element:
            assert_same(element[key], expected[key])


# Failing


def test_a_failing_worker_tells_all_and_a_dead_one_is_noticed():
    dataset = MapDataset.source(range(40)).map(stumble).batch(4)
    with dataset.to_iter(1) as batches:
        assert_same(next(batches)["x"], np.arange(4))
        with pytest.raises(WorkerError, match="ValueError: the fifth is broken") as failure:
            next(batches)
        for told in ("(0, 1)", "in stumble", "pipeline_parts.py", "sample 5 of epoch 0", "index=1"):
            assert told in str(failure.value)
        assert batches.get_state() == {"epoch": 0, "index": 1}

        batches.set_state({"epoch": 0, "index": 2})
        with pytest.raises(UserError) as failure:
            next(batches)
        assert str(failure.value) == "case_9.nii.gz: 3 channels, expected 4; convert it"
        shown = "".join(traceback.format_exception(failure.value))
        assert "in stumble" in shown
        assert "sample 9 of epoch 0" in shown

        begin = time.perf_counter()
        for index, told in ((3, "was killed by SIGKILL: if memory ran out"), (4, "ended with exit code 3")):
            batches.set_state({"epoch": 0, "index": index})
            with pytest.raises(UserError, match=told) as failure:
                next(batches)
            assert f"(0, {index})" in str(failure.value)
            assert "\n" not in str(failure.value)
        assert time.perf_counter() - begin < 5

        batches.set_state({"epoch": 0, "index": 5})
        assert_same(next(batches)["x"], np.arange(20, 24))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_without_workers_an_exception_is_itself_and_names_the_sample(prefetch):
    batches = MapDataset.source(range(8)).map(stumble).batch(4).to_iter(prefetch=prefetch)
    next(batches)
    for _ in range(2):
        with pytest.raises(ValueError, match="the fifth is broken") as failure:
            next(batches)
        assert "sample 5 of epoch 0" in "".join(failure.value.__notes__)
    assert batches.get_state() == {"epoch": 0, "index": 1}


def test_a_chain_that_workers_cannot_have_is_explained():
    with pytest.raises(UserError, match=r"lambda.*workers=0"):
        MapDataset.source(range(3)).map(lambda x: x).to_iter(1)
    with (
        MapDataset.source(range(3)).map(Unloadable()).to_iter(1) as elements,
        pytest.raises(UserError, match=r"no such module here.*module of their own"),
    ):
        next(elements)


NUMBERS = MapDataset.source([{"x": 1}, {"x": 2}])


class Drained:
    def epoch(self, epoch):
        return [{"x": 1}] if epoch == 0 else []


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: NUMBERS.batch(0), "the batch size is 0: give a whole number from 1 up"),
        (lambda: NUMBERS.batch(2.0), "the batch size is 2.0"),
        (lambda: NUMBERS.batch(2).batch(2), r"batch\(\) twice"),
        (lambda: NUMBERS.batch(2).shard(0, 2), "shard before batching"),
        (lambda: NUMBERS.shard(2, 2), "shard of 2 is 2: give a whole number from 0 to 1"),
        (lambda: NUMBERS.shuffle(), r"shuffle\(\) has no seed: call \.seed"),
        (lambda: NUMBERS.random_map(add_noise), r"random_map\(\) has no seed"),
        (lambda: NUMBERS.seed(-1), "the seed is -1: give a whole number from 0 to 4294967295"),
        (lambda: NUMBERS.seed(2**32), "the seed is 4294967296"),
        (lambda: NUMBERS.seed(True), "the seed is True"),
        (lambda: MapDataset.source(3), "type int cannot be a source"),
        (lambda: NUMBERS.to_iter(-1), "the number of workers is -1"),
        (lambda: NUMBERS.to_iter(1, prefetch=0), "prefetch is 0: give a whole number from 1 up"),
        (lambda: NUMBERS.to_iter(epochs=0), "the number of epochs is 0"),
        (lambda: NUMBERS.to_iter(start=(0, 2)), "batch 2 of epoch 0, which has 2: resume with the data"),
        (lambda: NUMBERS.to_iter().set_state({"epoch": 0}), r"\{'epoch': 0\}: expected a dict"),
        (lambda: NUMBERS.to_iter().set_state({"epoch": 0, "index": 1.0}), r"\(0, 1\.0\): give whole numbers"),
        (lambda: list(MapDataset.source(Drained()).to_iter()), "epoch 1 of the data has no samples"),
        (lambda: NUMBERS.map(lambda s: s["x"]).batch(2).get(0, 0), "found type int: samples must be dicts"),
        (lambda: NUMBERS.map(lambda s: {"valid": 1}).batch(2).get(0, 0), "'valid' left free"),
        (lambda: NUMBERS.map(lambda s: {s["x"]: 1}).batch(2).get(0, 0), "different fields"),
        (lambda: NUMBERS.map(lambda s: {"a": {"b": None}}).batch(2).get(0, 0), "'a/b' is of type NoneType"),
        (
            lambda: NUMBERS.map(lambda s: {"a": np.zeros(s["x"], np.uint8)}).batch(2).get(0, 0),
            r"'a' differs within one batch: uint8\(1,\) and uint8\(2,\)",
        ),
        (
            lambda: NUMBERS.map(lambda s: {"a": np.zeros(2, f"i{s['x']}")}).batch(2).get(0, 0),
            r"int8\(2,\) and int16\(2,\)",
        ),
    ],
)
def test_mistakes_are_named_with_their_remedy(mistake, message):
    with pytest.raises(UserError, match=message) as failure:
        mistake()
    assert "\n" not in str(failure.value)


# Ending


def test_closing_and_forgetting_an_iterator_end_its_processes():
    dataset = MapDataset.source(range(20)).map(who)
    with dataset.to_iter(2) as closed:
        pids = {next(closed)["pid"] for _ in range(4)}
        assert len(pids) == 2
        assert all(map(running, pids))
    assert not any(map(running, pids))
    assert closed.get_state() == {"epoch": 0, "index": 4}
    closed.close()
    with pytest.raises(RuntimeError, match="closed"):
        next(closed)
    forgotten = dataset.to_iter(1, start=(0, 9))
    pid = next(forgotten)["pid"]
    assert running(pid)
    del forgotten
    gc.collect()
    assert not running(pid)


PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
from samjax.data.loading.pipeline import MapDataset
from tests.data.loading.pipeline_parts import who

batches = MapDataset.source(range(20)).map(who).batch(1).to_iter(2, start=(0, 6))
pids = [int(next(batches)["pid"][0]) for _ in range(4)]
print(*pids, flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "failed":
    raise ZeroDivisionError
next(batches)
"""


@pytest.mark.parametrize("end", ["interrupted", "terminated", "killed", "failed"])
def test_no_process_outlives_the_program_and_none_complains(end):
    """The workers are in the middle of a sample of a minute when the program ends."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, end],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with program:
        pids = {int(pid) for pid in program.stdout.readline().split()}
        assert len(pids) == 2
        time.sleep(0.2)
        if end == "interrupted":
            os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        if end == "terminated":
            program.terminate()
        errors = program.communicate(timeout=10)[1]
    assert gone(pids)
    last = {"interrupted": "KeyboardInterrupt", "failed": "ZeroDivisionError"}.get(end)
    assert (errors.splitlines() or [None])[-1] == last
    assert errors.count("Traceback") == (last is not None)
    assert "resource_tracker" not in errors
