"""`samjax train`: fine-tunes SAM, or goes on with a run."""

from samjax.cli.process import use_compilation_cache
from samjax.options import TrainOptions
from samjax.runs.folder import what_next
from samjax.training.distributed import is_writer, start
from samjax.training.loop import train


def main(options: TrainOptions) -> None:
    """Trains, and says where the run is and what to type next."""
    start(options.coordinator, options.processes, options.process_index)
    use_compilation_cache(options.cache_dir)
    folder = train(options)
    if is_writer():
        print(f"\nfinished: {folder}\n{what_next(folder)}")
