"""`samjax serve` as a process that can be killed and started again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
START = 90.0  # seconds that a start may take on a busy machine


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@dataclass
class Server:
    """A server of the cases in `cases`, which saves into `output`; it keeps its port when it is started again."""

    cases: Path
    output: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = (sys.executable, "-m", "samjax", "serve", "--no-browser", "--port", self.port)
        with (self.output.parent / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*map(str, command), "--input", str(self.cases), "--output", str(self.output)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START
        while not self.answers():
            assert self.process.poll() is None, f"the server ended: {self.log()}"
            assert time.monotonic() < deadline, f"the server does not answer: {self.log()}"
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it answers."""
        try:
            with urlopen(f"{self.address}/healthz", timeout=5) as response:
                return json.load(response)["service"] == "samjax"
        except OSError:
            return False

    def kill(self) -> None:
        """Kills it: it has no time to save anything."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        """Stops it from answering without ending it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def log(self) -> str:
        """What it printed."""
        return (self.output.parent / "server.log").read_text()
