"""The three ways to call a function again and again: at once, ahead in a thread, or in worker processes."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from samjax.data.loading.workers import Wording, WorkerPool


class Pool(Protocol):
    """Calls a function with the arguments of each request, and gives the results in the order of the requests."""

    capacity: int
    """The number of requests that may be outstanding."""

    def request(self, *arguments: Any) -> None: ...
    def receive(self) -> Any: ...
    def close(self) -> None: ...


def make_pool(function: Callable[..., Any], workers: int, prefetch: int, wording: Wording) -> Pool:
    """A pool of worker processes, each `prefetch` results ahead; without workers a thread, or no prefetching at all.

    `wording` holds the words for worker processes in error messages.
    """
    if workers:
        return WorkerPool(function, workers, prefetch, wording)
    return _ThreadPool(function, prefetch) if prefetch else _InlinePool(function)


class _InlinePool:
    """Calls the function when the result is asked for."""

    capacity = 1

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def request(self, *arguments: Any) -> None:
        self._arguments = arguments

    def receive(self) -> Any:
        return self._function(*self._arguments)

    def close(self) -> None:
        pass


class _ThreadPool:
    """Calls the function ahead, in one thread."""

    def __init__(self, function: Callable[..., Any], prefetch: int) -> None:
        self.capacity = prefetch
        self._function = function
        self._executor = ThreadPoolExecutor(1, "samjax-prefetch")
        self._futures: deque[Future] = deque()

    def request(self, *arguments: Any) -> None:
        self._futures.append(self._executor.submit(self._function, *arguments))

    def receive(self) -> Any:
        return self._futures.popleft().result()

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
