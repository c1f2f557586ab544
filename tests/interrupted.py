"""Training as a process that tests halt, kill and signal; and whether two runs came to the same."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from samjax.weights.safetensors_file import read_safetensors

ROOT = Path(__file__).parents[1]
VOLATILE = ("seconds", "data_wait_seconds", "memory_bytes")
"""What differs between two runs of the same numbers."""
PATIENCE = 900
"""Seconds after which a process that neither halts nor ends fails its test."""


class Training:
    """train.py in a session of its own, as a shell or a cluster starts it; with a `moment` it halts there."""

    def __init__(self, where: Path, *options: object, moment: str | None = None):
        environment = dict(os.environ, XLA_FLAGS="--xla_backend_optimization_level=0", PYTHONWARNINGS="error")
        command = [ROOT / "train.py"] if moment is None else [ROOT / "tests" / "train_until.py", moment]
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115
        self._result: subprocess.CompletedProcess | None = None
        self._process = subprocess.Popen(
            [sys.executable, *map(str, (*command, *options))],
            cwd=where,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def halted(self) -> "Training":
        """Waits until it has halted at its moment."""
        options = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
        deadline = time.monotonic() + PATIENCE
        while (state := os.waitid(os.P_PID, self._process.pid, options)) is None:
            assert time.monotonic() < deadline, self._written()
            time.sleep(0.01)
        assert state.si_code == os.CLD_STOPPED, self._written()
        return self

    def told(self, number: int) -> subprocess.CompletedProcess:
        """Sends a signal to it and its workers, as Ctrl-C and clusters do, lets it go on, and waits for its end."""
        os.killpg(self._process.pid, number)
        self._process.send_signal(signal.SIGCONT)
        return self.ended()

    def killed(self) -> bool:
        """Kills it alone, halted or not, and says whether it still ran; its workers must see to themselves."""
        self._process.kill()
        return self.ended().returncode == -signal.SIGKILL

    def ended(self) -> subprocess.CompletedProcess:
        """Waits for its end, which no process of its session may outlive."""
        self._process.wait(PATIENCE)
        if self._result is not None:
            return self._result
        self._result = subprocess.CompletedProcess(self._process.args, self._process.returncode, *self._written())
        self._out.close()
        self._err.close()
        deadline = time.monotonic() + 10
        while left := in_session(self._process.pid):
            assert time.monotonic() < deadline, f"left over: {left}"
            time.sleep(0.02)
        return self._result

    def _written(self) -> tuple[str, str]:
        """What it wrote so far on stdout and stderr."""
        # Not read(): the position in a file is one for us and the process.
        return tuple(os.pread(f.fileno(), os.fstat(f.fileno()).st_size, 0).decode() for f in (self._out, self._err))


@dataclass(frozen=True)
class Trainings:
    """Starts runs in a working folder, with a checkpoint every other step; ends at last what a failed test left."""

    where: Path
    started: list[Training] = field(default_factory=list)

    def folder(self, name: str) -> Path:
        return self.where / "runs" / name

    def new(self, name: str, *options: object, moment: str | None = None) -> Training:
        """Begins the run runs/NAME. The last value of an option counts."""
        return self._start(
            "--checkpoint-every", "2", "--workers", "0", "--run", f"runs/{name}", *options, moment=moment
        )

    def resumed(self, name: str, *options: object, moment: str | None = None) -> Training:
        """Continues the run runs/NAME."""
        return self._start("--resume", "--run", f"runs/{name}", *options, moment=moment)

    def _start(self, *options: object, moment: str | None) -> Training:
        self.started.append(Training(self.where, "--cache-dir", "cache", *options, moment=moment))
        return self.started[-1]

    def end_all(self) -> None:
        for training in self.started:
            if training.running:
                training.killed()


def in_session(session: int) -> list[str]:
    """The processes of a session that live, where /proc tells."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().rpartition(") ")
        except OSError:  # it has just ended
            continue
        state, _, _, its_session = rest.split()[:4]
        if int(its_session) == session and state not in "ZX":
            found.append(name)
    return found


def finished(training: Training) -> subprocess.CompletedProcess:
    """Waits for a training that ends well."""
    result = training.ended()
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def errors(result: subprocess.CompletedProcess) -> list[str]:
    """The lines on stderr, without those that say by which scheme labels are read."""
    return [line for line in result.stderr.strip().splitlines() if ": labels: " not in line]


def history(folder: Path) -> list[dict]:
    """The rows of a run's metrics.jsonl without what no two runs share."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in VOLATILE} for row in rows]


def steps(folder: Path) -> list[int]:
    """The steps in a run's metrics.jsonl, of rows that are whole."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [row["step"] for row in map(json.loads, lines) if row["kind"] == "train"]


def checkpoints(folder: Path) -> list[int]:
    """The steps of a run's whole checkpoints."""
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def assert_same(folder: Path, reference: Path) -> None:
    """Two runs logged the same rows in the same order, each once, and trained the same weights, bit for bit."""
    assert history(folder) == history(reference)
    weights, expected = (read_safetensors(run / "final.safetensors")[0] for run in (folder, reference))
    assert weights.keys() == expected.keys()
    different = [name for name in weights if weights[name].tobytes() != expected[name].tobytes()]
    assert not different, f"{len(different)} of {len(weights)} arrays differ: {different[:3]}"
