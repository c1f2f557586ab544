"""Segments scans that have no labels: python predict.py --help."""

from samjax.cli.main import run

if __name__ == "__main__":
    run("predict")
