"""The command `samjax`: finds the command asked for, parses its options and runs it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pkgutil import resolve_name
from typing import Annotated, Any

import tyro

from samjax import __version__
from samjax.cli.given import named_options
from samjax.cli.process import run_command
from samjax.command_lines import command
from samjax.errors import UserError
from samjax.options import (
    CheckOptions,
    CompletionOptions,
    ConvertOptions,
    EvalOptions,
    ExportOptions,
    NnunetOptions,
    PackOptions,
    PredictOptions,
    PrepareOptions,
    PushOptions,
    ServeOptions,
    ToFlaxOptions,
    ToTorchOptions,
    TrainOptions,
)

ABOUT = "The Segment Anything Model in JAX/Flax, fine-tuned for brain-tumour MRI."
HINT = "`samjax COMMAND --help` lists the options of a command, `samjax --version` says which version this is."


@dataclass(frozen=True)
class Command:
    """The options of a command, and the function that takes them."""

    options: type
    function: str
    """MODULE:NAME of the function. It is imported when the command runs, so that --help does not wait for JAX."""
    asks_what_was_given: bool = False
    """Whether the function also takes the names of the options that were typed, also where they equal the default."""

    def run(self, arguments: Sequence[str], prog: str | None = None) -> None:
        """Parses the arguments and runs the command; `prog` is the command's name in its help."""
        options = tyro.cli(self.options, args=arguments, prog=prog)
        given = (named_options(arguments),) if self.asks_what_was_given else ()
        resolve_name(self.function)(options, *given)

    @property
    def summary(self) -> str:
        """The first line of the command's help."""
        return (self.options.__doc__ or "").splitlines()[0]


COMMANDS = {
    "train": Command(TrainOptions, "samjax.cli.train:main", asks_what_was_given=True),
    "eval": Command(EvalOptions, "samjax.cli.evaluate:main"),
    "predict": Command(PredictOptions, "samjax.cli.predict:main"),
    "serve": Command(ServeOptions, "samjax.cli.serve:main"),
    "prepare": Command(PrepareOptions, "samjax.cli.prepare:main"),
    "check": Command(CheckOptions, "samjax.cli.check:main"),
    "convert": Command(ConvertOptions, "samjax.cli.convert:main"),
    "export": Command(ExportOptions, "samjax.cli.export:main"),
    "pack": Command(PackOptions, "samjax.cli.pack:main"),
    "push": Command(PushOptions, "samjax.cli.push:main"),
    "nnunet": Command(NnunetOptions, "samjax.cli.nnunet:main"),
    "completion": Command(CompletionOptions, "samjax.cli.completion:main"),
}
SCRIPTS = {
    **COMMANDS,
    "torch_to_flax": Command(ToFlaxOptions, "samjax.cli.convert:to_flax"),
    "flax_to_torch": Command(ToTorchOptions, "samjax.cli.convert:to_torch"),
}
"""The commands of the scripts of the repository, by script."""


def main() -> None:
    """The installed command."""
    run_command(lambda: dispatch(sys.argv[1:]))


def run(name: str) -> None:
    """Runs one of `SCRIPTS` with the arguments of the running script."""
    run_command(lambda: SCRIPTS[name].run(sys.argv[1:]))


def dispatch(arguments: Sequence[str]) -> None:
    """Runs the command that the first argument names.

    Raises:
        UserError: there is no such command.
    """
    first, *others = arguments or ["--help"]
    if first == "--version":
        print(f"samjax {__version__}")
    elif first in COMMANDS:
        COMMANDS[first].run(others, command(first))
    elif first.startswith("-"):
        parse(arguments or [first])
    else:
        raise UserError(f"samjax {first}: no such command; expected one of {', '.join(COMMANDS)}")


def parse(arguments: Sequence[str]) -> Any:
    """Parses the options of the command that the arguments name; shows help and completion for all commands."""
    kinds = (
        Annotated[each.options, tyro.conf.subcommand(name, description=each.summary)] for name, each in COMMANDS.items()
    )
    return tyro.cli(reduce(or_, kinds), args=arguments, prog="samjax", description=f"{ABOUT}\n{HINT}")
