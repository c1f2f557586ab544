"""The benchmarks by name."""

from importlib import import_module

from benchmarks.work import Benchmark
from samjax.errors import UserError

NAMES = ("encoder", "decoder", "train_step", "epoch", "augment", "metrics", "pipeline", "startup", "serve")


def find_benchmark(name: str) -> Benchmark:
    """The benchmark in the file of this name; UserError if there is none."""
    if name not in NAMES:
        raise UserError(f"benchmark '{name}': unknown; expected one of {', '.join(NAMES)}")
    return import_module(f"benchmarks.{name}").BENCHMARK
