"""Who joins whom: flags, launchers, and what goes wrong in one clear line."""

import socket
import time

import jax
import numpy as np
import pytest

from samjax.errors import UserError
from samjax.training import distributed

ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
STEP = ALLOCATION | {"SLURM_STEP_NODELIST": "node[1-2]", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
FOUR_ON_TWO = STEP | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}
TWO_ON_TWO = STEP | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "1"}
MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """The calls of jax.distributed.initialize, none of which is made."""
    calls: list[dict] = []

    def initialize(coordinator: str | None, count: int | None, index: int | None, **options: object) -> None:
        calls.append({"coordinator": coordinator, "count": count, "index": index, **options})

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    for name in (*FOUR_ON_TWO, *MPI, *POD, "CUDA_VISIBLE_DEVICES", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    return calls


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


SINGLE = {
    "laptop": {},
    "allocation": ALLOCATION,
    "step of one task": ALLOCATION | {"SLURM_STEP_NODELIST": "node1", "SLURM_STEP_NUM_TASKS": "1"},
    "pod": POD,
    "mpirun -n 1": MPI | {"OMPI_COMM_WORLD_SIZE": "1"},
}


@pytest.mark.parametrize("variables", SINGLE.values(), ids=SINGLE)
def test_what_was_started_alone_trains_alone(monkeypatch, joined, variables):
    set_all(monkeypatch, variables)
    distributed.start(None, None, None)
    assert not joined


def test_one_process_may_be_asked_for_within_a_step_of_several(monkeypatch, joined):
    set_all(monkeypatch, FOUR_ON_TWO)
    distributed.start(None, 1, None)
    assert not joined


@pytest.mark.parametrize(
    ("variables", "count", "index", "devices"),
    [
        (TWO_ON_TWO, 2, 1, []),
        (FOUR_ON_TWO, 4, 3, None),
        (FOUR_ON_TWO | {"CUDA_VISIBLE_DEVICES": "0,1"}, 4, 3, None),
        (FOUR_ON_TWO | {"CUDA_VISIBLE_DEVICES": "0"}, 4, 3, []),
        (MPI, 2, 1, []),
        (MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, 2, 1, None),
    ],
    ids=["slurm", "slurm, shared nodes", "same, all GPUs seen", "same, own GPU seen", "mpirun", "mpirun, shared node"],
)
def test_the_tasks_of_a_launcher_join(monkeypatch, joined, variables, count, index, devices):
    set_all(monkeypatch, variables)
    distributed.start(None, None, None)
    (call,) = joined
    assert (call["coordinator"], call["count"], call["index"]) == (None, count, index)
    assert call["local_device_ids"] == devices


def test_flags_join_processes_started_by_hand(joined):
    distributed.start("node1:1234", 2, 1)
    (call,) = joined
    assert (call["coordinator"], call["count"], call["index"]) == ("node1:1234", 2, 1)
    assert call["local_device_ids"] == []


def test_flags_go_before_what_the_launcher_says(monkeypatch, joined):
    set_all(monkeypatch, TWO_ON_TWO)
    distributed.start("node1:1234", None, None)
    assert (joined[0]["coordinator"], joined[0]["count"], joined[0]["index"]) == ("node1:1234", 2, 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((None, None, 1), "--coordinator and --processes missing"),
        ((None, 2, None), "--coordinator and --process-index missing"),
        (("node1:1234", None, None), "--processes and --process-index missing"),
        (("node1:1234", 2, 2), "--process-index 2: expected 0 to 1"),
        (("node1:1234", 2, -1), "--process-index -1: expected 0 to 1"),
        ((None, None, -1), "--process-index -1: expected 0 and up"),
        (("node1:1234", 0, 0), "--processes 0: expected at least 1"),
        (("node1", 2, 1), "--coordinator node1: expected HOST:PORT"),
        (("node1:port", 2, 1), "--coordinator node1:port: expected HOST:PORT"),
    ],
)
def test_flags_that_do_not_fit_are_named(joined, flags, message):
    with pytest.raises(UserError, match=message):
        distributed.start(*flags)
    assert not joined


def test_a_coordinator_that_does_not_answer_is_an_error_in_time(monkeypatch, joined):
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: time.sleep(1))
    monkeypatch.setattr(distributed, "START_SECONDS", 0.05)
    with pytest.raises(UserError, match=r"--coordinator node1:1234 \(process 1 of 2\): the processes did not meet"):
        distributed.start("node1:1234", 2, 1)


def test_what_jax_finds_wrong_is_told_with_the_launcher(monkeypatch, joined):
    def initialize(*arguments: object, **options: object) -> None:
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    set_all(monkeypatch, MPI)
    with pytest.raises(UserError, match=r"started by mpirun\): JAX cannot join .*coordinator_address.*--processes 1"):
        distributed.start(None, None, None)


def test_a_port_in_use_is_named(joined):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--coordinator localhost:{port}: process 0 cannot open this port"):
            distributed.start(f"localhost:{port}", 2, 0)
    assert not joined


def test_one_process_agrees_with_itself():
    vote = distributed.Vote()
    assert [vote(wanted) for wanted in (False, True, False)] == [False, True, False]
    assert distributed.is_writer()
    assert distributed.from_writer(lambda: {"folder": "runs/a"}) == {"folder": "runs/a"}
    np.testing.assert_array_equal(distributed.gathered(np.array([1.5, 2**40])), [[1.5, 2**40]])
    np.testing.assert_array_equal(distributed.broadcast({"x": np.arange(3)})["x"], np.arange(3))
    distributed.barrier("here")
    with pytest.raises(UserError, match=r"^--data x: missing$"), distributed.errors_shared():
        raise UserError("--data x: missing")
