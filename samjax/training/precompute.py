"""The pass before the first step that computes the embeddings of a run that are not on the disk yet.

Several processes share the work and read each other's results, so their --cache-dir must be one folder.
"""

import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from samjax.command_lines import command
from samjax.data.cache.cases import CachedCase
from samjax.data.cache.embeddings import RECIPE, EmbeddingStore, bytes_below
from samjax.data.loading.pipeline import MapDataset
from samjax.data.on_device.augment import Augmentation
from samjax.data.on_device.prompts import PromptMix
from samjax.data.samples import ReadVariant, ReadWindow, scored_slices
from samjax.errors import Stopped, UserError
from samjax.runs.model import build_model
from samjax.training.distributed import Vote, barrier, errors_shared, from_writer, is_writer
from samjax.training.progress import QUIET_SECONDS
from samjax.training.session import Session
from samjax.training.step import make_scoring_step, replicate, shard
from samjax.training.stop import StopRequest
from samjax.training.tasks.objective import Batch, Objective, embed
from samjax.training.tasks.segmentation import augmentation_of, training_store, training_windows, validation_store


@dataclass(frozen=True, eq=False)
class Wanted:
    """The slices of one variant of a case that a run shows."""

    store: EmbeddingStore
    augmentation: Augmentation | None
    case: CachedCase
    variant: int
    slices: np.ndarray
    """Slice numbers, int64 (n,), increasing."""

    def missing(self) -> "Wanted":
        """The item with only those slices that are not stored."""
        return replace(self, slices=np.setdiff1d(self.slices, self.store.slices(self.case, self.variant)))

    def add(self, embeddings: np.ndarray) -> None:
        """Stores the embeddings (n, h, w, c) of the slices."""
        self.store.add(self.case, self.variant, self.slices, embeddings)


def wanted_embeddings(session: Session) -> list[Wanted]:
    """All slices that a run shows: training slices in every variant, validation slices without augmentation."""
    kind = PromptMix.parse(session.options.prompt).kinds[0]
    scored = [np.flatnonzero(chosen) for chosen in scored_slices(session.val, session.config.prompted_roi, kind)]
    found: dict[Path, Wanted] = {}
    for store, augmentation, cases, shown in (
        (training_store(session), augmentation_of(session), session.train, training_windows(session).shown()),
        (validation_store(session), None, session.val, scored),
    ):
        for case, slices in zip(cases, shown, strict=True):
            for variant in range(store.variants):
                path = store.path(case, variant)
                if path in found:  # --overfit validates what it trains on
                    slices = np.union1d(slices, found[path].slices)
                found[path] = Wanted(store, augmentation, case, variant, slices)
    return list(found.values())


def check_room(session: Session) -> None:
    """Raises a `UserError` if the embeddings do not fit into the budget or on the disk; computes none."""
    wanted = wanted_embeddings(session)
    from_writer(lambda: _require_room(wanted, _missing(wanted), session))


def compute_embeddings(session: Session, stop: StopRequest) -> None:
    """Computes and stores the missing embeddings, and prints their size first. Finished cases stay stored.

    Raises:
        UserError: the embeddings do not fit into the budget or on the disk.
        Stopped: a signal asked for the end.
    """
    wanted = wanted_embeddings(session)
    missing = from_writer(lambda: _announced(wanted, session))
    todo = [replace(item, slices=np.array(slices)) for item, slices in zip(wanted, missing, strict=True) if slices]
    if not todo:
        return
    graphdef, state = nnx.split(build_model(session.config, session.base))
    states = (replicate(state),)
    for augmentation, items in groupby(todo, key=lambda item: item.augmentation):
        step = make_scoring_step(graphdef, partial(embed, objective=_objective(session, augmentation)), seed=0)
        _fill(session, partial(step, states), list(items), stop)
    barrier("embeddings")  # all files are there


def _missing(wanted: list[Wanted]) -> list[list[int]]:
    """The slices of each item that are not stored."""
    return [item.missing().slices.tolist() for item in wanted]


def _announced(wanted: list[Wanted], session: Session) -> list[list[int]]:
    """The slices of each item that are not stored; prints their size, and raises a `UserError` if they do not fit."""
    slices, store = _missing(wanted), wanted[0].store
    free = _require_room(wanted, slices, session)
    count, missing = sum(len(item.slices) for item in wanted), sum(map(len, slices))
    print(
        f"{count} embeddings in {store.root}: {_size(count * store.slice_bytes)}, of which "
        f"{_size(missing * store.slice_bytes)} are missing; {_size(free)} free",
        flush=True,
    )
    return slices


