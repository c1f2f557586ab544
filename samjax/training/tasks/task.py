"""What the training loop needs to know of a strategy: the loss of a batch, and how it is scored."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samjax.training.step import SliceFunction, States

HostBatch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Scores:
    """What a validation found."""

    values: dict[str, Any]
    """Of the row in metrics.jsonl."""
    text: str
    """For the terminal."""
    best: float
    """The number by which checkpoints are compared; larger is better."""
    draw: Callable[[Path], None]
    """Writes a picture of an input, its label and the prediction."""


@dataclass(frozen=True)
class Task:
    """What a run trains on, whatever its model."""

    results: SliceFunction
    validate: Callable[[States], Scores] | None
    """Scores a model given as replicated states; None where the validation cases show nothing to score."""
    describe: str
    """One line on data, prompts and input, printed before the first step."""
    names: Callable[[HostBatch], list[str]]
    """What the samples of a batch are called, for messages about them."""
