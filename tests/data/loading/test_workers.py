"""Worker processes: what they share, and that they end with their parent, whatever they are used for."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from samjax.data.loading import workers
from samjax.data.loading.pipeline import MapDataset
from samjax.data.loading.workers import Wording, WorkerPool
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from tests.processes import children, gone

REPOSITORY = Path(__file__).parents[3]


def test_workers_read_their_function_without_moving_the_position_that_they_share():
    """An inherited descriptor has one position for all: workers that start at once would read from each other's."""
    with tempfile.TemporaryFile() as file:
        file.write(pickle.dumps(MapDataset.source(range(50_000)).get))
        file.seek(3)
        get, failure = workers._loaded(os.dup(file.fileno()))
        assert failure is None
        assert get(0, 49_999) == 49_999
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 3


def test_arguments_of_any_size_go_to_a_worker_and_results_come_back_in_order():
    """Larger than a socket's buffer, and more of them than one worker takes at a time."""
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 9, 10**size), rng.integers(0, 9, 10**size)) for size in (1, 6, 2, 5, 0, 3)]
    pool = WorkerPool(np.subtract, 2, 3, Wording(lambda *arguments: "a difference"))
    for pair in pairs:
        pool.request(*pair)
    for first, second in pairs:
        result = pool.receive()
        np.testing.assert_array_equal(result, first - second)
        result += 1  # the memory is the caller's own
    pool.close()


# Each program starts one use of worker processes that lasts, in the folder that it is given.

TRAINING = """
from samjax.data.loading.pipeline import MapDataset
from tests.data.loading.pipeline_parts import who
batches = MapDataset.source(range(10, 30)).map(who).batch(1).to_iter(2)  # a minute each
next(batches)
"""
# A pipe that nobody writes to: reading it never ends.
ENDLESS = """
import os, sys
from pathlib import Path
for number in range(3):
    name = f"BraTS-GLI-0000{number}-000"
    (Path(sys.argv[1]) / name).mkdir()
    for modality in ("t1n", "t1c", "t2w", "t2f"):
        os.mkfifo(Path(sys.argv[1]) / name / f"{name}-{modality}.nii.gz")
"""
CACHE = f"""
{ENDLESS}
from samjax.data.cache.cases import build_cache
from samjax.data.formats.layouts import find_cases
build_cache(find_cases(Path(sys.argv[1]), "adult", labels="brats2023"), None, workers=2)
"""
CHECK = f"""
{ENDLESS}
from samjax.data.check import check
check(Path(sys.argv[1]), labels="brats2023", workers=2)
"""
PHANTOM = """
import sys
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
write_cohort(sys.argv[1], "adult", 4, options=PhantomOptions((160, 160, 60)), workers=2)
"""
SCORING = """
import time
import numpy as np
from samjax.evaluation.case_scores import ScoringJob, scoring_pool
from samjax.evaluation.scoring import SliceRule
from tests.evaluation.cases import made_case
labels = np.random.default_rng(0).integers(0, 4, (60, 240, 240), np.uint8)  # noise, so that distances take long
pool = scoring_pool(2)
for _ in range(4):
    pool.request(ScoringJob(made_case(labels), {"whole-tumor": labels[::-1] > 0}, "run", "box", SliceRule(), None))
time.sleep(60)
"""


def killed_at_work(program: str, folder: Path) -> set[int]:
    """Starts a program, kills it once its two workers are at work, and returns the workers."""
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)], cwd=REPOSITORY)
    deadline = time.perf_counter() + 60
    while len(started := children(process.pid)) < 2 and process.poll() is None and time.perf_counter() < deadline:
        time.sleep(0.02)
    time.sleep(1.5)  # they have imported what they need
    assert process.poll() is None
    assert children(process.pid) == started
    process.send_signal(signal.SIGKILL)
    process.wait()
    return started


USES = {"training": TRAINING, "cache": CACHE, "check": CHECK, "phantom": PHANTOM, "scoring": SCORING}


@pytest.mark.parametrize("use", USES)
def test_no_worker_outlives_a_killed_parent(use, tmp_path):
    workers = killed_at_work(USES[use], tmp_path)
    assert len(workers) == 2
    assert gone(workers, seconds=5)


def test_a_phantom_whose_writer_was_killed_is_continued_at_once(tmp_path):
    options = PhantomOptions((40, 40, 12))
    killed_at_work(PHANTOM.replace("(160, 160, 60)", "(40, 40, 12)").replace("4,", "400,"), tmp_path / "killed-2023")
    write_cohort(tmp_path / "killed-2023", "adult", 3, options=options)
    write_cohort(tmp_path / "whole-2023", "adult", 3, options=options)
    files = {}
    for name in ("killed-2023", "whole-2023"):
        root = tmp_path / name
        files[name] = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert files["killed-2023"] == files["whole-2023"]
