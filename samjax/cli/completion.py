"""`samjax completion`: prints the script that completes the commands and their options in a shell."""

from samjax.cli.main import parse
from samjax.options import CompletionOptions


def main(options: CompletionOptions) -> None:
    """Prints the script, as in `samjax completion bash > ~/.local/share/bash-completion/completions/samjax`."""
    parse(["--tyro-print-completion", options.shell])
