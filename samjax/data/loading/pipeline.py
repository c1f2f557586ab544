"""An immutable chain from a source of samples to batches, in the manner of grain; numpy only.

    chain = MapDataset.source(windows).seed(7).shuffle().map(read).random_map(crop).batch(8)
    with chain.to_iter(workers=2) as batches:
        for batch in batches: ...

What the chain yields is a pure function of (seed, epoch, index). That is why any number of workers, and
a run resumed at any place, sees the same batches, and why `chain.get(epoch, index)` makes any one of
them again by itself.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from samjax.data.loading.iterator import DatasetIterator
from samjax.errors import UserError

Sample = Any
T = TypeVar("T")


class EpochSource(Protocol):
    """A source that differs from epoch to epoch, such as randomly drawn windows. `epoch` must be pure."""

    def epoch(self, epoch: int) -> Sequence[Sample]: ...


class MapDataset:
    """A chain of steps over samples that are reached by (epoch, index); every method returns a new chain.

    Worker processes are sent the pickled chain: let sources and functions hold paths, not pixels, and
    let functions be importable (no lambdas). Samples that are to be batched are dicts, nested or not,
    of arrays and numbers.
    """

    @staticmethod
    def source(source: Sequence[Sample] | EpochSource) -> "MapDataset":
        """Starts a chain from a sequence (every epoch the same) or an object with `epoch(e)`."""
        needed = ("__len__", "__getitem__")
        if not hasattr(source, "epoch") and not all(hasattr(source, name) for name in needed):
            raise UserError(
                f"an object of type {type(source).__name__} cannot be a source of samples: give a sequence, "
                "or an object whose epoch(number) returns one"
            )
        return _Source(source)

    def seed(self, seed: int) -> "MapDataset":
        """Seeds the random steps that follow; 0 <= seed < 2**32."""
        # One 32-bit word: numpy spreads larger numbers over several, and the words of the key
        # (seed, tag, epoch, index) could then be read as those of another key.
        return _Seed(self, _whole_number("the seed", seed, 0, 2**32 - 1))

    def shuffle(self) -> "MapDataset":
        """Puts each epoch into a random order of its own."""
        return _Shuffle(self, *self._stream("shuffle"))

    def shard(self, index: int, count: int) -> "MapDataset":
        """Keeps the elements index, index + count, ... of each epoch: the part of host `index` of `count`.

        The shards partition the epoch. Batches made of them number the same on every host, padded where
        one has less, because hosts must step together; so shard before `batch`.
        """
        if self._batched():
            raise UserError("shard() after batch() would give hosts unequal epochs: shard before batching")
        count = _whole_number("the number of shards", count, 1)
        return _Shard(self, _whole_number(f"the shard of {count}", index, 0, count - 1), count)

    def map(self, function: Callable[[Sample], Sample]) -> "MapDataset":
        """Applies `function(sample)` to every element."""
        return _Map(self, function)

    def random_map(self, function: Callable[[Sample, np.random.Generator], Sample]) -> "MapDataset":
        """Applies `function(sample, rng)`; the generator depends on the seed, epoch, sample and step.

        The generator belongs to the sample, not to its place in the order: a sample is drawn the same
        on any host, however many hosts there are.
        """
        return _RandomMap(self, function, *self._stream("random_map"))

    def batch(self, size: int) -> "MapDataset":
        """Stacks `size` samples, dicts of arrays, along a new first axis.

        The last batch of an epoch is filled up by repeating samples; "valid", bool (size,), is added to
        every batch and is False on those repeats. An epoch thus shows each sample once with valid True.
        """
        if self._batched():
            raise UserError("batch() twice in one chain: batch once, with the size wanted")
        return _Batch(self, _whole_number("the batch size", size, 1))

    def to_iter(
        self,
        workers: int = 0,
        *,
        prefetch: int = 2,
        start: tuple[int, int] = (0, 0),
        epochs: int | None = None,
    ) -> DatasetIterator:
        """Iterates over epoch after epoch.

        Args:
            workers: processes that make the batches; 0 makes them in this process.
            prefetch: batches made ahead by each worker, at least 1. Without workers a thread makes
                them ahead; 0 does without the thread.
            start: (epoch, index) of the first element.
            epochs: how many epochs from that of `start` on; None never ends.
        """
        workers = _whole_number("the number of workers", workers, 0)
        prefetch = _whole_number("prefetch", prefetch, 1 if workers else 0)
        if epochs is not None:
            epochs = _whole_number("the number of epochs", epochs, 1)
        return DatasetIterator(self, workers=workers, prefetch=prefetch, start=start, epochs=epochs)

    def length(self, epoch: int) -> int:
        """The number of elements in an epoch."""
        raise NotImplementedError

    def get(self, epoch: int, index: int) -> Sample:
        """Makes one element; a pure function of (seed, epoch, index).

        Raises:
            IndexError: the epoch has no such element.
        """
        if not 0 <= index < self.length(epoch):
            raise IndexError(f"element {index} of epoch {epoch}, which has {self.length(epoch)}")
        try:
            return self._make(epoch, index)
        except Exception as error:
            error.add_note(f"To see it again: get(epoch={epoch}, index={index}) of the chain.")
            raise

    def _make(self, epoch: int, index: int) -> Sample:
        """`get` for any index below `_padded_length`."""
        raise NotImplementedError

    def _padded_length(self, epoch: int) -> int:
        """The length of the longest of this chain's shards; indices from `length` up to it are padding."""
        raise NotImplementedError

    def _sample(self, epoch: int, index: int) -> int:
        """The position, in the epoch's source, of the sample that element `index` shows."""
        raise NotImplementedError

    def _random(self) -> tuple[int | None, int]:
        """The seed in force and the number of random steps so far."""
        raise NotImplementedError

    def _batched(self) -> bool:
        raise NotImplementedError

    def _stream(self, step: str) -> tuple[int, int]:
        """The (seed, tag) of the next random step; the tag sets its draws apart from those of the others."""
        seed, tag = self._random()
        if seed is None:
            raise UserError(f"{step}() has no seed: call .seed(number) before it in the chain")
        return seed, tag


