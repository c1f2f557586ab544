"""Distances of LoRA updates: singular values against the full matrices, the bound, and finished runs compared."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from samjax.errors import UserError
from samjax.evaluation.analysis.lora_distance import (
    comparable_pair,
    compare,
    difference_norm,
    distances_of,
    lora_factors,
    singular_values,
)
from samjax.models.adapt import random_sam
from samjax.models.config import Adaptation
from samjax.models.flat import to_flat
from samjax.models.lora import lora_updates
from samjax.options import TrainOptions
from samjax.runs.config import RunConfig
from samjax.runs.folder import CONFIG, write_text
from samjax.runs.trained import load_trained, save_final
from samjax.strategies import STRATEGIES
from samjax.weights.base import load_weights, save_weights
from tests.training import small


def product(seed: int, rows: int = 30, columns: int = 50, rank: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, rank)), rng.normal(size=(rank, columns))


@pytest.mark.parametrize(("rows", "columns", "rank"), [(30, 50, 4), (50, 30, 1), (6, 40, 5), (3, 4, 8)])
def test_as_the_decomposition_of_the_full_matrices(rows, columns, rank):
    first, second = (product(seed, rows, columns, rank) for seed in (0, 1))
    full = [a @ b for a, b in (first, second)]
    expected = np.linalg.svd(full[0], compute_uv=False)
    found = singular_values(*first)
    assert len(found) == min(rank, rows, columns)
    assert found == pytest.approx(expected[: len(found)])
    assert expected[len(found) :] == pytest.approx(0, abs=1e-12)
    assert difference_norm(first, second) == pytest.approx(np.linalg.norm(full[0] - full[1], 2))


@pytest.mark.parametrize("seed", range(20))
def test_the_bound_is_below_the_norm(seed):
    rng = np.random.default_rng((7, seed))
    rows, columns, rank = (int(n) for n in rng.integers(1, (20, 20, 6)))
    first, second = ({(0, "q"): product(int(rng.integers(1000)), rows, columns, rank)} for _ in range(2))
    if seed % 2:  # one a small step from the other, as after training on similar data
        a, b = first[0, "q"]
        second = {(0, "q"): (a + 1e-3 * rng.normal(size=a.shape), b)}
    (found,) = distances_of(first, second)
    assert 0 < found.bound <= found.norm * (1 + 1e-12)
    assert found.bound == found.gaps.max()


def test_the_bound_is_met_by_a_longer_update_and_blind_to_a_rotation():
    a, b = product(3)
    (longer,) = distances_of({(0, "q"): (a, b)}, {(0, "q"): (a, 1.5 * b)})
    assert longer.bound == pytest.approx(longer.norm)
    (turned,) = distances_of({(0, "q"): (a, b)}, {(0, "q"): (a[::-1], b)})
    assert turned.bound == pytest.approx(0, abs=1e-12)
    assert turned.norm > 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two finished runs of the small model, and its base weights."""
    folder = tmp_path_factory.mktemp("runs")
    base = to_flat(nnx.state(random_sam(small.CONFIG, seed=3)), small.CONFIG.block_spans)
    save_weights(folder / "base.safetensors", base, small.CONFIG)
    model = to_flat(nnx.state(small.lora4ch()), small.CONFIG.block_spans)
    for name, seed in (("adult", 1), ("sub-saharan", 2)):
        save_run(folder / name, trained(model, seed))
    return folder


