"""SAM in JAX/Flax, fine-tuned for brain-tumour MRI."""

__version__ = "0.1.0"
