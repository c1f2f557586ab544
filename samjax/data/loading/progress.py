"""Doing one thing to many items, by several processes, with a progress bar."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from samjax.data.loading.pipeline import MapDataset


def in_order(function: Callable[[Any], Any], items: Sequence[Any], workers: int | None = None) -> Iterator[Any]:
    """Yields `function(item)` for every item, in order.

    Args:
        function: picklable, and so what it takes and returns.
        items: may be empty.
        workers: the number of processes, by default one a core; with 1 all happens in this one.

    Raises:
        UserError: raised by the function, or a process was killed; none is left behind, by Ctrl-C neither.
    """
    if not items:
        return
    processes = min(workers or os.cpu_count() or 1, len(items))
    several = processes > 1
    chain = MapDataset.source(items).map(function)
    with chain.to_iter(processes if several else 0, prefetch=2 if several else 0, epochs=1) as results:
        yield from results


def processed(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    description: str,
    workers: int | None = None,
    progress: bool = True,
) -> Iterator[Any]:
    """As `in_order`, with a bar on stderr that `description` stands beside, if `progress` is true."""
    if not items:
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    *columns, _ = Progress.get_default_columns()
    columns += [TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn()]
    console = Console(file=sys.stderr)
    bar = Progress(*columns, console=console, disable=not (progress and console.is_terminal), transient=True)
    with bar, closing(in_order(function, items, workers)) as results:
        yield from bar.track(results, total=len(items), description=description)
