"""Compares samjax with its peers: python -m benchmarks --help."""

import json
import sys
from typing import TYPE_CHECKING

from samjax.cli.process import run_command
from samjax.errors import UserError

if TYPE_CHECKING:
    from benchmarks.options import BenchOptions, Setting


def measure_device(options: "BenchOptions", setting: "Setting") -> None:
    """Runs the suite for one device; its files grow row by row."""
    from benchmarks.gpu.suite import run_suite, table

    records = []
    for record in run_suite(options.names, options.device, setting, options.wave):
        print(json.dumps(record), flush=True)
        records.append(record)
        if options.output is not None:
            options.output.mkdir(parents=True, exist_ok=True)
            (options.output / "benchmarks.json").write_text(json.dumps(records, indent=1) + "\n")
            (options.output / "benchmarks.md").write_text(table(records))
    if any("failed" in record for record in records):
        sys.exit(1)


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
    if options.device is not None:
        measure_device(options, setting)
        return
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
