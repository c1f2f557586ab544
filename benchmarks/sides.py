"""The sides that several benchmarks have: ours in JAX, ours without it, and Meta's code in PyTorch."""

from collections.abc import Callable

from benchmarks.options import Setting
from benchmarks.work import Side, Work

Prepare = Callable[[Setting], Work]


def our_side(prepare: Prepare) -> Side:
    """Ours where a model runs."""
    return Side(prepare, ("benchmarks.our_sam",), ("jax", "jaxlib", "flax", "numpy"))


def our_numpy_side(prepare: Prepare, *modules: str) -> Side:
    """Ours where no JAX is involved."""
    return Side(prepare, modules, ("numpy", "scipy"))


def meta_side(prepare: Prepare) -> Side:
    """Meta's SAM."""
    return Side(
        prepare,
        ("benchmarks.meta_sam",),
        ("torch", "segment-anything-py", "numpy"),
        "pip install -e '.[bench]' && pip install --no-deps segment-anything-py==1.0.1",
    )
