"""Looking after other processes, for tests of what outlives what. Linux only, by way of /proc."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def _status(pid: int) -> list[str]:
    """State, parent and so on of a process, as /proc/PID/stat has them after the name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def running(pid: int) -> bool:
    """Whether a process exists and is more than an entry that nobody has asked after."""
    try:
        os.kill(pid, 0)
        return _status(pid)[0] not in "ZX"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # gone in between, or not Linux
        return not Path("/proc").exists()


def children(pid: int) -> set[int]:
    """The running processes that a process has started."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if int(_status(int(folder.name))[1]) == pid and running(int(folder.name)):
                found.add(int(folder.name))
    return found


def gone(pids: Iterable[int], seconds: float = 5) -> bool:
    """Whether none of the processes runs any more, after waiting for their ends."""
    pids = set(pids)
    deadline = time.perf_counter() + seconds
    while any(running(pid) for pid in pids) and time.perf_counter() < deadline:
        time.sleep(0.02)
    return not any(running(pid) for pid in pids)
