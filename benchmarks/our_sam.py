"""Our model with the benchmark's weights, and compiling apart from running. Importing this needs jax."""

import time
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from benchmarks.options import Setting
from benchmarks.random_weights import weights_path
from samjax.models.adapt import adapt
from samjax.models.config import Adaptation, ComputeConfig
from samjax.weights.base import load_weights

FLOAT32 = ComputeConfig().precision


def our_sam(setting: Setting) -> tuple[nnx.GraphDef, nnx.State]:
    """SAM as the benchmarks use it, taken apart for compiled functions."""
    weights = load_weights(weights_path(setting))
    return nnx.split(adapt(weights.config, weights.flat, Adaptation(), ComputeConfig()))


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], float]:
    """The function compiled for arguments like these, in true float32, and the seconds that took."""
    begin = time.perf_counter()
    with jax.default_matmul_precision(FLOAT32):
        program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - begin
