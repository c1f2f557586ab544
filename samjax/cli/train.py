"""`samjax train`: fine-tunes SAM, or resumes a run."""

from collections.abc import Collection

from samjax.cli.process import use_compilation_cache
from samjax.options import TrainOptions
from samjax.runs.folder import what_next
from samjax.training.distributed import is_writer, start
from samjax.training.loop import train


def main(options: TrainOptions, given: Collection[str]) -> None:
    """Trains, and prints where the run is and the next command; `given` holds the options that were typed."""
    start(options.coordinator, options.processes, options.process_index)
    use_compilation_cache(options.cache_dir)
    folder = train(options, given)
    if is_writer():
        print(f"\nfinished: {folder}\n{what_next(folder)}")
