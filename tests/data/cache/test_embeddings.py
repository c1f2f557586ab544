"""The files of embeddings: what comes back, what shares a folder, and what a damaged file leads to."""

import errno
import json
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from samjax.data.cache import embeddings
from samjax.data.cache.cases import build_cache
from samjax.data.cache.embeddings import EmbeddingRecipe, EmbeddingStore, bytes_below
from samjax.data.formats.layouts import find_cases
from samjax.data.samples import TrainingWindows, VariantWindows, training_set
from samjax.errors import UserError
from samjax.weights.base import digest
from tests.data.trees import example, save_brats

SHAPE = (2, 3, 5)
RECIPE = EmbeddingRecipe("aa", {"depth": 2}, "flair,t1gd,t2", "", 64, 40, "float32", {"rotation": 20.0, "seed": 0})


@pytest.fixture
def cases(tmp_path):
    for number in range(2):
        save_brats(tmp_path / "data", f"BraTS2021_{number:05d}", example(number), orientation="RAS")
    good, failures = build_cache(find_cases(tmp_path / "data", "adult"), tmp_path / "slices", 1, progress=False)
    assert not failures
    return tuple(good)


@pytest.fixture
def store(tmp_path):
    return EmbeddingStore(tmp_path / "embeddings", RECIPE.to_json(), SHAPE, variants=2)


def made(slices, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(slices), *SHAPE)).astype(np.float16)


def fill(store, case, variant, slices, seed: int = 0) -> np.ndarray:
    values = made(slices, seed)
    store.add(case, variant, np.array(slices), values)
    return values


def test_embeddings_come_back_by_case_variant_and_slice(store, cases):
    assert store.slices(cases[0], 0).size == 0
    first, second, other = (
        fill(store, case, variant, [2, 3, 7], seed)
        for seed, (case, variant) in enumerate(((cases[0], 0), (cases[0], 1), (cases[1], 0)))
    )
    for case, variant, values in ((cases[0], 0, first), (cases[0], 1, second), (cases[1], 0, other)):
        assert store.slices(case, variant).tolist() == [2, 3, 7]
        for place, number in enumerate((2, 3, 7)):
            found = store.read(case, variant, number)
            assert found.dtype == np.float16
            np.testing.assert_array_equal(found, values[place])


def test_more_slices_are_added_beside_those_that_are_there(store, cases):
    old = fill(store, cases[0], 0, [3, 7], seed=1)
    new = fill(store, cases[0], 0, [1, 5, 8], seed=2)
    assert store.slices(cases[0], 0).tolist() == [1, 3, 5, 7, 8]
    for values, slices in ((old, (3, 7)), (new, (1, 5, 8))):
        for place, number in enumerate(slices):
            np.testing.assert_array_equal(store.read(cases[0], 0, number), values[place])


def test_the_size_is_that_of_float16(store, cases):
    fill(store, cases[0], 0, list(range(9)))
    assert store.slice_bytes == 2 * 3 * 5 * 2
    overhead = store.path(cases[0], 0).stat().st_size - 9 * store.slice_bytes
    assert 0 < overhead < 1000
    recipe = (store.folder / "recipe.json").stat().st_size
    assert bytes_below(store.root) == store.path(cases[0], 0).stat().st_size + recipe
    assert bytes_below(store.root / "nothing") == 0


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "ab"},
        {"architecture": {"depth": 3}},
        {"channels": "t2,t1gd,flair"},
        {"pca": "cc"},
        {"image_size": 128},
        {"native": 48},
        {"dtype": "bfloat16"},
        {"augmentation": None},
        {"augmentation": {"rotation": 10.0, "seed": 0}},
        {"augmentation": {"rotation": 20.0, "seed": 1}},
        {"version": 0},
    ],
)
def test_another_recipe_has_another_folder(store, cases, change):
    fill(store, cases[0], 0, [1])
    other = replace(store, recipe=replace(RECIPE, **change).to_json())
    assert other.folder != store.folder
    assert other.slices(cases[0], 0).size == 0


def test_the_number_of_variants_does_not_change_the_folder(store, cases):
    fill(store, cases[0], 1, [1])
    assert replace(store, variants=5).slices(cases[0], 1).tolist() == [1]
    assert json.loads((store.folder / "recipe.json").read_text())["channels"] == "flair,t1gd,t2"


def test_another_domain_or_another_preparation_has_another_file(store, cases):
    case = cases[0]
    moved = replace(case, case=replace(case.case, domain="child"))
    prepared = replace(case, path=case.path.with_name("BraTS2021_00000-0123.safetensors"))
    assert len({store.path(one, 0) for one in (case, moved, prepared)}) == 3


def test_a_digest_goes_by_names_and_values():
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(3)}
    same = {"b": np.zeros(3), "a": np.asfortranarray(arrays["a"])}
    assert digest(arrays) == digest(same)
    different = [
        {"a": arrays["a"] + 1e-9, "b": arrays["b"]},
        {"a": arrays["b"], "b": arrays["a"]},
        {"a": arrays["a"].reshape(3, 2), "b": arrays["b"]},
        {"a": arrays["a"].astype(np.float32), "b": arrays["b"]},
    ]
    assert len({digest(one) for one in [arrays, *different]}) == 5


