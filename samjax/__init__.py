"""SAM in JAX/Flax, fine-tuned for brain-tumour MRI."""

from typing import TYPE_CHECKING, Any

from samjax.version import __version__

if TYPE_CHECKING:
    from samjax.inference.predictor import Predictor

__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: worker processes import this package too and need no JAX.
    if name == "Predictor":
        from samjax.inference.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
