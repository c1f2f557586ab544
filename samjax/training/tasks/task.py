"""The part of a strategy that the training loop uses: the loss of a batch, and the validation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samjax.inference.postprocess_choice import PostprocessChoice
from samjax.training.step import SliceFunction, States

HostBatch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Scores:
    """Result of one validation."""

    values: dict[str, Any]
    """Fields of the row in metrics.jsonl."""
    text: str
    """Text for the terminal."""
    best: float
    """The number by which checkpoints are compared; larger is better."""
    draw: Callable[[Path], None]
    """Writes a picture of an input, its label and the prediction."""


@dataclass(frozen=True)
class Task:
    """Protocol of a task, which is independent of the model."""

    results: SliceFunction
    validate: Callable[[States], Scores] | None
    """Scores a model given as replicated states; None where the validation cases show nothing to score."""
    describe: str
    """One line on data, prompts and input, printed before the first step."""
    names: Callable[[HostBatch], list[str]]
    """The names of the samples of a batch, for messages about them."""
    choose_postprocess: Callable[[States, str, int], PostprocessChoice] | None = None
    """Chooses the post-processing of prompt-free predictions for replicated states, the name of these weights (average
    or last) and their step; None where the model is not asked without prompts."""