@pytest.mark.parametrize("damage", ["cut", "empty", "header", "shape", "gone"])
def test_a_damaged_file_counts_as_missing_and_reading_it_is_refused(store, cases, damage):
    fill(store, cases[0], 0, [2, 3])
    path = store.path(cases[0], 0)
    content = path.read_bytes()
    wrong = {"cut": content[:-7], "empty": b"", "header": b"\xff" * 8 + content[8:]}
    if damage == "shape":
        store = replace(store, shape=(4, 3, 5))
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(wrong[damage])
    assert store.slices(cases[0], 0).size == 0
    with pytest.raises(UserError, match=r"^.*-0\.safetensors: cannot be read .*--resume[^\n]*$"):
        store.read(cases[0], 0, 2)
    store.add(cases[0], 0, np.array([2]), np.ones((1, *store.shape)))
    assert store.slices(cases[0], 0).tolist() == [2]
    assert store.read(cases[0], 0, 2).all()


def test_a_slice_that_is_not_there_is_named(store, cases):
    fill(store, cases[0], 0, [2])
    with pytest.raises(UserError, match=r"lacks slice 4; .*--resume"):
        store.read(cases[0], 0, 4)


def test_a_full_disk_is_one_line_and_leaves_nothing(store, cases, monkeypatch):
    def full(path, tensors, metadata):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(embeddings, "write_safetensors", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\).*--cache-dir"):
        fill(store, cases[0], 0, [2])
    assert not store.path(cases[0], 0).exists()


def test_of_two_that_add_to_a_file_one_waits(store, cases, monkeypatch):
    """Else the second would write what it had read before the first wrote."""
    write, others = embeddings.write_safetensors, []

    def interrupted(*arguments):
        if not others:
            others.append(threading.Thread(target=fill, args=(store, cases[0], 0, [4, 5])))
            others[0].start()
            others[0].join(0.3)
            assert others[0].is_alive()
        write(*arguments)

    monkeypatch.setattr(embeddings, "write_safetensors", interrupted)
    fill(store, cases[0], 0, [1, 2])
    others[0].join()
    assert store.slices(cases[0], 0).tolist() == [1, 2, 4, 5]


def test_what_a_killed_process_left_is_removed(store, cases):
    store.folder.mkdir(parents=True)
    (store.folder / ".tmp-killed").touch()
    fill(store, cases[0], 0, [1])
    assert not list(store.folder.glob(".tmp-*"))


def windows(cases, **options) -> TrainingWindows:
    return TrainingWindows(
        cases, **{"depth": 1, "roi": "edema", "min_pixels": 3, "empty_share": 0.0, "seed": 0} | options
    )


@pytest.mark.parametrize("empty_share", [0.0, 0.4])
def test_what_can_be_shown_is_what_the_epochs_show(cases, empty_share):
    source = windows(cases, empty_share=empty_share)
    seen = {window for epoch in range(40) for window in source.epoch(epoch)}
    shown = {(number, int(z)) for number, slices in enumerate(source.shown()) for z in slices}
    assert seen
    assert seen == shown if not empty_share else seen <= shown
    without = {(n, int(z)) for n, slices in enumerate(windows(cases).shown()) for z in slices}
    assert without <= shown
    for number, z in shown - without:
        assert cases[number].counts[z, 1] == 0
        assert cases[number].box.start[0] <= z < cases[number].box.stop[0]


def test_epochs_show_the_variants_in_turn(cases):
    source = windows(cases)
    for epoch in range(7):
        items = VariantWindows(source, 3).epoch(epoch)
        assert [window for window, _ in items] == source.epoch(epoch)
        assert {variant for _, variant in items} == {epoch % 3}


def test_training_samples_hold_the_embedding_of_their_variant_in_place_of_images(store, cases):
    source = windows(cases)
    values = {
        (number, variant): fill(store, case, variant, slices, seed=10 * number + variant)
        for number, (case, slices) in enumerate(zip(cases, source.shown(), strict=True))
        for variant in (0, 1)
    }
    plain, cached = (training_set(source, 24, 2, embeddings=which) for which in (None, store))
    for epoch in (0, 1, 2):
        for index in range(cached.length(epoch)):
            one, other = cached.get(epoch, index), plain.get(epoch, index)
            assert "images" not in one
            for name in other.keys() - {"images"}:
                np.testing.assert_array_equal(one[name], other[name])
            assert one["variant"].tolist() == [epoch % 2] * 2
            assert one["embeddings"].shape == (2, 1, *SHAPE)
            for sample in range(2):
                number, z = int(one["case"][sample]), int(one["start"][sample])
                place = source.shown()[number].tolist().index(z)
                np.testing.assert_array_equal(one["embeddings"][sample, 0], values[number, epoch % 2][place])


def test_worker_processes_read_embeddings_and_import_no_jax(store, cases):
    source = windows(cases)
    for case, slices in zip(cases, source.shown(), strict=True):
        for variant in (0, 1):
            fill(store, case, variant, slices)
    chain = training_set(source, 24, 2, embeddings=store).map(Loaded())
    with chain.to_iter(workers=1, epochs=1) as batches:
        assert not any(batch["jax"] for batch in batches)


class Loaded:
    def __call__(self, batch):
        return {**batch, "jax": "jax" in sys.modules}
