"""`samjax prepare`: registers the scans of each case, strips the skull and resamples them to one grid.

Exit code 0: all cases are prepared; 1: some were left out; 2: none can be.
"""

import sys

from samjax.options import PrepareOptions
from samjax.prepare.batch import prepare


def main(options: PrepareOptions) -> None:
    """Prepares, and prints where the cases are."""
    outcome = prepare(options)
    print(f"prepared cases: {outcome.folder} ({outcome})")
    if outcome.left_out:
        sys.exit(1)
