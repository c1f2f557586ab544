"""The command `samjax serve` as a process: it starts, refuses what it cannot do, and loses nothing when killed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from samjax.errors import UserError
from samjax.serve.engine import Engine
from samjax.serve.server import _Server
from tests.cli.process import ROOT, samjax
from tests.made_runs import write_base, write_run
from tests.serve.cases import INSIDE, library_of, small_model, write_case
from tests.serve.test_api import unpacked

NAME = "BraTS-GLI-00001-000"
Z, ROW, COLUMN = INSIDE


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("serve")
    base = write_base(found / "base.safetensors")
    write_run(found / "run", base, found, strategy="full", depth=2, prompt="mixed", clicks=2, labels="brats2023")
    write_case(found / "cases", NAME)
    return found


@contextmanager
def serving(place: Path, output: Path, *more: object) -> Iterator[tuple[subprocess.Popen, str]]:
    """The process and its address."""
    command = [sys.executable, "-m", "samjax", "serve", "--input", place / "cases", "--run", place / "run"]
    command += ["--output", output, "--port", "0", "--no-browser", "--cache-dir", place / "cache", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    process = subprocess.Popen(
        list(map(str, command)), env=environment, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, re.search(r"http://\S+", line)[0]
    finally:
        process.kill()
        process.communicate()


def post(address: str, name: str, **body: object) -> httpx.Response:
    return httpx.post(f"{address}/api/cases/{NAME}/{name}", json=body, timeout=120)


def test_a_killed_server_loses_nothing(place: Path, tmp_path: Path):
    click = {"slice": Z, "row": ROW, "column": COLUMN, "positive": True}
    with serving(place, tmp_path / "out") as (process, address):
        assert httpx.get(f"{address}/healthz").json()["service"] == "samjax"
        assert "<title>" in httpx.get(address).text
        first, _ = unpacked(post(address, "click", version=0, **click).content)
        second, planes = unpacked(post(address, "click", version=1, **{**click, "row": ROW + 2}).content)
        process.send_signal(signal.SIGKILL)
    with serving(place, tmp_path / "out") as (_, address):
        found = post(address, "open").json()
        assert (found["version"], found["prompts"], found["undo"]) == (2, second["prompts"], True)
        assert found["volumes"] == second["volumes"]
        mask = httpx.get(f"{address}/api/cases/{NAME}/mask.nii").content
        assert planes.tobytes() in mask
        undone, _ = unpacked(post(address, "undo", version=2).content)
        assert undone["volumes"] == first["volumes"]


def test_it_stops_when_it_is_told_to(place: Path, tmp_path: Path):
    for number in (signal.SIGTERM, signal.SIGINT):
        with serving(place, tmp_path / "out") as (process, address):
            with httpx.stream("GET", f"{address}/api/cases/{NAME}/events") as events:  # a page is open
                next(events.iter_lines())
                process.send_signal(number)
                _, error = process.communicate(timeout=30)
            assert (process.returncode, error) == (0, "")


def test_what_is_running_is_stopped_with_it(place: Path, tmp_path: Path):
    engine = Engine(small_model())
    library = library_of(engine, tmp_path / "out", place / "cases" / NAME)
    server = _Server(uvicorn.Config("no.app"), library)
    with library.opened(NAME) as editor:

        def told(done: int, total: int) -> None:
            server.handle_exit(signal.SIGINT, None)

        with pytest.raises(UserError, match="stopped; nothing was changed"):
            editor.automatic("none", told)
    assert server.should_exit
    assert library.ending
    library.close()
    engine.close()


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_token_is_needed_from_outside(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str):
    if by == "variable":
        monkeypatch.setenv("SAMJAX_TOKEN", "secret")
    more = ("--token", "secret") if by == "option" else ()
    with serving(place, tmp_path / "out", "--host", "0.0.0.0", *more) as (_, address):
        assert httpx.get(f"{address}/api/state").status_code == 401
        known = {"Authorization": "Bearer secret"}
        assert httpx.get(f"{address}/api/state", headers=known).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "nowhere"), "nowhere"),
        (("--host", "0.0.0.0"), "give --token a secret"),
        (("--host", "no.such.host.invalid", "--token", "x"), "cannot listen there"),
        (("--port", "70000"), "--port 70000: expected"),
        (("--run", "nowhere"), "no config.json there"),
        (("--weights", "nowhere.pth"), "nowhere.pth"),
        (("--output", "/proc/none"), "--output /proc/none: cannot be written"),
    ],
)
def test_what_cannot_be_served_is_one_line(place: Path, tmp_path: Path, arguments: tuple[str, ...], message: str):
    given = {"--input": place / "cases", "--run": place / "run", "--output": tmp_path / "out", "--port": "0"}
    if "--weights" in arguments:
        del given["--run"]
    given |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    done = samjax("serve", "--no-browser", *(x for pair in given.items() for x in pair), where=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_is_one_line(place: Path, tmp_path: Path):
    with serving(place, tmp_path / "one") as (_, address):
        port = address.rpartition(":")[2]
        where = ["--input", place / "cases", "--run", place / "run", "--output", tmp_path / "two", "--port", port]
        done = samjax("serve", "--no-browser", *where)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "cannot listen there" in done.stderr


def test_a_run_of_pictures_is_refused(place: Path, tmp_path: Path):
    write_run(tmp_path / "run", place / "base.safetensors", place, strategy="pretrain", depth=1)
    done = samjax("serve", "--no-browser", "--input", place / "cases", "--run", tmp_path / "run", "--port", "0")
    assert done.returncode == 2
    assert "was trained on pictures" in done.stderr
    assert done.stderr.count("\n") == 1
