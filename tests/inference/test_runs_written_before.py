"""Runs that version 0.1 wrote, with the masks and clicks that it gave for them: they still evaluate and predict.

Masks may differ where a logit is almost nothing, since other programs round otherwise: Dice is at least 0.999.
"""

from pathlib import Path

import numpy as np
import pytest

from samjax.data.cache.cases import CachedCase
from samjax.data.cohort import list_cases, prepare
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.evaluation.evaluate import evaluate
from samjax.evaluation.saved import SavedPredictions
from samjax.inference.batch import predict
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import model_of_run
from samjax.inference.volumes import segment_cases
from samjax.metrics.overlap import dice
from samjax.options import EvalOptions, PredictOptions

RUNS = Path(__file__).parents[1] / "fixtures" / "runs_0_1"
BASE = str(RUNS / "base.safetensors")
SIMILAR = 0.999
CASES = 2
"""The masks of so many cases are kept."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scans that the runs' native square, 40, comes from."""
    place = tmp_path_factory.mktemp("before") / "adult"
    write_cohort(place, "adult", 4, seed=5, options=PhantomOptions((40, 40, 16)))
    return place


@pytest.fixture(scope="module")
def cases(cohort: Path) -> list[CachedCase]:
    return prepare(list_cases({"demo": cohort}, None, "brats2023", CASES), None)


@pytest.fixture(scope="module")
def before() -> dict[str, np.ndarray]:
    """Masks (case, Z, rows, columns) by the prompt, and the rounds of three clicks; -1 or 0 where none was."""
    with np.load(RUNS / "expected.npz") as stored:
        found = dict(stored)
    shape = tuple(found.pop("shape"))
    for name in ("none", "point", "clicks", "box"):
        found[name] = np.unpackbits(found[name]).astype(bool)[: np.prod(shape)].reshape(shape)
        assert 0.1 < found[name].mean() < 0.95
    return found


def is_as_before(folder: Path, cases: list[CachedCase], expected: np.ndarray) -> None:
    saved = SavedPredictions("now", folder, ("whole-tumor",))
    for (case, found), mask in zip(saved.predict(cases), expected, strict=True):
        assert dice(found.mask > 0, mask) >= SIMILAR, case.case.id


@pytest.mark.parametrize(("run", "prompt"), [("lora4ch", "point"), ("decoder", "box")])
def test_they_evaluate(cohort: Path, cases, before, tmp_path: Path, run: str, prompt: str):
    options = EvalOptions(
        run=(RUNS / run,), weights=BASE, data=(f"demo={cohort}",), labels="brats2023", limit=CASES, workers=0,
        cache=False, save_predictions=True, output=tmp_path,
    )  # fmt: skip
    evaluate(options)
    is_as_before(tmp_path / "predictions", cases, before[prompt])


def test_they_predict(cohort: Path, cases, before, tmp_path: Path):
    inputs = tuple(cohort / case.case.id for case in cases)
    predict(PredictOptions(inputs, tmp_path, run=(RUNS / "lora4ch",), weights=BASE, labels="brats2023"))
    is_as_before(tmp_path, cases, before["none"])


def test_clicks_are_drawn_as_before(cases, before):
    model = model_of_run(RUNS / "lora4ch", BASE)
    found = [prediction for _, prediction in segment_cases(model, cases, GroundTruthPrompts("point", 3, seed=0))]
    for now, click, counts, mask in zip(found, before["first_click"], before["counts"], before["clicks"], strict=True):
        prompted = now.rounds.prompted
        np.testing.assert_array_equal(prompted, click[:, 0] >= 0)
        np.testing.assert_array_equal(now.rounds.click[prompted], click[prompted])
        # A pixel that flips in an early round may move a later click.
        np.testing.assert_allclose(now.rounds.counts, counts, rtol=0.02, atol=2)
        assert dice(now.mask, mask) >= SIMILAR
