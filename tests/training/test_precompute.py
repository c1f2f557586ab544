"""Training on embeddings from the disk: the same losses, labels that fit the embedded image, and what is refused."""

import json
import re
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from samjax.data.cache.embeddings import EmbeddingStore
from samjax.data.on_device.prompts import PromptMix
from samjax.data.samples import ReadWindow
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import Stopped, UserError
from samjax.models.adapt import random_sam
from samjax.models.flat import to_flat
from samjax.models.resizing import to_input
from samjax.options import TrainOptions
from samjax.runs.model import build_model
from samjax.strategies import STRATEGIES
from samjax.training.loop import train
from samjax.training.precompute import compute_embeddings, wanted_embeddings
from samjax.training.run_options import resolve
from samjax.training.session import Session, new_session, resumed_session
from samjax.training.stop import StopRequest
from samjax.training.tasks.objective import Objective, augmented, augmented_labels, slice_results
from samjax.training.tasks.segmentation import augmentation_of, training_store, validation_store, window_data
from samjax.weights.base import save_weights
from tests.training import small


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small SAM and a phantom cohort."""
    root = tmp_path_factory.mktemp("cached")
    write_cohort(root / "small-2023", "adult", 5, options=PhantomOptions((40, 40, 8)))
    flat = to_flat(nnx.state(random_sam(small.CONFIG, seed=3)), small.CONFIG.block_spans)
    save_weights(root / "small.safetensors", flat, small.CONFIG)
    return root


def options(place: Path, run: str = "run", **changes: object) -> TrainOptions:
    given = {
        "strategy": "decoder",
        "data": (f"demo={place / 'small-2023'}",),
        "weights": str(place / "small.safetensors"),
        "run": place / run,
        "cache_dir": place / "cache",
        "image_size": 64,
        "max_steps": 3,
        "lr": 1e-2,
        "workers": 0,
    }
    return TrainOptions(**given | changes)


def rows(run: Path, kind: str) -> list[dict]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in found if row["kind"] == kind]


@pytest.fixture(scope="module")
def session(place: Path) -> Session:
    """Of two variants, all of them computed."""
    found = new_session(options(place, "two", seed=3, cache_embeddings=2))
    compute_embeddings(found, StopRequest())
    return found


def with_images(session: Session, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    read = ReadWindow(session.train, 1, session.config.native)
    images = [read((case, start))["images"] for case, start in zip(batch["case"], batch["start"], strict=True)]
    return {**batch, "images": np.stack(images)}


def test_without_augmentation_a_run_has_the_losses_of_one_that_encodes(place: Path, capsys: pytest.CaptureFixture):
    run = train(options(place, "cached", augment=False, swa=False, cache_embeddings=1))
    said = capsys.readouterr().out
    assert re.search(r"14 embeddings in \S+: 0.00717 MB, of which 0.00717 MB are missing; .* free", said)
    with pytest.raises(UserError, match="leave out --no-cache"):
        resumed_session(TrainOptions(run=run, cache=False))
    session = resumed_session(TrainOptions(run=run))
    objective = Objective("whole-tumor", session.channels, PromptMix.parse("box"), 64)
    results = jax.jit(partial(slice_results, build_model(session.config, session.base), objective=objective))
    data = window_data(session)
    for index, row in enumerate(rows(run, "train")):
        batch = data.get(0, index)
        images = {name: x for name, x in with_images(session, batch).items() if name not in ("embeddings", "variant")}
        key = jax.random.fold_in(jax.random.key(session.options.seed), index)
        cached, whole = (results(one, key) for one in (batch, images))
        np.testing.assert_allclose(cached.loss, whole.loss, rtol=1e-3)
        assert np.asarray(whole.counted).sum() == batch["valid"].sum()
        if not index:  # nothing is trained yet
            expected = np.asarray(whole.loss)[batch["valid"]].mean()
            assert row["loss"] == pytest.approx(expected, rel=1e-3)


def test_the_labels_seen_are_those_of_the_image_that_was_embedded(session: Session):
    """For every variant, whatever the step's key: encoding the image again that belongs to the labels gives what is on
    the disk."""
    augmentation, seed = augmentation_of(session), session.options.seed
    assert augmentation is not None
    model = build_model(session.config, session.base)

    @jax.jit
    def encoded(batch: dict, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        images, labels, _ = augmented(batch, key, session.channels, augmentation, seed)
        return model.encode(to_input(images, 64)), labels

    objective = Objective("whole-tumor", session.channels, PromptMix.parse("box"), 64, 1, augmentation, seed)
    results = jax.jit(partial(slice_results, model, objective=objective))
    labels_seen = jax.jit(lambda batch, key: augmented_labels(batch, key, augmentation, seed)[0])
    for epoch in range(3):
        batch = window_data(session).get(epoch, 0)
        assert set(batch["variant"]) == {epoch % 2}
        again, labels = encoded(with_images(session, batch), jax.random.key(5))
        largest = np.abs(again).max()
        np.testing.assert_allclose(batch["embeddings"], again, atol=2e-3 * largest)
        other = {**batch, "variant": 1 - batch["variant"]}
        moved, other_labels = encoded(with_images(session, other), jax.random.key(5))
        assert np.abs(moved - batch["embeddings"]).max() > 0.05 * largest
        assert (labels != other_labels).any()
        for number in (6, 7):
            np.testing.assert_array_equal(labels_seen(batch, jax.random.key(number)), labels)
        np.testing.assert_array_equal(
            results(batch, jax.random.key(8)).overlap["true"], (np.asarray(labels) > 0).sum((-2, -1))
        )


def test_prompts_are_drawn_anew_and_nothing_is_encoded(session: Session, monkeypatch: pytest.MonkeyPatch):
    objective = Objective("whole-tumor", session.channels, PromptMix.parse("point"), 64)
    model = build_model(session.config, session.base)
    monkeypatch.delattr(type(model), "encode")
    results = jax.jit(partial(slice_results, model, objective=objective))
    batch = window_data(session).get(0, 0)
    losses = [results(batch, jax.random.key(number)).loss for number in (1, 2)]
    assert not np.allclose(*losses)


def test_all_that_is_shown_is_stored_and_nothing_else(session: Session):
    for item in wanted_embeddings(session):
        stored = item.store.slices(item.case, item.variant)
        np.testing.assert_array_equal(stored, np.flatnonzero(item.case.counts[:, 1:].any(axis=1)))
    count = sum(1 for item in wanted_embeddings(session))
    assert count == 2 * len(session.train) + len(session.val)


def test_only_what_is_missing_is_computed(session: Session, monkeypatch: pytest.MonkeyPatch):
    added = []
    add = EmbeddingStore.add

    def noted(self, case, variant, slices, embeddings):
        added.append((self.path(case, variant).name, slices.tolist()))
        add(self, case, variant, slices, embeddings)

    monkeypatch.setattr(EmbeddingStore, "add", noted)
    compute_embeddings(session, StopRequest())
    assert not added
    item = wanted_embeddings(session)[1]
    path = item.store.path(item.case, item.variant)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    compute_embeddings(session, StopRequest())
    assert added == [(path.name, item.slices.tolist())]
    assert path.read_bytes() == whole


def test_what_embeddings_depend_on_changes_their_folder(place: Path, session: Session):
    base = {**session.base}
    base["image_encoder/pos_embed"] = base["image_encoder/pos_embed"] + 1e-3
    changed = {
        "weights": replace(session, base=base),
        "size": with_options(session, image_size=32),
        "channels": replace(session, channels=replace(session.channels, text="t1,t1gd,t2")),
        "rotation": with_options(session, rotation=10.0),
        "seed": with_options(session, seed=1),
        "augment": with_options(session, augment=False),
        "dtype": with_options(session, dtype="bfloat16"),
        "native": replace(session, config=replace(session.config, native=48)),
    }
    folders = {name: training_store(other).folder for name, other in changed.items()}
    assert len({*folders.values(), training_store(session).folder}) == 1 + len(changed)
    assert folders["augment"] == validation_store(session).folder
    # What the encoder does not see does not: other prompts, regions and decoders share the files.
    decoder = {**session.base, "mask_decoder/iou_token/embedding": np.zeros((1, 16), np.float32)}
    for same in (
        replace(session, base=decoder),
        with_options(session, roi="edema", prompt="point", cache_embeddings=4),
    ):
        assert training_store(same).folder == training_store(session).folder
    assert validation_store(with_options(session, seed=1)).folder == validation_store(session).folder


def with_options(session: Session, **changes: object) -> Session:
    return replace(session, config=replace(session.config, options=replace(session.options, **changes)))


def test_over_the_budget_nothing_is_computed(session: Session, place: Path, monkeypatch: pytest.MonkeyPatch):
    other = with_options(session, seed=1, embeddings_budget=1e-5)
    with pytest.raises(UserError, match=r"^--embeddings-budget 1e-05: [^\n]*raise it[^\n]*$"):
        compute_embeddings(other, StopRequest())
    assert not training_store(other).folder.exists()
    compute_embeddings(with_options(session, embeddings_budget=1e-5), StopRequest())  # nothing is missing
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("samjax.training.precompute.shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"^[^\n]*0\.001 MB are free; [^\n]*--cache-dir$"):
        compute_embeddings(with_options(session, seed=1), StopRequest())


def test_an_interrupted_pass_keeps_the_cases_that_are_done(session: Session, monkeypatch: pytest.MonkeyPatch):
    other = with_options(session, seed=2)
    stop = StopRequest()
    add = EmbeddingStore.add

    def then_stop(self, *arguments):
        add(self, *arguments)
        stop.signal = signal.SIGTERM

    monkeypatch.setattr(EmbeddingStore, "add", then_stop)
    with pytest.raises(Stopped, match="--resume"):
        compute_embeddings(other, stop)
    wanted = wanted_embeddings(other)
    assert [item.missing().slices.size for item in wanted[:2]] == [0, wanted[1].slices.size]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cache_embeddings": 0}, "at least 1"),
        ({"strategy": "lora4ch"}, "--strategy lora4ch trains the encoder"),
        ({"strategy": "full"}, "--strategy full trains the encoder"),
        ({"strategy": "unet", "weights": None, "image_size": None}, "--strategy unet"),
        ({"depth": 2}, "--depth 2"),
        ({"cache": False}, "--no-cache"),
        ({"augment": False}, "give 1"),
        ({"overfit": "BraTS-GLI-90000-000"}, "give 1"),
        ({"cache_embeddings": 1}, "--no-augment"),
        ({"max_steps": None, "epochs": 1}, "1 epochs"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(place: Path, changes: dict, words: str):
    wanted = options(place, **{"cache_embeddings": 2} | changes)
    strategy = STRATEGIES[wanted.strategy]
    architecture = None if strategy.family == "unet" else small.CONFIG
    with pytest.raises(UserError, match=r"^--cache-embeddings [^\n]*$") as refusal:
        resolve(wanted, strategy, architecture)
    assert words in str(refusal.value)
