"""Converts a PyTorch checkpoint for samjax: python convert/torch_to_flax.py sam_vit_b_01ec64.pth vit_b.safetensors."""

from samjax.cli.main import run

if __name__ == "__main__":
    run("torch_to_flax")
