"""Several processes training as one: how they connect, and how they agree on values outside the pmapped steps.

Every process runs the same program on its own devices and its own share of the data; process 0 writes the files.
With more than one process, all of them must call these functions in the same order. With one process nothing waits
and nothing is sent.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from samjax.errors import UserError

T = TypeVar("T")
Tree = TypeVar("Tree")

START_SECONDS = 300
"""Seconds that the processes wait for one another when they start."""
END_SECONDS = 30
"""Seconds that a process that ends, by an error for instance, waits for the others before it ends them too."""


def start(coordinator: str | None, count: int | None, index: int | None) -> None:
    """Joins the processes of this training; must come before anything else that asks JAX for devices.

    Without flags the processes are the tasks of a SLURM step, of mpirun or of an indexed Kubernetes job; a process that
    none of them started, or started alone, trains alone. A SLURM allocation alone does not count: a notebook or shell
    within it is one process.

    Args:
        coordinator: HOST:PORT of process 0.
        count: number of processes; 1 trains alone, even under a launcher.
        index: index of this process.

    Raises:
        UserError: the flags do not fit together, the processes do not meet, or their devices differ in number.
    """
    _check(coordinator, count, index)
    launch = _launch()
    given = {"--coordinator": coordinator, "--processes": count, "--process-index": index}
    if count == 1 or (launch is None and not any(value is not None for value in given.values())):
        return
    if launch is None and None in given.values():
        missing = " and ".join(name for name, value in given.items() if value is None)
        raise UserError(f"{missing} missing: several processes started by hand need {', '.join(given)}")
    if launch is not None:
        count, index = count or launch.count, launch.index if index is None else index

    # SIGTERM stays with the program: JAX's preemption service would swallow it.
    jax.config.update("jax_enable_preemption_service", False)
    _meet(coordinator, count, index, launch)
    _check_devices()
    barrier("start")  # connects the devices now: later they would not wait long for a process that is late


def _check(coordinator: str | None, count: int | None, index: int | None) -> None:
    if coordinator is not None:
        host, _, port = coordinator.rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise UserError(f"--coordinator {coordinator}: expected HOST:PORT, the address of process 0")
    if count is not None and count < 1:
        raise UserError(f"--processes {count}: expected at least 1")
    if index is not None and (index < 0 or (count is not None and index >= count)):
        raise UserError(f"--process-index {index}: expected 0 {'and up' if count is None else f'to {count - 1}'}")


@dataclass(frozen=True)
class _Launch:
    """The settings that a launcher gives a process that it started among others; JAX finds those that are None."""

    launcher: str
    count: int | None
    index: int | None
    alone: bool
    """Whether it is the only process on its machine."""


def _launch() -> _Launch | None:
    """The launch of this process; asks in JAX's order, but by variables that distinguish tasks from allocations."""
    environment = os.environ
    if (count := int(environment.get("OMPI_COMM_WORLD_SIZE", 1))) > 1:
        alone = environment.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
        return _Launch("mpirun", count, int(environment["OMPI_COMM_WORLD_RANK"]), alone)
    if (count := int(environment.get("SLURM_STEP_NUM_TASKS", 1))) > 1:
        alone = environment.get("SLURM_STEP_NUM_NODES") == str(count)
        return _Launch("SLURM", count, int(environment["SLURM_PROCID"]), alone)
    if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys() and find_spec("kubernetes"):
        return _Launch("Kubernetes", None, None, True)
    return None


def _meet(coordinator: str | None, count: int | None, index: int | None, launch: _Launch | None) -> None:
    """Runs jax.distributed.initialize in a thread: at its own timeout JAX would abort the process."""
    if coordinator is not None and index == 0:
        _check_port(coordinator)
    # None gives a process the GPU of its place on the machine, [] leaves it all GPUs that it sees.
    shares = launch is not None and not launch.alone and "," in os.environ.get("CUDA_VISIBLE_DEVICES", ",")
    errors: list[Exception] = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(
                coordinator,
                count,
                index,
                local_device_ids=None if shares else [],
                initialization_timeout=2 * START_SECONDS,
                shutdown_timeout_seconds=END_SECONDS,
            )
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=initialize, daemon=True)
    thread.start()
    thread.join(START_SECONDS)
    who = f"process {index} of {count}" if launch is None else f"started by {launch.launcher}"
    where = f"--coordinator {coordinator}" if coordinator else "no --coordinator"
    if thread.is_alive():
        raise UserError(
            f"{where} ({who}): the processes did not meet within {START_SECONDS} s; start all of them, process 0 on "
            "the coordinator's host, and let its port through the firewall; --processes 1 trains alone"
        )
    if errors:
        reason = str(errors[0]).strip().split("\n")[0]
        raise UserError(
            f"{where} ({who}): JAX cannot join the processes ({reason}); give --coordinator HOST:PORT with a free port "
            "of process 0, or --processes 1 to train alone"
        ) from errors[0]


