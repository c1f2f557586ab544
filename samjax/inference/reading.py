"""Reads the next items in threads while the current one is computed."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Content = TypeVar("Content")


def read_ahead(items: Sequence[Item], read: Callable[[Item], Content], workers: int) -> Iterator[tuple[Item, Content]]:
    """Yields each item with the result of `read`, while threads read up to `workers` items ahead; 0: no threads."""
    if workers < 1:
        yield from ((item, read(item)) for item in items)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        ahead: deque[tuple[Item, Future]] = deque()
        for item in items:
            ahead.append((item, pool.submit(read, item)))
            if len(ahead) > workers:
                first, future = ahead.popleft()
                yield first, future.result()
        for item, future in ahead:
            yield item, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
