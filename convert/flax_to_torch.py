"""Converts samjax's weights, or a run, for PyTorch: python convert/flax_to_torch.py runs/latest fine_tuned.pth."""

from samjax.cli.main import run

if __name__ == "__main__":
    run("flax_to_torch")
