"""Servers for the tests: two small cases, a model that nobody trained, and the real application on a free port."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from starlette.applications import Starlette

from samjax.inference.inputs import find_inputs
from samjax.inference.loading import model_of_run
from samjax.serve.api import Page
from samjax.serve.app import make_app
from samjax.serve.engine import Engine
from samjax.serve.library import Library
from samjax.serve.nninteractive.leases import LeaseLimits
from samjax.serve.nninteractive.routes import open_desk
from tests.data.trees import Example, example, save_brats
from tests.made_runs import write_base, write_run

SHAPE = (7, 28, 32)
CASES = {"BraTS-GLI-00001-000": "LPS", "BraTS-GLI-00002-000": "PIR"}
"""The cases and the orientations in which their files are stored."""


def scan_of(number: int) -> Example:
    """The scans of a case, counted from 0."""
    return example(number, SHAPE)


def write_cases(folder: Path) -> Path:
    for number, (name, orientation) in enumerate(CASES.items()):
        save_brats(folder / name, name, scan_of(number), None, orientation=orientation, spacing=(3.0, 1.0, 1.0))
    return folder


def write_model(folder: Path, **options: object) -> Path:
    """A run of windows of two slices that knows every kind of prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {"seed": 2, "strategy": "full", "depth": 2, "prompt": "mixed", "clicks": 2} | options
    return write_run(folder / "run", write_base(folder / "base.safetensors"), folder, **made)


@contextmanager
def library_of(run: Path, cases: Path, output: Path) -> Iterator[Library]:
    engine = Engine(model_of_run(run), run)
    found, _ = find_inputs([cases], None, None)
    library = Library(engine, found, {case.id: None for case in found}, output)
    try:
        yield library
    finally:
        library.close()
        engine.close()


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def app_of(
    library: Library, token: str | None = None, limits: LeaseLimits | None = None, clock: Clock | None = None
) -> Starlette:
    desk = open_desk(library, limits, clock or time.monotonic)
    return make_app(Page(library), frozenset({"127.0.0.1"}), token, desk)


@contextmanager
def listening(app: Starlette) -> Iterator[str]:
    """Serves an application on a free port; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))
