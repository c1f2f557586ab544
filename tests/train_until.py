"""train.py that halts itself (SIGSTOP) at one moment, where a test can kill it, signal it, or look at what is there.

python tests/train_until.py MOMENT [train.py's options]

A moment is `row:KIND:STEP`, when that row has just been written to metrics.jsonl, or `place:PATTERN`, when a finished
file or folder is about to be renamed to a path whose last parts match. It halts once; after SIGCONT training goes on.
"""

import os
import signal
import sys
import threading
from pathlib import PurePath

from samjax.cli.main import run
from samjax.training.progress import MetricsLog


class Halt:
    """Halts the process when it is called with the awaited moment, the first time only."""

    def __init__(self, moment: str):
        self._awaited: str | None = moment

    def __call__(self, moment: str) -> None:
        if moment == self._awaited:
            self._awaited = None
            # To this thread: it must not go on while the signal reaches another.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def watch_rows(halt: Halt) -> None:
    """Tells of each row after it was written."""
    write = MetricsLog.write

    def written(log: MetricsLog, kind: str, step: int, epoch: int, **values: object) -> None:
        write(log, kind, step, epoch, **values)
        halt(f"row:{kind}:{step}")

    MetricsLog.write = written


def watch_renames(halt: Halt, pattern: str) -> None:
    """Tells of renames to paths that match, whoever makes them, in whatever thread."""

    def hook(event: str, arguments: tuple) -> None:
        if event == "os.rename" and PurePath(os.fsdecode(arguments[1])).match(pattern):
            halt(f"place:{pattern}")

    sys.addaudithook(hook)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
    moment = sys.argv.pop(1)
    halt = Halt(moment)
    if moment.startswith("place:"):
        watch_renames(halt, moment.removeprefix("place:"))
    else:
        watch_rows(halt)
    run("train")
