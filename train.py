"""Fine-tunes SAM on brain-tumour MRI: python train.py --help."""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from samjax.cli.process import run_command


def main() -> None:
    import tyro

    from samjax.options import TrainOptions

    options = tyro.cli(TrainOptions)

    from samjax.cli.process import use_compilation_cache
    from samjax.runs.folder import what_next
    from samjax.training.distributed import is_writer, start
    from samjax.training.loop import train

    start(options.coordinator, options.processes, options.process_index)
    use_compilation_cache(options.cache_dir)
    folder = train(options)
    if is_writer():
        print(f"\nfinished: {folder}\n{what_next(folder)}")


if __name__ == "__main__":
    run_command(main)
