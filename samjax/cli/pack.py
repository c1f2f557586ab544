"""`samjax pack`: writes a finished run as one file."""

from samjax.command_lines import command
from samjax.inference.pack import pack
from samjax.options import PackOptions


def main(options: PackOptions) -> None:
    """Packs a run, and prints the file's size and how to use it."""
    folder = pack(options.run, options.out, options.weights, options.labels)
    print(f"{options.out}: {folder.name}, {options.out.stat().st_size / 1e6:.1f} MB, without names and paths")
    print(f"use it: {command('predict', '--run', options.out, '--input', 'CASE', '--output', 'OUT')}")
