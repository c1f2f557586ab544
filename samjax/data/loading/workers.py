"""Worker processes: they call a function with the arguments sent to them, through shared memory.

Training data, the slice cache, the checks of a cohort, the phantom and scoring all use this kind of worker process.

Each worker is a fresh interpreter that imports what the pickled function names and nothing else. It is not
forked, since JAX's threads may be running here, and not a `multiprocessing.Process`, since that would
import the main program again, and with it JAX, before the first sample.

A worker ends with its parent, however that ends: it listens on a socket whose other end the system closes with
the parent, even when that is killed.

The memory has no name. A named segment (`multiprocessing.shared_memory`) outlives a killed program, is
limited by the size of /dev/shm (64 MB in a container by default), and on Python before 3.13 is
registered by every process that attaches it, so that resource trackers warn of, and remove, segments
that are not theirs. An anonymous file is known by its descriptor alone, which the workers inherit; the
system frees it with the last process that has it open, even if all are killed at once. It also grows
when written to, so arguments and results may be of any size and shape.
"""

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import numpy as np

from samjax.errors import UserError

# The parallelism is in the number of workers: a pool of BLAS threads in each would fight over the cores.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

STOPPING = (signal.SIGINT, signal.SIGTERM)


class WorkerError(RuntimeError):
    """The function failed in a worker; the message holds the task of the call and the worker's own traceback."""


class WorkerDied(UserError):
    """A worker process was killed, or ended by itself, mostly for lack of memory."""


@dataclass(frozen=True)
class Wording:
    """The words for a pool's processes in error messages."""

    task: Callable[..., str]
    """Names the task of a call from its arguments, such as "case 7"."""
    worker: str = "data worker"
    """The name of one of the processes."""
    remedy: str = "use fewer workers or smaller batches"
    """The advice for a lack of memory."""


@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen
    connection: Connection


@dataclass(frozen=True)
class _Request:
    worker: _Worker
    slot: int
    task: str
    """The task of the call in words."""


@dataclass(frozen=True)
class _Failure:
    """An exception as sent to the parent."""

    message: str
    trace: str
    of_user: bool
    """Whether it was a `UserError`."""


class WorkerPool:
    """Processes that call a function in turn; `receive` gives the results in the order of the requests.

    Each worker has `prefetch` slots of shared memory, which arguments and results go through. A request and its
    slot go to the workers round robin, so the slot of a request is free once the result `capacity` places
    earlier was received.

    Args:
        function: picklable, as are its arguments and results.
        workers: the number of processes.
        prefetch: the number of requests that may wait at each worker.
        wording: the words for the processes in error messages.

    Raises:
        UserError: the function cannot be pickled.
    """

    def __init__(self, function: Callable[..., Any], workers: int, prefetch: int, wording: Wording) -> None:
        self.capacity = workers * prefetch
        self._wording = wording
        self._requests: deque[_Request] = deque()
        self._count = 0
        self._workers: list[_Worker] = []
        self._slots: list[int] = []
        # Also runs when the program ends or an exception interrupts what follows.
        self._stop = weakref.finalize(self, _stop, self._workers, self._slots)
        pickled = _pickled(function)
        file = _anonymous_file()
        try:
            _write_at(file, pickled, 0)
            self._slots.extend(_anonymous_file() for _ in range(self.capacity))
            for i in range(workers):
                self._workers.append(_started(file, self._slots[i::workers]))
        finally:
            os.close(file)

    def request(self, *arguments: Any) -> None:
        """Requests a call; at most `capacity` may be outstanding."""
        turn = self._count % self.capacity
        worker, slot = self._workers[turn % len(self._workers)], self._slots[turn]
        sizes = _write(slot, arguments)
        with suppress(OSError):  # a dead worker is reported when its result is due
            worker.connection.send((slot, sizes))
        self._requests.append(_Request(worker, slot, self._wording.task(*arguments)))
        self._count += 1

    def receive(self) -> Any:
        """Waits for the result of the earliest request; its arrays own their memory.

        Raises:
            UserError: raised by the function in the worker.
            WorkerDied: the worker was killed, or ended by itself.
            WorkerError: the function raised any other exception.
        """
        request = self._requests.popleft()
        try:
            reply = request.worker.connection.recv()
        except (EOFError, OSError):
            self._raise_death(request)
        if isinstance(reply, _Failure):
            self._raise_failure(request, reply)
        return _read(request.slot, reply)

    def close(self) -> None:
        """Stops the processes, even in the middle of a call, and frees the memory."""
        self._stop()

    def _raise_failure(self, request: _Request, failure: _Failure) -> NoReturn:
        if failure.of_user:
            error: Exception = UserError(failure.message)
            error.add_note(f"{self._name(request)} raised it:\n{failure.trace}")
            raise error
        raise WorkerError(f"{self._name(request)} failed: {failure.message}\n\n{failure.trace}")

    def _raise_death(self, request: _Request) -> NoReturn:
        code = _end_of(request.worker.process)
        how, advice = f"ended with exit code {code}", "see what it wrote above"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
            advice = f"if memory ran out, {self._wording.remedy}"
        raise WorkerDied(f"{self._name(request)} {how}: {advice}") from None

    def _name(self, request: _Request) -> str:
        number = self._workers.index(request.worker)
        pid = request.worker.process.pid
        return f"{self._wording.worker} {number} (process {pid}), at work on {request.task},"


