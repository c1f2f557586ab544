"""The options that a command line names, also where their value is the default."""

from collections.abc import Sequence


def named_options(arguments: Sequence[str]) -> frozenset[str]:
    """The fields of the options that the arguments name: `--no-swa` and `--swa` name `swa`, `--lr=1` names `lr`."""
    names = set()
    for argument in arguments:
        if argument.startswith("--"):
            name = argument[2:].partition("=")[0].replace("-", "_")
            names.add(name.removeprefix("no_"))
    return frozenset(names)
