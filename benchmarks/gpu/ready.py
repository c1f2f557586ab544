"""Work that is ready to be measured, whoever does it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Ready:
    """Work whose programs are compiled and whose inputs are on the device."""

    run: Callable[[], Any]
    """Does it once, and returns when it is done."""
    answer: Callable[[Any], np.ndarray]
    """The numbers that are compared, from what `run` gave."""
    compile_seconds: float | None = None
    planned: int | None = None
    """Bytes by XLA's plan: arguments, results and what is needed in passing."""
