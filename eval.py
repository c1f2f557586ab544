"""Scores runs, or base weights as they are, against labels: python eval.py --help."""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from samjax.cli.process import run_command


def main() -> None:
    import tyro

    from samjax.options import EvalOptions

    options = tyro.cli(EvalOptions)

    from samjax.cli.process import use_compilation_cache
    from samjax.evaluation.evaluate import evaluate

    use_compilation_cache(options.cache_dir)
    output = evaluate(options)
    print(f"tables, CSV files and summary.json: {output}")


if __name__ == "__main__":
    run_command(main)
