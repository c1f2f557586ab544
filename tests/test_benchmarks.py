"""The benchmarks' harness with played measurements, and one small benchmark from end to end."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import metrics
from benchmarks.catalogue import NAMES, find_benchmark
from benchmarks.gpu import suite
from benchmarks.gpu.rows import OURS, Row, rows
from benchmarks.harness import ROOT, compare, environment, launch
from benchmarks.options import Setting
from benchmarks.work import Benchmark, Comparison, Side, Work
from samjax.errors import UserError

PROMISED = {"name", "ours", "peer", "ratio", "memory_ours", "memory_peer", "versions"}


def unused(setting: Setting) -> Work:
    raise AssertionError("sides run in processes of their own")


BENCHMARK = Benchmark(
    {"ours": Side(unused, (), ()), "peer": Side(unused, (), ()), "absent": Side(unused, (), ())},
    (
        Comparison("played", "ours", "peer", tolerance=1e-4),
        Comparison("played/absent", "ours", "absent", tolerance=1e-4),
        Comparison("played/alone", "ours", None),
    ),
)


class Played:
    """Stands in for the processes: the n-th run of a side takes the n-th of its seconds."""

    def __init__(self, answer: float = 1.0):
        self.launched: list[str] = []
        self._seconds = {"ours": [1.0, 9.0, 2.0], "peer": [4.0, 3.0, 5.0]}
        self._answers = {"ours": answer, "peer": 1.0}

    def __call__(self, name: str, side: str, setting: Setting) -> dict:
        self.launched.append(side)
        if side == "files":
            return {}
        if side == "absent":
            return {"missing": "No module named 'absent'", "install": "pip install absent"}
        run = self.launched.count(side) - 1
        return {
            "seconds": self._seconds[side][run],
            "memory": 100.0 * (run + 1),
            "working": 10.0,
            "highest": 500.0,
            "compile_seconds": None,
            "versions": {side: "1.0"},
            "answer": np.array([0.0, self._answers[side]]),
        }


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting("tiny", 64, tmp_path)


def records(setting: Setting, played: Played) -> dict[str, dict]:
    return {record["name"]: record for record in compare("played", BENCHMARK, setting, 3, played)}


def test_sides_run_in_alternation_and_a_missing_one_is_tried_once(setting: Setting):
    played = Played()
    records(setting, played)
    assert played.launched == ["files", "ours", "peer", "absent", "ours", "peer", "ours", "peer"]


def test_a_record_holds_medians_ratios_and_versions(setting: Setting):
    record = records(setting, Played())["played"]
    assert record.keys() >= PROMISED
    assert (record["ours"], record["peer"], record["ratio"]) == (2.0, 4.0, 0.5)
    assert (record["memory_ours"], record["memory_peer"], record["memory_ratio"]) == (200.0, 200.0, 1.0)
    assert record["versions"].keys() == {"python", "ours", "peer"}
    assert (record["all_ours"], record["repeats"]) == ([1.0, 9.0, 2.0], 3)
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize(("answer", "agree"), [(1.00005, True), (1.0005, False), (float("nan"), False)])
def test_different_answers_are_seen(setting: Setting, answer: float, agree: bool):
    assert records(setting, Played(answer))["played"]["agree"] is agree


def test_a_missing_or_absent_peer_leaves_our_numbers(setting: Setting, capsys: pytest.CaptureFixture):
    found = records(setting, Played())
    for name in ("played/absent", "played/alone"):
        record = found[name]
        assert record.keys() >= PROMISED
        assert (record["ours"], record["peer"], record["ratio"], record["agree"]) == (2.0, None, None, None)
    assert found["played/absent"]["missing"] == "No module named 'absent' (pip install absent)"
    assert found["played/alone"]["missing"] is None
    assert "absent: not installed: No module named 'absent' (pip install absent)" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_compares_sides_that_it_has(name: str):
    benchmark = find_benchmark(name)
    named = {side for comparison in benchmark.comparisons for side in (comparison.ours, comparison.peer) if side}
    assert named == set(benchmark.sides)
    assert all(comparison.name.split("/")[0] == name for comparison in benchmark.comparisons)


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)


def test_an_unknown_name_is_refused_in_one_line():
    done = run("metrics", "speed")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: benchmark 'speed': unknown; expected one of {', '.join(NAMES)}\n"


def test_a_side_that_fails_is_named_with_its_last_words(setting: Setting):
    with pytest.raises(UserError, match=r"^benchmark metrics, wrong: ended with code 1: KeyError: 'wrong'$"):
        launch("metrics", "wrong", setting)


def test_metrics_small_from_end_to_end(setting: Setting):
    """In real processes, but ours beside ours, since the peers need not be there."""
    assert all(mask.dtype == bool and 0.005 < mask.mean() < 0.05 for mask in metrics.masks(setting))
    ours = Benchmark(
        {name: metrics.BENCHMARK.sides[name] for name in ("ours", "ours_pooled")},
        (Comparison("metrics", "ours", "ours_pooled", tolerance=0.5),),
    )
    (record,) = compare("metrics", ours, setting, repeats=1)
    assert record["agree"]
    assert 0 < record["ours"] < 5
    assert 0 < record["memory_ours"] < 200
    assert record["versions"].keys() >= {"numpy", "scipy"}


def test_the_suite_for_a_device_measures_its_rows_in_turn(tmp_path: Path, monkeypatch):
    chosen = [Row("encoder", OURS, "tf32", 2), Row("cached_step", OURS, "float32", 2), Row("encoder", OURS, "int4")]
    monkeypatch.setattr(suite, "rows", lambda names: chosen)
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # and one device
    records = list(suite.run_suite(("all",), "cpu", Setting("tiny", 64, tmp_path), wave=2))
    assert [(record["work"], record["batch"]) for record in records] == [(row.work, row.batch) for row in chosen]
    for record in records[:2]:
        assert record["seconds"] > 0
        assert record["runs"] >= 3
        assert record["planned_bytes"] > 0
        assert record["versions"]["device"] == "cpu"
    assert "int4" in records[2]["failed"], "the reason, and the others are measured all the same"
    lines = suite.table(records).splitlines()
    assert len(lines) == 2 + len(records)
    assert all(line.count("|") == 12 for line in lines)
    assert "| encoder |  | samjax | tf32 | 2 |" in lines[2]


def test_every_row_of_the_suite_is_listed_once_and_found_by_its_work():
    everything = rows(("all",))
    assert len({row.name for row in everything}) == len(everything)
    for work in ("encoder", "train_step", "cached_step", "prompts", "predict"):
        assert {row.work for row in rows((work,))} == {work}


def test_a_suite_of_an_unknown_name_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="'decode': unknown; expected all or some of encoder, train_step"):
        list(suite.run_suite(("decode",), "cpu", Setting("tiny", 64, tmp_path), wave=1))
