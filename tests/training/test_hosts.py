"""Two processes with two devices each train as one process with four."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training import hosts

ROOT = Path(__file__).parents[2]
SECONDS = 120
"""After which the processes are killed; they take about 10."""


@pytest.fixture(scope="module")
def one() -> dict[str, np.ndarray]:
    """What this process finds, with four devices."""
    return hosts.three_steps()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("hosts")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    flags = os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=2")
    files = [folder / f"{index}.npz" for index in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.training.hosts", coordinator, str(index), str(file)],
            cwd=ROOT,
            env=os.environ | {"XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index, file in enumerate(files)
    ]
    try:
        outputs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)[-4000:]
    return [dict(np.load(file)) for file in files]


def test_two_processes_train_as_one(one: dict[str, np.ndarray], two: list[dict[str, np.ndarray]]):
    assert np.ptp(one["losses"]) > 1e-2
    for found in two:
        np.testing.assert_array_equal(found["counted"], one["counted"])
        np.testing.assert_allclose(found["losses"], one["losses"], rtol=1e-5)
        np.testing.assert_allclose(found["parameters"], one["parameters"], atol=1e-5)
    for found in (one, *two):
        np.testing.assert_array_equal(found["parameters of the second device"], found["parameters"])
    np.testing.assert_array_equal(two[0]["parameters"], two[1]["parameters"])


def test_no_step_is_compiled_anew(one: dict[str, np.ndarray], two: list[dict[str, np.ndarray]]):
    assert [found["compiled"].tolist() for found in (one, *two)] == [[], [], []]


def test_each_process_scores_its_own_samples(one: dict[str, np.ndarray], two: list[dict[str, np.ndarray]]):
    np.testing.assert_allclose(np.concatenate([found["scores"] for found in two]), one["scores"], rtol=1e-4)


def test_the_processes_agree(two: list[dict[str, np.ndarray]]):
    for index, found in enumerate(two):
        assert str(found["from_writer"]) == str({"folder": "runs/größer" * 40, "step": 2**40})
        np.testing.assert_array_equal(found["gathered"], [[2**40, -1], [2**40 + 1, -1]])
        np.testing.assert_array_equal(found["scalars"], [0.1, 1.1])
        np.testing.assert_array_equal(found["broadcast float"], np.full((2, 3), 0.5, np.float32))
        assert (int(found["broadcast count"]), bool(found["broadcast flag"])) == (7, True)
        assert found["writer"] == (index == 0)


def test_all_stop_at_the_same_step_when_one_is_asked_to(two: list[dict[str, np.ndarray]]):
    for found in two:
        np.testing.assert_array_equal(found["votes"], [False, False, False, True, False])


def test_the_error_of_one_ends_all(two: list[dict[str, np.ndarray]]):
    assert [str(found["message"]) for found in two] == [
        "process 1: --data missing: no such folder",
        "--data missing: no such folder",
    ]
