"""One computes at a time, in the order of asking; somebody who computes for long lets others in between."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samjax.serve.editor import Editor
from samjax.serve.engine import Engine
from samjax.serve.opened import OpenedCase
from tests.serve.cases import INSIDE, SHAPE, cases_of, small_model, write_case


@pytest.fixture
def engine() -> Iterator[Engine]:
    found = Engine(small_model())
    yield found
    found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("cases"))


def opened(engine: Engine, folder: Path) -> OpenedCase:
    return OpenedCase.from_files(engine.model, cases_of(folder)[0])


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_turns_come_in_the_order_of_asking(engine: Engine):
    order: list[str] = []

    def compute(name: str) -> None:
        with engine.foreground():
            order.append(name)

    threads = [threading.Thread(target=compute, args=(name,)) for name in "abc"]
    with engine.foreground():
        for number, thread in enumerate(threads):
            thread.start()
            wait_until(lambda waiting=number + 2: len(engine._turns) == waiting)
        engine.give_way()
        order.append("first again")
    for thread in threads:
        thread.join()
    assert order == ["a", "b", "c", "first again"]


def test_a_click_does_not_wait_for_all_of_a_propagation(engine: Engine, folder: Path):
    long, short = (Editor(engine, opened(engine, folder)) for _ in range(2))
    ended: list[str] = []

    def click() -> None:
        short.click(*INSIDE)
        ended.append("click")

    thread = threading.Thread(target=click)

    def progress(done: int, total: int) -> None:
        if not thread.ident:
            thread.start()
            wait_until(lambda: len(engine._turns) == 2)

    long.click(*INSIDE, propagate=True, progress=progress)
    ended.append("propagation")
    thread.join()
    assert ended == ["click", "propagation"]


def test_a_case_that_nobody_has_is_not_encoded_on(engine: Engine, folder: Path):
    with engine.foreground():
        case = opened(engine, folder)
        engine.show(case, 0)
        del case
        gc.collect()
        assert engine._looked_at() == (None, 0)


def test_the_thread_goes_on_after_a_failure(engine: Engine, folder: Path, monkeypatch, capsys):
    def full(self: OpenedCase, slice_: int) -> bool:
        raise MemoryError("too large")

    case = opened(engine, folder)
    with monkeypatch.context() as failing:
        failing.setattr(OpenedCase, "encode_next", full)
        engine.show(case, 0)
        wait_until(lambda: engine._shown is None)
    assert "cannot be encoded (too large)" in capsys.readouterr().err
    engine.show(case, 0)
    wait_until(lambda: case.encoded_slices == SHAPE[0])


def test_the_thread_rests_after_a_request(engine: Engine, folder: Path):
    """As long as the newest window took: another click may follow."""
    case = opened(engine, folder)
    engine._window_seconds = 1.0
    with engine.foreground():
        engine.show(case, 0)
    time.sleep(0.3)
    assert case.encoded_slices == 0
    wait_until(lambda: case.encoded_slices == SHAPE[0])