def _require_room(wanted: list[Wanted], slices: list[list[int]], session: Session) -> int:
    """The free bytes of the disk for embeddings of this many slices.

    Raises:
        UserError: the embeddings are over the budget, or more than is free.
    """
    store, budget = wanted[0].store, session.options.embeddings_budget
    missing = sum(map(len, slices)) * store.slice_bytes
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        used, free = bytes_below(store.root), shutil.disk_usage(store.root).free
    except OSError as error:
        raise UserError(f"--cache-dir: {store.root} cannot be used ({error.strerror}); name another folder") from error
    remedy = "show fewer variants with --cache-embeddings, or name another disk with --cache-dir"
    if missing and used + missing > budget * 1e9:
        raise UserError(
            f"--embeddings-budget {budget:g}: {_size(missing)} come to {_size(used)} in {store.root}; raise it, delete "
            f"folders there that no run needs (each has a {RECIPE}), {remedy}"
        )
    if missing > free:
        raise UserError(f"{store.root}: {_size(missing)} are to be added, but {_size(free)} are free; {remedy}")
    return free


def _size(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e8 else f"{count / 1e6:.3g} MB"


def _objective(session: Session, augmentation: Augmentation | None) -> Objective:
    options = session.options
    prompts = PromptMix.parse(options.prompt)
    return Objective(
        options.roi, session.channels, prompts, options.image_size, augmentation=augmentation, seed=options.seed
    )


def _fill(session: Session, encode: Callable[[Batch], jax.Array], items: list[Wanted], stop: StopRequest) -> None:
    """Computes and stores some items; each process has its share, and all take the same number of steps."""
    shares = [items[index :: jax.process_count()] for index in range(jax.process_count())]
    data = [_batches(session, share) for share in shares]
    mine, own = shares[jax.process_index()], data[jax.process_index()]
    steps, vote = max(share.length(0) for share in data), Vote()
    parts: dict[int, list[np.ndarray]] = defaultdict(list)
    with _progress(sum(len(item.slices) for item in items)) as advance:
        for index in range(steps):
            # A process whose share is done computes its last batch again, or another's.
            host = own.get(0, min(index, own.length(0) - 1)) if mine else data[0].get(0, 0)
            embeddings = jax.device_get(encode(shard(host))).reshape(-1, *items[0].store.shape)
            with errors_shared():
                if index < own.length(0):
                    for number, embedding in zip(host["case"][host["valid"]], embeddings[host["valid"]], strict=True):
                        parts[number].append(embedding)
                        if len(parts[number]) == len(mine[number].slices):
                            mine[number].add(np.stack(parts.pop(number)))
            advance(host["valid"].sum() * jax.process_count())
            if vote(stop.signal is not None):
                raise Stopped(
                    f"{session.folder} while computing embeddings, those of finished cases are kept; go on with "
                    + command("train", "--resume", "--run", session.folder),
                    stop.signal or signal.SIGTERM,
                )


def _batches(session: Session, items: list[Wanted]) -> MapDataset:
    """The slices of some items one after the other, `case` being the item's place."""
    windows = [((place, int(number)), item.variant) for place, item in enumerate(items) for number in item.slices]
    read = ReadVariant(ReadWindow(tuple(item.case for item in items), 1, session.config.native))
    return MapDataset.source(windows).map(read).batch(session.options.batch_size * jax.local_device_count())


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function to call with each number of slices done: a bar on a terminal, else a line now and then."""
    console = Console(quiet=not is_writer())
    columns = (*Progress.get_default_columns()[:-1], TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn())
    begin = shown = time.monotonic()
    done = 0

    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("embeddings", total=total)

        def advance(count: int) -> None:
            nonlocal done, shown
            done = min(done + count, total)
            bar.update(task, completed=done)
            now = time.monotonic()
            if bar.disable and now - shown > QUIET_SECONDS:
                shown, rate = now, done / (now - begin)
                left = (total - done) / rate / 60
                console.print(f"embeddings {done}/{total}  {rate:.1f} slices/s  {left:.1f} min left", highlight=False)

        yield advance
