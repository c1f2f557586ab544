"""The one exception that means "the input is wrong", and how the commands show it."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in the input or the options.

    The message is one line that names the file or option, the value found, what was expected and
    what to do about it. The commands print it without a traceback and exit with code 2.
    """


def run_door(main: Callable[[], None]) -> None:
    """Runs a command's `main`, turning a `UserError` into one line on stderr and exit code 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
