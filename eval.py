"""Scores runs, or base weights as they are, against labels: python eval.py --help."""

from samjax.cli.main import run

if __name__ == "__main__":
    run("eval")
