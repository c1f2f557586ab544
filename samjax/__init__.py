"""SAM in JAX/Flax, fine-tuned for brain-tumour MRI."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when asked for: worker processes import this package too and need no JAX.
    if name == "Predictor":
        from samjax.inference.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
