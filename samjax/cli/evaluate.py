"""`samjax eval`: scores runs, base weights and the predictions of other methods against labels."""

from samjax.cli.process import use_compilation_cache
from samjax.evaluation.evaluate import evaluate
from samjax.options import EvalOptions


def main(options: EvalOptions) -> None:
    """Scores, and says where the results are."""
    use_compilation_cache(options.cache_dir)
    output = evaluate(options)
    print(f"tables, CSV files and summary.json: {output}")
