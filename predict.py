"""Segments scans that have no labels: python predict.py --help."""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from samjax.cli.process import run_command


def main() -> None:
    import tyro

    from samjax.options import PredictOptions

    options = tyro.cli(PredictOptions)

    from samjax.cli.process import use_compilation_cache
    from samjax.inference.batch import predict

    use_compilation_cache(options.cache_dir)
    outcome = predict(options)
    print(f"predictions: {outcome.folder} ({outcome})")


if __name__ == "__main__":
    run_command(main)
