"""Calls a function on many items, in several processes, with a progress bar."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from samjax.data.loading.pipeline import MapDataset


def map_in_order(function: Callable[[Any], Any], items: Sequence[Any], workers: int | None = None) -> Iterator[Any]:
    """Yields `function(item)` for every item, in order.

    Args:
        function: picklable, as are its arguments and results.
        items: may be empty.
        workers: the number of processes, by default one per core; with 1, this process does all.

    Raises:
        UserError: the function raised it, or a process was killed. No process is left behind, nor by Ctrl-C.
    """
    if not items:
        return
    processes = min(workers or os.cpu_count() or 1, len(items))
    several = processes > 1
    chain = MapDataset.source(items).map(function)
    with chain.to_iter(processes if several else 0, prefetch=2 if several else 0, epochs=1) as results:
        yield from results


def map_with_progress(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    description: str,
    workers: int | None = None,
    progress: bool = True,
) -> Iterator[Any]:
    """Does the same as `map_in_order`, with a bar on stderr after `description` if `progress` is true."""
    if not items:
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    *columns, _ = Progress.get_default_columns()
    columns += [TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn()]
    console = Console(file=sys.stderr)
    bar = Progress(*columns, console=console, disable=not (progress and console.is_terminal), transient=True)
    with bar, closing(map_in_order(function, items, workers)) as results:
        yield from bar.track(results, total=len(items), description=description)
