"""Validation: the engine's masks of the live state, scored; compiled once; from stored embeddings alike."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import roi_mask
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.inference import encoded
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.model import SegmentationModel
from samjax.inference.predictions import VolumePrediction
from samjax.inference.volumes import segment_cases
from samjax.metrics.overlap import dice
from samjax.models.adapt import random_sam
from samjax.models.flat import to_flat
from samjax.options import TrainOptions
from samjax.runs.model import build_model
from samjax.strategies import trainable_filter
from samjax.training.precompute import compute_embeddings
from samjax.training.session import Session, new_session
from samjax.training.step import States, initial_state, replicate
from samjax.training.stop import StopRequest
from samjax.training.tasks.segmentation import validation_store
from samjax.training.tasks.validation import VALIDATION_SEED, Validator
from samjax.weights.base import save_weights
from tests.training import small


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("validation")
    write_cohort(root / "small-2023", "adult", 5, options=PhantomOptions((40, 36, 9)))
    flat = to_flat(nnx.state(random_sam(small.CONFIG, seed=3)), small.CONFIG.block_spans)
    save_weights(root / "small.safetensors", flat, small.CONFIG)
    return root


def session_of(place: Path, strategy: str, **changes: object) -> Session:
    weights = {} if strategy == "unet" else {"weights": str(place / "small.safetensors"), "image_size": 64}
    data = (f"demo={place / 'small-2023'}",)
    run, cache = place / f"{strategy}-{len(list(place.iterdir()))}", place / "cache"
    return new_session(
        TrainOptions(strategy=strategy, data=data, run=run, cache_dir=cache, workers=1, **weights, **changes)
    )


def live(session: Session, shift: float = 0.0) -> tuple[nnx.GraphDef, States]:
    """A run's model as it trains: a replicated vector and a replicated tree; `shift` moves all that trains."""
    graphdef, trainable, frozen = nnx.split(
        build_model(session.config, session.base), trainable_filter(session.strategy), ...
    )
    trainable = jax.tree.map(lambda x: x + shift, trainable)
    return graphdef, (replicate(initial_state(trainable, optax.identity()).trainable), replicate(frozen))


def segmented(session: Session, kind: str) -> list[tuple[CachedCase, VolumePrediction]]:
    """What the engine predicts from the same weights in one piece."""
    unet = session.config.architecture is None
    model = SegmentationModel.on_local_devices(
        *nnx.split(build_model(session.config, session.base)),
        name="same",
        rois=("whole-tumor",),
        channels=session.channels,
        depth=session.options.depth,
        image_size=None if unet else 64,
        native=session.config.native,
        prompts=session.config.prompts_seen,
    )
    prompts = GroundTruthPrompts(kind, session.options.clicks, VALIDATION_SEED)
    return list(segment_cases(model, session.val, prompts))


@pytest.mark.parametrize(
    ("strategy", "kind", "changes"),
    [("lora4ch", "point", {"depth": 2, "clicks": 2}), ("lora4ch", "none", {"depth": 2}), ("unet", "none", {})],
)
def test_the_score_is_that_of_the_engine_s_masks(place: Path, strategy: str, kind: str, changes: dict):
    session = session_of(place, strategy, **changes)
    graphdef, states = live(session)
    scores = Validator(session, graphdef, kind).score(states)
    by_case, by_slice = [], []
    for case, found in segmented(session, kind):
        mask, truth = found.region("whole-tumor"), roi_mask(case.read(0, case.shape[0])[1], "whole-tumor")
        by_case.append(dice(mask, truth))
        shown = [z for z in range(len(truth)) if kind == "none" or truth[z].any()]
        by_slice += [dice(mask[z], truth[z]) for z in shown]
    assert scores.best == scores.values["dice"] == pytest.approx(np.mean(by_case), abs=1e-4)
    assert scores.values["dice_slice"] == pytest.approx(np.mean(by_slice), abs=1e-4)
    assert 0.001 < scores.best < 0.999
    assert scores.values["prompt_source"] == ("none" if kind == "none" else "ground truth")
    scores.draw(place / f"{strategy}-{kind}.png")
    assert (place / f"{strategy}-{kind}.png").read_bytes().startswith(b"\x89PNG")


def test_post_processing_is_chosen_on_the_engine_s_prompt_free_masks(place: Path):
    session = session_of(place, "lora4ch", depth=2)
    graphdef, states = live(session)
    choice = Validator(session, graphdef, "point").choose_postprocess(states, "last", 5)
    (raw, *_) = choice.candidates
    expected = [dice(found.mask, case.whole_labels() > 0) for case, found in segmented(session, "none")]
    assert (raw.rule, choice.weights, choice.step) == ("none", "last", 5)
    assert raw.dice == pytest.approx(np.mean(expected), abs=1e-4)
    assert (choice.cases, choice.labels) == (len(session.val), len(session.val) + len(session.train))


def test_no_validation_case_with_the_region_chooses_nothing(place: Path):
    session = replace(session_of(place, "lora4ch", depth=2, seed=0), val=())
    graphdef, states = live(session)
    assert Validator(session, graphdef, "none").choose_postprocess(states, "last", 5).chosen == "none"


def test_stored_embeddings_take_the_encoder_s_place_and_nothing_is_compiled_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    session = session_of(place, "decoder", augment=False, cache_embeddings=1, max_steps=1)
    compute_embeddings(session, StopRequest())
    graphdef, states = live(session)
    expected = Validator(session, graphdef, "box").score(states)
    monkeypatch.delattr(encoded, "encode")
    validator = Validator(session, graphdef, "box", validation_store(session))
    found = validator.score(states)
    assert found.values["dice"] == pytest.approx(expected.values["dice"], abs=2e-3)
    assert 0.001 < found.values["dice"] < 0.999
    _, moved = live(session, 0.05)
    caplog.clear()
    with jax.log_compiles():
        other = validator.score(moved)
    assert not [entry.message for entry in caplog.records if "ompiling" in entry.message]
    assert other.values["dice"] != found.values["dice"]
