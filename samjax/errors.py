"""The exceptions that are no faults of the program, and how the commands show them."""

import gc
import signal
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in the input or the options.

    The message is one line that names the file or option, the value found, what was expected and
    what to do about it. The commands print it without a traceback and exit with code 2.
    """


class Stopped(Exception):
    """A run ended early because a signal asked for it; nothing is lost.

    The commands print the message and exit with 128 + the signal's number, as shells expect.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.signal = number


TRACING_THRESHOLD = 50_000
"""New objects between two searches for garbage. At Python's 700 to 2,000 a sixth of the time from start to first step
goes into looking at what JAX's tracing still holds."""


def run_door(main: Callable[[], None]) -> None:
    """Runs a command's `main`, turning a `UserError` into one line on stderr and exit code 2."""
    gc.set_threshold(TRACING_THRESHOLD)
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped: at once, by Ctrl-C; a run goes on from its last checkpoint with --resume", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Stopped as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signal)