def _pickled(function: Callable[..., Any]) -> bytes:
    try:
        return pickle.dumps(function, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"the work cannot be sent to worker processes ({error}): use functions and classes from a "
            "module's top level, not lambdas or local ones, or workers=0"
        ) from error


def _started(function: int, slots: list[int]) -> _Worker:
    """Starts a process that calls the function in the file `function`; see `serve` for its side."""
    ours, theirs = socket.socketpair()
    # The path comes first and by itself: all else that the worker imports is found through it.
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve"
    # A blocked signal stays blocked in the new program, so none can hit it before it ignores it.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{code}({theirs.fileno()}, {function})"],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), function, *slots),
            env=_ONE_THREAD | os.environ,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()  # the end of the process must be the end of the connection
    return _Worker(process, Connection(ours.detach()))


def _stop(workers: list[_Worker], slots: list[int]) -> None:
    # Whatever workers write is whole or absent, so killing them loses nothing, and is quick however long a call takes.
    for worker in workers:
        worker.connection.close()
        worker.process.kill()
    for worker in workers:
        worker.process.wait()
    for slot in slots:
        os.close(slot)


def _end_of(process: subprocess.Popen) -> int:
    """The exit code of a process that has closed its connection."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(timeout=5)
    process.kill()
    return process.wait()


def serve(connection: int, function: int) -> None:
    """The worker: answers requests (slot, sizes of the arguments) until the parent closes the connection or ends.

    Args:
        connection: descriptor of the socket for requests and replies.
        function: descriptor of the file that holds the pickled function.
    """
    # Ctrl-C and SIGTERM, which clusters send to every process, are the parent's to handle: it still needs results.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    parent = Connection(connection)
    requests: queue.SimpleQueue[tuple[int, list[int]]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(parent, requests), daemon=True).start()
    call, failure = _loaded(function)
    while True:
        slot, sizes = requests.get()
        reply = failure or _answer(call, slot, sizes)
        with suppress(OSError):  # the parent is gone, and `_listen` about to end this process
            parent.send(reply)


def _listen(parent: Connection, requests: queue.SimpleQueue) -> None:
    """Passes requests on; in a thread of its own, to notice the parent's end in the middle of a call."""
    try:
        while True:
            requests.put(parent.recv())
    except (EOFError, OSError):
        os._exit(0)


def _loaded(function: int) -> tuple[Callable[..., Any] | None, _Failure | None]:
    try:
        # Not through a file object: the workers share one position, and would move it under each other.
        return pickle.loads(_read_at(function, os.fstat(function).st_size, 0)), None
    except Exception as error:
        message = (
            f"the work could not be loaded in a worker process ({type(error).__name__}: {error}): put its "
            "functions and classes in a module of their own, not in the program itself, or use workers=0"
        )
        return None, _Failure(message, traceback.format_exc(), of_user=True)
    finally:
        os.close(function)


def _answer(function: Callable[..., Any], slot: int, sizes: list[int]) -> list[int] | _Failure:
    try:
        return _write(slot, function(*_read(slot, sizes)))
    except UserError as error:
        return _Failure(str(error), traceback.format_exc(), of_user=True)
    except Exception as error:
        return _Failure(f"{type(error).__name__}: {error}", traceback.format_exc(), of_user=False)


def _anonymous_file() -> int:
    """The descriptor of an empty file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("samjax-data")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write(file: int, value: Any) -> list[int]:
    """Writes a value, its arrays as raw memory, and returns the sizes of the parts."""
    arrays: list[memoryview] = []
    head = pickle.dumps(value, 5, buffer_callback=lambda buffer: arrays.append(buffer.raw()))
    end = 0
    for part in (head, *arrays):
        end = _write_at(file, part, end)
    return [len(head), *(array.nbytes for array in arrays)]


def _write_at(file: int, data: bytes | memoryview, offset: int) -> int:
    """Writes all of `data` and returns its end offset; one system call writes at most 2 GiB."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
    return offset


def _read(file: int, sizes: list[int]) -> Any:
    """Reads what `_write` wrote into memory of its own, so that the slot can be used again."""
    parts, offset = [], 0
    for size in sizes:
        parts.append(_read_at(file, size, offset))
        offset += size
    return pickle.loads(parts[0], buffers=parts[1:])


def _read_at(file: int, size: int, offset: int) -> np.ndarray:
    """`size` bytes from `offset` on, as uint8; one system call reads at most 2 GiB."""
    part = np.empty(size, np.uint8)
    view = memoryview(part)
    while view:
        read = os.preadv(file, [view], offset)
        view, offset = view[read:], offset + read
    return part
