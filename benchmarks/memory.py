"""The memory of this process: now, and at its highest since it was last asked to forget.

Linux keeps the highest resident set of a process (VmHWM), and forgets it where 5 is written to `clear_refs`. So the
peak of the measured work is told apart from that of compiling and of loading.
"""

import ctypes
import gc
import re
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def resident_mib() -> float:
    """MiB resident now."""
    return _field("VmRSS")


def peak_mib() -> float:
    """The most MiB resident since `reset_peak`, or since the process began where that is not possible."""
    return _field("VmHWM")


def reset_peak() -> bool:
    """Forgets the peak; False where the system does not allow it, so that the peak holds what came before.

    What was freed (by compiling, say) is given back to the system first, since it would count as resident.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        _CLEAR.write_text("5")
        return True
    return False


def _field(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text())
    assert found is not None
    return int(found[1]) / 1024
