"""The options of `python -m benchmarks`, and what of them a measured process is told."""

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional


@dataclass(frozen=True)
class BenchOptions:
    """Compare samjax with its peers in speed and memory; prints one JSON object a line."""

    names: Positional[tuple[str, ...]]
    """encoder, decoder, train_step, epoch, augment, metrics, pipeline, startup, serve; see --device too."""
    repeats: int = 3
    """Fresh processes of each side, in alternation; the median counts."""
    device: Literal["cpu", "gpu"] | None = None
    """Run the suite for one device instead: all, or some of encoder, train_step, cached_step, prompts and predict,
    beside PyTorch. Prints a JSON object a row; --output has them all."""
    output: Path | None = None
    """Folder for benchmarks.json and benchmarks.md of the suite."""
    wave: int = 6
    """Rows of the suite that compile at once."""
    preset: Literal["vit_b", "vit_l", "vit_h", "tiny"] = "vit_b"
    """Architecture of the benchmarks that run a model."""
    size: int | None = None
    """Side in pixels of the model's input, or of a slice where no model runs. Default: 1024, or 240."""
    work_dir: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "samjax-benchmarks")
    """Generated weights and scans are kept here for the next time."""


@dataclass(frozen=True)
class Setting:
    """How large the work is, and where files may lie."""

    preset: str
    size: int | None
    folder: Path

    def side(self, default: int) -> int:
        """The side in pixels, where none was asked for the default."""
        return default if self.size is None else self.size

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "folder": str(self.folder)}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Setting":
        return cls(**{**content, "folder": Path(content["folder"])})
