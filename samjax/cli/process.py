"""The settings of a command's whole process, and the display of errors. No other module changes such settings."""

import gc
import os
import signal
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path

from samjax.errors import Stopped, UserError

TRACING_THRESHOLD = 50_000
"""New objects between two garbage collections. At Python's 700 to 2,000, a sixth of the time from start to first step
goes into scanning objects that JAX's tracing still holds."""
DISABLE_PASSES = "--xla_disable_hlo_passes"
SLOW_PASSES = ("triton-gemm-rewriter", "triton-softmax-rewriter", "dynamic-slice-fusion-rewriter-v2")
"""XLA's passes for GPUs that write matrix products and norms in Triton: trying out their tilings takes five sixths of
the time to compile a step in float32, and makes it an eighth faster (docs/performance.md). Without them XLA asks
cuBLAS, to which the last one would give operands that do not begin where cuBLAS wants them to."""


def run_command(main: Callable[[], None]) -> None:
    """Runs a command's `main`, turning a `UserError` into one line on stderr and exit code 2."""
    gc.set_threshold(TRACING_THRESHOLD)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX reads it when it first looks for devices
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped: at once, by Ctrl-C; a run goes on from its last checkpoint with --resume", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # what reads the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the last flush would fail again
        sys.exit(128 + signal.SIGPIPE)
    except Stopped as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.signal)


def compile_quickly(dtype: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Lets XLA compile without `SLOW_PASSES`, unless XLA_FLAGS say themselves which passes are disabled.

    Call it before JAX first looks for devices. It changes nothing for bfloat16, in which a step was seen to fail
    without them.
    """
    flags = environment.get("XLA_FLAGS", "")
    if dtype != "bfloat16" and DISABLE_PASSES not in flags:
        environment["XLA_FLAGS"] = f"{flags} {DISABLE_PASSES}={','.join(SLOW_PASSES)}".strip()


def use_compilation_cache(cache_dir: Path, shortest: float = 1.0) -> None:
    """Keeps compiled programs under `cache_dir`, so that the next run of the same shapes starts at once.

    It is not used with several processes: one that finds a program while another compiles it could wait forever.
    Programs that compile in less than `shortest` seconds are not kept.
    """
    import jax

    if jax.process_count() > 1:
        return
    jax.config.update("jax_compilation_cache_dir", str(cache_dir.expanduser() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", shortest)
