"""Iterating over the elements of a chain: position, state, prefetching and waiting time."""

import time
from collections import deque
from typing import Any, Protocol

from samjax.data.loading.pools import Pool, make_pool
from samjax.data.loading.workers import Wording
from samjax.errors import UserError


class Chain(Protocol):
    """Protocol of elements by (epoch, index), which `samjax.data.loading.pipeline.MapDataset` implements."""

    def length(self, epoch: int) -> int: ...
    def get(self, epoch: int, index: int) -> Any: ...


_WORDING = Wording(lambda epoch, index: f"(epoch, index) ({epoch}, {index})")


class DatasetIterator:
    """Iterates over the elements of a chain, epoch after epoch; made by `MapDataset.to_iter`.

    Ends the worker processes on `close()`, at the end of a `with` block, when it is no longer referred
    to, and when the program ends, however it ends. An exception from `next()`, be it a failed worker's
    or Ctrl-C, leaves the state at the batch that was not delivered; another `next()` tries it again.

    Attributes:
        position: (epoch, index) of the element delivered last, None before the first.
    """

    def __init__(
        self,
        dataset: Chain,
        *,
        workers: int,
        prefetch: int,
        start: tuple[int, int],
        epochs: int | None,
    ) -> None:
        self.position: tuple[int, int] | None = None
        self._dataset = dataset
        self._workers = workers
        self._prefetch = prefetch
        self._end = None if epochs is None else start[0] + epochs
        self._next = self._ahead = self._checked(*start)
        self._requested: deque[tuple[int, int]] = deque()
        self._waited = 0.0
        self._closed = False
        # The processes start now, to be up when the first batch is asked for.
        self._pool: Pool | None = self._new_pool()

    def __iter__(self) -> "DatasetIterator":
        return self

    def __next__(self) -> Any:
        if self._closed:
            raise RuntimeError("this data iterator is closed: make another, with to_iter(start=...)")
        begin = time.perf_counter()
        try:
            return self._deliver()
        except StopIteration:
            raise
        except BaseException:
            self._start_over(self._next)
            raise
        finally:
            self._waited += time.perf_counter() - begin

    def __enter__(self) -> "DatasetIterator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def wait_seconds(self) -> float:
        """Seconds spent waiting for data since this was last read; reading it sets it to zero."""
        waited, self._waited = self._waited, 0.0
        return waited

    def get_state(self) -> dict[str, int]:
        """The place of the next element to be delivered, not counting prefetched ones; fit for JSON."""
        return {"epoch": self._next[0], "index": self._next[1]}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a place that `get_state` gave, without replaying any elements.

        Raises:
            UserError: the state is of another form, or beyond the end of the epoch.
        """
        if not isinstance(state, dict) or state.keys() != {"epoch", "index"}:
            raise UserError(f"the data position is {state!r}: expected a dict with 'epoch' and 'index'")
        self._start_over(self._checked(state["epoch"], state["index"]))
        self.position = None

    def close(self) -> None:
        """Stops the workers; may be called repeatedly."""
        self._start_over(self._next)
        self._closed = True
        if self._pool is not None:
            self._pool.close()

    def _new_pool(self) -> Pool:
        return make_pool(self._dataset.get, self._workers, self._prefetch, _WORDING)

    def _start_over(self, place: tuple[int, int]) -> None:
        """Drops prefetched elements. Workers that are not busy are kept."""
        if self._requested and self._pool is not None:
            pool, self._pool = self._pool, None
            pool.close()
        self._requested.clear()
        self._next = self._ahead = place

    def _deliver(self) -> Any:
        self._request_ahead()
        if not self._requested:
            raise StopIteration
        element = self._pool.receive()
        delivered = self._requested.popleft()
        self._request_ahead()
        self.position = delivered
        self._next = self._requested[0] if self._requested else self._ahead
        return element

    def _request_ahead(self) -> None:
        if self._pool is None:
            self._pool = self._new_pool()
        while len(self._requested) < self._pool.capacity and not self._beyond(self._ahead[0]):
            epoch, index = self._ahead
            last = index + 1 == self._length(epoch)
            # Noted before it is made, so that an interrupt between the two leaves nothing forgotten.
            self._requested.append(self._ahead)
            self._pool.request(epoch, index)
            self._ahead = (epoch + 1, 0) if last else (epoch, index + 1)

    def _beyond(self, epoch: int) -> bool:
        return self._end is not None and epoch >= self._end

    def _length(self, epoch: int) -> int:
        length = self._dataset.length(epoch)
        if not length:
            raise UserError(f"epoch {epoch} of the data has no samples: check what the source was made from")
        return length

    def _checked(self, epoch: int, index: int) -> tuple[int, int]:
        if not all(type(value) is int and value >= 0 for value in (epoch, index)):
            raise UserError(f"the data position is ({epoch!r}, {index!r}): give whole numbers from 0 up")
        if not self._beyond(epoch) and index >= self._length(epoch):
            raise UserError(
                f"the data position is batch {index} of epoch {epoch}, which has {self._length(epoch)}: "
                "resume with the data and batch size of the run that saved it"
            )
        return epoch, index
