"""Compares samjax with its peers: python -m benchmarks --help."""

import json
import sys

from samjax.cli.process import run_command
from samjax.errors import UserError


def main() -> None:
    import tyro

    from benchmarks.catalogue import NAMES, find_benchmark
    from benchmarks.harness import compare
    from benchmarks.options import BenchOptions, Setting

    options = tyro.cli(BenchOptions, prog="python -m benchmarks")
    if not options.names:
        raise UserError(f"no benchmark named; expected some of {', '.join(NAMES)}")
    if options.repeats < 1:
        raise UserError(f"--repeats {options.repeats}: expected at least 1")
    setting = Setting(options.preset, options.size, options.work_dir.expanduser().absolute())
    disagreeing = []
    for name, benchmark in [(name, find_benchmark(name)) for name in options.names]:
        for record in compare(name, benchmark, setting, options.repeats):
            print(json.dumps(record), flush=True)
            if record["agree"] is False:
                disagreeing.append(record["name"])
    if disagreeing:
        print(f"these do not compute the same as their peer: {', '.join(disagreeing)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