class _RecentEpochs:
    """Remembers a function of the epoch for two epochs: prefetching works on either side of a boundary.

    A pickled copy starts empty, so that workers are not sent values that they can compute.
    """

    def __init__(self) -> None:
        self._values: dict[int, Any] = {}

    def get(self, epoch: int, make: Callable[[int], T]) -> T:
        values = self._values
        if epoch not in values:
            # A new dict in place of a changed one: the consumer and the prefetch thread both read it.
            values = dict([*values.items(), (epoch, make(epoch))][-2:])
            self._values = values
        return values[epoch]

    def __reduce__(self) -> tuple[type, tuple]:
        return _RecentEpochs, ()


@dataclass(frozen=True, eq=False)
class _Source(MapDataset):
    samples: Sequence[Sample] | EpochSource
    recent: _RecentEpochs = field(default_factory=_RecentEpochs, repr=False)

    def _epoch(self, epoch: int) -> Sequence[Sample]:
        if hasattr(self.samples, "epoch"):
            return self.recent.get(epoch, self.samples.epoch)
        return self.samples

    def length(self, epoch: int) -> int:
        return len(self._epoch(epoch))

    def _make(self, epoch: int, index: int) -> Sample:
        return self._epoch(epoch)[index]

    def _padded_length(self, epoch: int) -> int:
        return self.length(epoch)

    def _sample(self, epoch: int, index: int) -> int:
        return index

    def _random(self) -> tuple[int | None, int]:
        return None, 0

    def _batched(self) -> bool:
        return False


@dataclass(frozen=True, eq=False)
class _Step(MapDataset):
    """A step that passes its parent on; the others override what they change."""

    parent: MapDataset

    def length(self, epoch: int) -> int:
        return self.parent.length(epoch)

    def _make(self, epoch: int, index: int) -> Sample:
        return self.parent._make(epoch, index)

    def _padded_length(self, epoch: int) -> int:
        return self.parent._padded_length(epoch)

    def _sample(self, epoch: int, index: int) -> int:
        return self.parent._sample(epoch, index)

    def _random(self) -> tuple[int | None, int]:
        return self.parent._random()

    def _batched(self) -> bool:
        return self.parent._batched()


@dataclass(frozen=True, eq=False)
class _Seed(_Step):
    number: int

    def _random(self) -> tuple[int | None, int]:
        return self.number, self.parent._random()[1]


@dataclass(frozen=True, eq=False)
class _Shuffle(_Step):
    number: int
    tag: int
    recent: _RecentEpochs = field(default_factory=_RecentEpochs, repr=False)

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.number, self.tag, epoch)).permutation(self.length(epoch))

    def _place(self, epoch: int, index: int) -> int:
        order = self.recent.get(epoch, self._order)
        return int(order[index]) if index < len(order) else index  # padding stays padding

    def _make(self, epoch: int, index: int) -> Sample:
        return self.parent._make(epoch, self._place(epoch, index))

    def _sample(self, epoch: int, index: int) -> int:
        return self.parent._sample(epoch, self._place(epoch, index))

    def _random(self) -> tuple[int | None, int]:
        return self.number, self.tag + 1


