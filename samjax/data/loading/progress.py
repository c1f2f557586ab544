"""Doing one thing to many items, by several processes, with a progress bar."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from samjax.data.loading.pipeline import MapDataset


def processed(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    description: str,
    workers: int | None = None,
    progress: bool = True,
) -> Iterator[Any]:
    """Yields `function(item)` for every item, in order.

    Args:
      function: picklable, and so what it takes and returns.
      items: may be empty.
      description: what stands beside the bar.
      workers: processes, by default one a core; with 1 all happens in this one.
      progress: whether to show a bar on stderr.

    Raises:
      UserError: raised by the function; no process is left behind by that, or by Ctrl-C.
    """
    if not items:
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    workers = min(workers or os.cpu_count() or 1, len(items))
    chain = MapDataset.source(items).map(function)
    *columns, _ = Progress.get_default_columns()
    columns += [TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn()]
    console = Console(file=sys.stderr)
    bar = Progress(*columns, console=console, disable=not (progress and console.is_terminal), transient=True)
    several = workers > 1
    results = chain.to_iter(workers if several else 0, prefetch=2 if several else 0, epochs=1)
    with bar, results:
        yield from bar.track(results, total=len(items), description=description)