def trained(model: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    chosen = re.compile("|".join(STRATEGIES["lora4ch"].stages[0]))
    found = {path: array for path, array in model.items() if chosen.fullmatch(path)}
    return {path: array + rng.normal(0, 0.1, array.shape).astype(np.float32) for path, array in found.items()}


def save_run(run: Path, weights: dict[str, np.ndarray], **changes) -> None:
    base = run.parent / "base.safetensors"
    options = {
        "strategy": "lora4ch",
        "channels": "all",
        "prompt": "box",
        "clicks": 1,
        "depth": small.DEPTH,
        "lora_rank": 2,
    }
    config = RunConfig(
        options=TrainOptions(**options | changes),
        data={},
        base_path=str(base),
        base_sha256=load_weights(base).sha256,
        architecture=small.CONFIG,
        native=small.NATIVE,
    )
    write_text(run / CONFIG, config.to_json())
    save_final(run, {"last": weights}, config)


def test_runs_are_compared_in_every_block_and_module(folder, tmp_path):
    found = compare(folder / "adult", folder / "sub-saharan", tmp_path)
    assert [(d.layer, d.module) for d in found] == [
        (layer, module) for layer in range(small.CONFIG.depth) for module in ("q", "k", "v", "lin1", "lin2")
    ]
    updates = [full_updates(folder / name) for name in ("adult", "sub-saharan")]
    for distance in found:
        where = "mlp" if distance.module.startswith("lin") else "attn"
        first, second = (u[f"image_encoder/blocks/{distance.layer}/{where}/lora/{distance.module}"] for u in updates)
        expected = [np.linalg.svd(full, compute_uv=False)[:2] for full in (first, second)]
        assert distance.first == pytest.approx(expected[0], rel=1e-5)
        assert distance.gaps == pytest.approx(np.abs(expected[0] - expected[1]), rel=1e-3, abs=1e-6)
        assert distance.norm == pytest.approx(np.linalg.norm(first - second, 2), rel=1e-5)

    with open(tmp_path / "lora_distance.csv") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * len(found)
    assert (lines[1]["layer"], lines[1]["module"], lines[1]["i"]) == ("0", "q", "2")
    assert float(lines[1]["gap"]) == found[0].gaps[1]
    assert float(lines[1]["spectral_norm"]) == found[0].norm
    assert (tmp_path / "lora_distance.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "lora_distance.pdf").read_bytes().startswith(b"%PDF")
    assert len(list(tmp_path.iterdir())) == 3


def full_updates(run: Path) -> dict[str, np.ndarray]:
    config, weights = load_trained(run)
    return lora_updates(weights.trained, config.adaptation)


def test_a_run_is_no_way_from_itself(folder, tmp_path):
    for distance in compare(folder / "adult", folder / "adult", tmp_path):
        assert distance.bound == 0
        assert distance.norm == pytest.approx(0, abs=1e-12 * distance.first[0])
        assert distance.first[-1] > 0.01


def test_alpha_counts(folder):
    _, weights = load_trained(folder / "adult")
    once, twice = (lora_factors(weights.trained, Adaptation(lora_rank=2, lora_alpha=alpha)) for alpha in (None, 4.0))
    for distance in distances_of(once, twice):
        assert distance.second == pytest.approx(2 * distance.first)
        assert distance.norm == pytest.approx(distance.first[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": 3}, "other: LoRA rank 3, but .*adult has 2"),
        ({"lora_targets": "q,v"}, "other: LoRA targets q,v, but .*adult has k,mlp,q,v"),
        ({"strategy": "decoder"}, "compares two runs with LoRA updates, found adult;"),
    ],
)
def test_other_ranks_targets_and_strategies_are_refused(folder, tmp_path, changes, message):
    (tmp_path / "base.safetensors").symlink_to(folder / "base.safetensors")
    save_run(tmp_path / "other", {"some/kernel": np.zeros(2, np.float32)}, **changes)
    with pytest.raises(UserError, match=message) as error:
        comparable_pair([folder / "adult", tmp_path / "other"])
    assert "\n" not in str(error.value)


def test_the_two_runs_with_lora_are_found_among_others(folder, tmp_path):
    (tmp_path / "base.safetensors").symlink_to(folder / "base.safetensors")
    save_run(tmp_path / "decoder", {}, strategy="decoder")
    runs = [folder / "adult", tmp_path / "decoder", folder / "sub-saharan"]
    assert comparable_pair(runs) == (runs[0], runs[2])
    save_run(tmp_path / "third", {})
    with pytest.raises(UserError, match="found adult, sub-saharan, third"):
        comparable_pair([*runs, tmp_path / "third"])


def test_other_base_weights_are_refused(folder, tmp_path):
    base = load_weights(folder / "base.safetensors")
    flat = {path: array + np.float32(1) for path, array in base.flat.items()}
    save_weights(tmp_path / "base.safetensors", flat, small.CONFIG)
    save_run(tmp_path / "other", {})
    with pytest.raises(UserError, match=r"other: base weights .*, but .*adult has"):
        comparable_pair([folder / "adult", tmp_path / "other"])


def test_order_of_the_targets_does_not_matter(folder, tmp_path):
    _, weights = load_trained(folder / "adult")
    (tmp_path / "base.safetensors").symlink_to(folder / "base.safetensors")
    save_run(tmp_path / "other", weights.trained, lora_targets="mlp,v,k,q")
    found = compare(*comparable_pair([folder / "adult", tmp_path / "other"]), tmp_path / "out")
    assert max(distance.bound for distance in found) == 0
