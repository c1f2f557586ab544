"""`samjax eval`: scores runs, base weights and the predictions of other methods against labels.

Exit code 0: all cases are scored; 1: some were left out; 2: nothing can be scored.
"""

import sys

from samjax.cli.process import use_compilation_cache
from samjax.evaluation.evaluate import evaluate
from samjax.options import EvalOptions


def main(options: EvalOptions) -> None:
    """Scores, and prints where the results are."""
    use_compilation_cache(options.cache_dir)
    evaluation = evaluate(options)
    print(f"tables, CSV files and summary.json: {evaluation.folder}")
    if evaluation.left_out:
        print(f"{evaluation.left_out} cases were left out, see above", file=sys.stderr)
        sys.exit(1)
