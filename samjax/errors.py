"""Exceptions that are not faults of the program; the commands show them without a traceback."""


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
