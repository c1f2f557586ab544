"""The rows of the suite: which work, by whom, in which dtype, how many at once."""

from collections.abc import Iterator
from dataclasses import dataclass

OURS, EAGER, SDPA, COMPILED = "samjax", "torch", "torch sdpa", "torch sdpa compiled"


@dataclass(frozen=True)
class Row:
    """One measurement."""

    work: str
    """encoder, train_step, cached_step, prompts or predict."""
    by: str
    """samjax, or Meta's segment-anything: as it is, with PyTorch's fused attention, or compiled too."""
    dtype: str
    """float32, tf32 or bfloat16 (PyTorch: autocast)."""
    batch: int = 1
    """Pictures, slices or prompts at once."""
    size: int | None = None
    """Side of the input in pixels where it is not the suite's."""

    @property
    def name(self) -> str:
        size = f" at {self.size}" if self.size else ""
        return f"{self.work}{size}, {self.by}, {self.dtype}, {self.batch}"


def rows(names: tuple[str, ...]) -> list[Row]:
    """The rows of these works, or of all."""
    return [row for row in _all() if "all" in names or row.work in names]


def _all() -> Iterator[Row]:
    yield Row("encoder", EAGER, "float32")
    yield from (Row("encoder", OURS, "bfloat16", batch) for batch in (1, 8, 32))
    yield from (Row("encoder", OURS, dtype, 8) for dtype in ("tf32", "float32"))
    yield from (Row("encoder", EAGER, "bfloat16", batch) for batch in (1, 8))
    yield from (Row("encoder", SDPA, "bfloat16", batch) for batch in (1, 8, 32))
    yield from (Row("encoder", COMPILED, "bfloat16", batch) for batch in (1, 8, 32))
    yield from (Row("train_step", by, dtype) for by in (EAGER, OURS) for dtype in ("float32", "bfloat16"))
    yield Row("train_step", OURS, "tf32")
    yield from (Row("train_step", OURS, dtype, 4) for dtype in ("float32", "tf32", "bfloat16"))
    yield from (Row("train_step", OURS, dtype, 4, 256) for dtype in ("float32", "tf32", "bfloat16"))
    yield from (Row("cached_step", OURS, dtype, 8) for dtype in ("float32", "bfloat16"))
    yield from (Row("prompts", by, dtype, 16) for by in (EAGER, OURS) for dtype in ("float32", "bfloat16"))
    yield Row("predict", OURS, "float32")
