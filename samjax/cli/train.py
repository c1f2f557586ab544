"""`samjax train`: fine-tunes SAM, or resumes a run."""

from collections.abc import Collection

from samjax.cli.process import compile_quickly, use_compilation_cache
from samjax.errors import UserError
from samjax.options import TrainOptions
from samjax.runs.folder import find_run, read_config, what_next
from samjax.training.distributed import is_writer, start
from samjax.training.loop import train


def main(options: TrainOptions, given: Collection[str]) -> None:
    """Trains, and prints where the run is and the next command; `given` holds the options that were typed."""
    compile_quickly(_dtype(options, given))
    start(options.coordinator, options.processes, options.process_index)
    use_compilation_cache(options.cache_dir)
    folder = train(options, given)
    if is_writer():
        print(f"\nfinished: {folder}\n{what_next(folder)}")


def _dtype(options: TrainOptions, given: Collection[str]) -> str:
    """The dtype of the run: a resumed one keeps its own unless another was typed."""
    if options.resume and "dtype" not in given:
        try:
            return read_config(find_run(options.run)).options.dtype
        except UserError:  # training tells what is wrong with the run
            pass
    return options.dtype
