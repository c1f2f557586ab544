"""What `--weights` names: a file, or the small model."""

from pathlib import Path

from samjax.errors import UserError
from samjax.models.config import PRESETS
from samjax.models.initialise import initial_values
from samjax.weights.architecture import expected_shapes
from samjax.weights.digest import digest
from samjax.weights.files import Weights, load_weights

TINY = "tiny"
RANDOM = "random"
SHIPPED = Path(__file__).with_name("tiny.safetensors")


def load_base(weights: str) -> Weights:
    """Base weights by name or path.

    "tiny" is the small model with the weights beside this file, if there are any, "random" the same without training.

    Raises:
        UserError: as `load_weights`.
    """
    if weights == TINY and SHIPPED.exists():
        return load_weights(SHIPPED)
    if weights in (TINY, RANDOM):
        config = PRESETS[TINY]
        values = initial_values(expected_shapes(config), seed=0)
        # Of the values, so that a run on weights that are drawn otherwise today is noticed.
        return Weights(values, config, digest(values))
    path = Path(weights).expanduser()
    if not path.exists():
        raise UserError(f"--weights {weights}: no such file; give a checkpoint, '{TINY}' or '{RANDOM}'")
    return load_weights(path)
