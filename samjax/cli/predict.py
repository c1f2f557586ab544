"""`samjax predict`: segments scans that have no labels.

Exit code 0: all cases are predicted; 1: some were left out; 2: none can be.
"""

import sys

from samjax.cli.process import use_compilation_cache
from samjax.inference.batch import predict
from samjax.options import PredictOptions


def main(options: PredictOptions) -> None:
    """Predicts, and prints where the label maps are."""
    use_compilation_cache(options.cache_dir)
    outcome = predict(options)
    print(f"predictions: {outcome.folder} ({outcome})")
    if outcome.left_out:
        sys.exit(1)
