"""Settings for every test: the CPU, with four fake devices; quick compilation, and no program compiled twice.

With JAX_PLATFORMS=cuda,cpu (make gpu) programs are compiled as users compile them.
"""

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.environ.setdefault("JAX_PLATFORMS", "cpu") == "cpu":
    # Optimisation level 0 halves the time to compile; what runs here is small.
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0")
else:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "samjax-test-programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


@pytest.fixture(autouse=True, scope="session")
def _work_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs that tests train in this process leave the link runs/latest in the working directory: not in the clone."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("working-directory"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True, scope="module")
def _programs_are_let_go() -> Iterator[None]:
    """Every compiled program holds memory maps, of which Linux gives a process 65,530: too few for the whole suite."""
    yield
    import jax

    jax.clear_caches()
    gc.collect()