def _check_port(coordinator: str) -> None:
    """Checks that the port is free, since JAX may crash if it is taken."""
    try:
        socket.create_server(("", int(coordinator.rpartition(":")[2]))).close()
    except OSError as error:
        raise UserError(
            f"--coordinator {coordinator}: process 0 cannot open this port ({error.strerror}); take another"
        ) from error


def _check_devices() -> None:
    counts = [len(jax.local_devices(process_index=index)) for index in range(jax.process_count())]
    if len(set(counts)) > 1:
        raise UserError(
            f"the processes have {', '.join(map(str, counts))} devices: give each the same number, "
            "for instance with CUDA_VISIBLE_DEVICES"
        )


def is_writer() -> bool:
    """Whether this process writes the run's files and prints messages."""
    return jax.process_index() == 0


def gathered(array: np.ndarray) -> np.ndarray:
    """The arrays of all processes, of one shape and dtype, bit for bit: (processes, ...)."""
    array = np.asarray(array)
    if jax.process_count() == 1:
        return array[None]
    data = np.asarray(_sent(np.frombuffer(array.tobytes(), np.uint8)))  # as bytes: JAX would cut 64 bits to 32
    return data[:: jax.local_device_count()].copy().view(array.dtype).reshape(-1, *array.shape)


def _sent(data: np.ndarray) -> jax.Array:
    """The bytes that all processes send, (devices, bytes); returns before they have arrived."""
    split, gather = _gather()
    local = np.tile(data, (jax.local_device_count(), 1))
    return gather(jax.make_array_from_process_local_data(split, local))


@cache
def _gather() -> tuple[NamedSharding, Callable[[jax.Array], jax.Array]]:
    # Over all devices, as the steps' sums: one connection serves both.
    devices = [device for index in range(jax.process_count()) for device in jax.local_devices(process_index=index)]
    mesh = Mesh(np.array(devices), ("device",))
    gather = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))
    return NamedSharding(mesh, PartitionSpec("device")), gather


def _gathered_texts(text: str) -> list[str]:
    data = np.frombuffer(text.encode(), np.uint8)
    lengths = gathered(np.int64(len(data)))
    padded = np.zeros(lengths.max() // 256 * 256 + 256, np.uint8)  # few lengths: each compiles a program
    padded[: len(data)] = data
    return [row[:length].tobytes().decode() for row, length in zip(gathered(padded), lengths, strict=True)]


def barrier(name: str) -> None:
    """Waits until all processes call it."""
    names = _gathered_texts(name)
    if len(set(names)) > 1:
        raise RuntimeError(f"the processes are at different places: {', '.join(names)}")


@contextmanager
def errors_shared() -> Iterator[None]:
    """Raises the UserError of one process on all of them, so that none waits for one that gave up.

    Code within may not wait for other processes.
    """
    message, cause = "", None
    try:
        yield
    except UserError as error:
        message, cause = str(error), error
    messages = _gathered_texts(message)
    index = next((index for index, text in enumerate(messages) if text), None)
    if index is not None:
        one = jax.process_count() == 1 or index == jax.process_index()
        raise UserError(messages[index] if one else f"process {index}: {messages[index]}") from cause


def from_writer(make: Callable[[], T]) -> T:
    """The result of `make`, which only process 0 runs, passed on as JSON; its `UserError` is raised on all."""
    text = ""
    with errors_shared():
        if is_writer():
            text = json.dumps(make())
    return json.loads(_gathered_texts(text)[0])


def broadcast(tree: Tree) -> Tree:
    """Process 0's arrays on all processes, as NumPy arrays; the others give arrays of the same shapes and dtypes."""
    return multihost_utils.broadcast_one_to_all(tree)


class Vote:
    """Whether any process has a request, such as to stop; asked at every step without holding up training.

    With several processes the answer is that of the previous call, which has arrived with that step's results; it is
    the same on all of them.
    """

    def __init__(self) -> None:
        self._sent: jax.Array | None = None

    def __call__(self, wanted: bool) -> bool:
        if jax.process_count() == 1:
            return wanted
        before, self._sent = self._sent, _sent(np.array([wanted], np.uint8))
        return before is not None and bool(np.asarray(before).any())
