"""Reading what comes next while something is computed."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Content = TypeVar("Content")


def read_ahead(items: Sequence[Item], read: Callable[[Item], Content], workers: int) -> Iterator[tuple[Item, Content]]:
    """Each item with what `read` makes of it, while threads read up to `workers` items beyond; 0 reads in this one."""
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