@dataclass(frozen=True, eq=False)
class _Shard(_Step):
    index: int
    count: int

    def length(self, epoch: int) -> int:
        return len(range(self.index, self.parent.length(epoch), self.count))

    def _padded_length(self, epoch: int) -> int:
        return -(-self.parent._padded_length(epoch) // self.count)

    def _place(self, epoch: int, index: int) -> int:
        # The remainder matters to padding only: a host without samples of its own repeats another's.
        return (index * self.count + self.index) % max(self.parent.length(epoch), 1)

    def _make(self, epoch: int, index: int) -> Sample:
        return self.parent._make(epoch, self._place(epoch, index))

    def _sample(self, epoch: int, index: int) -> int:
        return self.parent._sample(epoch, self._place(epoch, index))


@dataclass(frozen=True, eq=False)
class _Map(_Step):
    function: Callable[[Sample], Sample]

    def _make(self, epoch: int, index: int) -> Sample:
        return self.function(self.parent._make(epoch, index))


@dataclass(frozen=True, eq=False)
class _RandomMap(_Step):
    function: Callable[[Sample, np.random.Generator], Sample]
    number: int
    tag: int

    def _make(self, epoch: int, index: int) -> Sample:
        rng = np.random.default_rng((self.number, self.tag, epoch, self._sample(epoch, index)))
        return self.function(self.parent._make(epoch, index), rng)

    def _random(self) -> tuple[int | None, int]:
        return self.number, self.tag + 1


@dataclass(frozen=True, eq=False)
class _Batch(_Step):
    size: int

    def length(self, epoch: int) -> int:
        return -(-self.parent._padded_length(epoch) // self.size)

    def _padded_length(self, epoch: int) -> int:
        return self.length(epoch)

    def _sample(self, epoch: int, index: int) -> int:
        return self.parent._sample(epoch, index * self.size)

    def _batched(self) -> bool:
        return True

    def _make(self, epoch: int, index: int) -> dict[str, Any]:
        first = index * self.size
        real = min(self.size, max(self.parent.length(epoch) - first, 0))
        # A shard shorter than the others may have a batch without samples, made of its first one.
        samples = [self._one(epoch, first + i) for i in range(real)] or [self._one(epoch, 0)]
        batch = _stacked([samples[i % len(samples)] for i in range(self.size)], "")
        return {**batch, "valid": np.arange(self.size) < real}

    def _one(self, epoch: int, index: int) -> dict[str, Any]:
        try:
            sample = self.parent._make(epoch, index)
        except Exception as error:
            error.add_note(f"It was sample {self.parent._sample(epoch, index)} of epoch {epoch}.")
            raise
        if not isinstance(sample, dict) or "valid" in sample:
            found = f"keys {sorted(sample)}" if isinstance(sample, dict) else f"type {type(sample).__name__}"
            raise UserError(f"batch() found {found}: samples must be dicts, with the key 'valid' left free")
        return sample


def _stacked(samples: list[Any], name: str) -> Any:
    """Stacks the leaves of equally built samples; `name` is the field, for the messages."""
    first = samples[0]
    if isinstance(first, dict):
        for sample in samples:
            if not isinstance(sample, dict) or sample.keys() != first.keys():
                keys = sorted(sample) if isinstance(sample, dict) else type(sample).__name__
                raise UserError(
                    f"samples of one batch have different fields: {sorted(first)} and {keys} in "
                    f"{name or 'the sample'}; give every sample the same ones"
                )
        return {key: _stacked([s[key] for s in samples], f"{name}/{key}" if name else key) for key in first}
    arrays = [np.asarray(sample) for sample in samples]
    if arrays[0].dtype == object:
        raise UserError(f"field {name!r} is of type {type(first).__name__}, which has no dtype: give an array")
    forms = {f"{array.dtype.name}{array.shape}": None for array in arrays}
    # Text is stacked at the length of the longest; numbers are never converted silently.
    if len({(a.shape, a.dtype if a.dtype.kind not in "US" else a.dtype.kind) for a in arrays}) > 1:
        raise UserError(f"field {name!r} differs within one batch: {' and '.join(forms)}; make it one shape and dtype")
    return np.stack(arrays)


def _whole_number(what: str, value: Any, low: int, high: int | None = None) -> int:
    """Checks an integer option and returns it as an int."""
    wanted = f"a whole number from {low} " + ("up" if high is None else f"to {high}")
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < low or (high is not None and number > high):
        raise UserError(f"{what} is {value!r}: give {wanted}")
    return number
