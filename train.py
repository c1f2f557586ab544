"""Fine-tunes SAM on brain-tumour MRI: python train.py --help."""

from samjax.cli.main import run

if __name__ == "__main__":
    run("train")
