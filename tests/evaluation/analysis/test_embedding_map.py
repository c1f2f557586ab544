"""Embeddings by domain: which slices are taken, what is computed of them, and the numbers beside the picture."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.metrics import silhouette_score

from samjax.data.cache.cases import CachedCase
from samjax.data.cases import MODALITIES, Case, Source
from samjax.data.imaging.geometry import geometry_of
from samjax.data.imaging.volumes import Box, Volume
from samjax.data.on_device.channels import parse_channels
from samjax.errors import UserError
from samjax.evaluation.analysis.embedding_map import (
    Points,
    analyse,
    choose_slices,
    embed,
    project,
    separation_of,
)
from samjax.inference.model import SegmentationModel
from samjax.models.resizing import to_input
from tests.training import small


def scan(domain: str, patient: str, brightness: int, shape=(6, 32, 24), tumour=(1, 5), number: int = 0) -> CachedCase:
    """A case in memory, of noise about a brightness, with a block of tumour in the slices from, up to before."""
    rng = np.random.default_rng((brightness, number))
    images = rng.integers(brightness, brightness + 40, (*shape, 4)).astype(np.uint8)
    labels = np.zeros(shape, np.uint8)
    labels[slice(*tumour), 8:16, 8:16] = 1
    counts = np.stack([np.bincount(z.ravel(), minlength=4) for z in labels]).astype(np.int32)
    # Source axes are columns, rows, slices, so that ours come out as they are.
    geometry = geometry_of(shape[::-1], np.diag([-1.0, -1.0, 1.0, 1.0]), "a test")
    assert geometry.shape == shape
    sources = dict.fromkeys(MODALITIES, Source(Path("scan")))
    case = Case(f"{patient}-{number}", patient, domain, sources, Path("label"), "brats", "test")
    box = Box((0, 0, 0), shape)
    return CachedCase(case, counts, box, geometry, memory=Volume(images, labels, counts, box, geometry))


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    return SegmentationModel.on_local_devices(
        *nnx.split(small.lora4ch()), name="small", rois=("whole-tumor",), channels=parse_channels("all"),
        depth=small.DEPTH, image_size=small.CONFIG.image_size,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cases() -> list[CachedCase]:
    """Two dark patients and two bright ones; not all slices fill the square of 32."""
    return [
        scan("dark", "a", 10, number=0),
        scan("dark", "b", 10, number=1),
        scan("bright", "c", 190, (5, 32, 32), (0, 5), number=0),
        scan("bright", "d", 190, (6, 20, 32), (2, 4), number=1),
    ]


def clusters(shift: float, domains: int = 3, patients: int = 6, slices: int = 5, seed: int = 0) -> Points:
    """Points whose domains lie `shift` apart, whose patients lie 1 apart, and whose slices hardly differ."""
    rng = np.random.default_rng(seed)
    who = [(domain, patient, z) for domain in range(domains) for patient in range(patients) for z in range(slices)]
    centres, own = rng.normal(0, shift, (domains, 16)), rng.normal(0, 1, (domains, patients, 16))
    values = [centres[domain] + own[domain, patient] + rng.normal(0, 0.05, 16) for domain, patient, _ in who]
    names = [f"{domain}-{patient}" for domain, patient, _ in who]
    return Points(
        np.float32(values), tuple(f"domain {d}" for d, *_ in who), tuple(names), tuple(names), tuple(z for *_, z in who)
    )


def test_planted_clusters_are_found():
    found = separation_of(clusters(10.0))
    assert found.accuracy == 1.0
    assert found.silhouette > 0.7
    assert found.chance == pytest.approx(25 / 85)  # 25 slices of five others of the domain, 85 of all others


def test_shuffled_labels_come_to_chance():
    points = clusters(10.0, patients=20)
    rng = np.random.default_rng(1)
    accuracies, silhouettes = [], []
    for _ in range(10):
        domain_of = dict(zip(dict.fromkeys(points.patients), rng.permutation(60) % 3, strict=True))
        found = separation_of(replace(points, domains=tuple(str(domain_of[name]) for name in points.patients)))
        accuracies.append(found.accuracy)
        silhouettes.append(found.silhouette)
    assert np.mean(accuracies) == pytest.approx(found.chance, abs=0.05)
    assert np.mean(silhouettes) == pytest.approx(0, abs=0.05)


def test_a_patient_is_never_matched_with_himself():
    # Every patient's slices all but coincide. With them as neighbours the accuracy would be 1.
    points = clusters(0.0, patients=8)
    assert silhouette_score(points.embeddings, points.patients) > 0.9
    assert separation_of(points).accuracy < 0.7
    # Two patients a domain, each beside the other domain's: all matches are wrong.
    crossed = Points(
        np.float32([[0], [0], [0.1], [5], [5.1], [5.1]]), tuple("xxyxyy"), tuple("aabcdd"), tuple("aabcdd"), (0,) * 6
    )
    found = separation_of(crossed)
    assert found.accuracy == 0.0
    assert found.chance == pytest.approx((1 / 4 * 2 + 2 / 5 + 2 / 5 + 1 / 4 * 2) / 6)


def test_a_patient_of_two_domains_is_not_matched_with_himself():
    points = Points(
        np.float32([[0], [0.1], [1], [9], [8], [9.1]]), tuple("xyxyxy"), tuple("aabcde"), tuple("aabcde"), (0,) * 6
    )
    # The two of patient a lie together: b is next to both, for one of them in the same domain.
    assert separation_of(points).accuracy == pytest.approx((1 + 0 + 0 + 1 + 0 + 1) / 6)


def test_a_domain_of_one_patient_has_no_accuracy():
    points = clusters(10.0, patients=1)
    found = separation_of(points)
    assert (found.accuracy, found.chance) == (None, None)
    assert found.silhouette > 0.9


@pytest.mark.parametrize("count", [5, 40])
def test_projections_repeat_with_their_seed(count):
    points = clusters(3.0, patients=8)
    some = np.random.default_rng(2).permutation(len(points.domains))[:count]
    points = replace(points, embeddings=points.embeddings[some])
    first, again, other = project(points, 7), project(points, 7), project(points, 8)
    assert np.array_equal(first.tsne, again.tsne)
    assert np.array_equal(first.pca, again.pca)
    assert first.tsne.shape == first.pca.shape == (count, 2)
    assert np.isfinite(first.tsne).all()
    assert 0.5 < sum(first.explained) <= 1
    assert np.array_equal(first.pca, other.pca)


def test_domains_show_equally_many_slices_from_all_patients(cases):
    for seed in range(10):
        chosen = choose_slices(cases, "whole-tumor", seed, 100)
        taken = [int(mask.sum()) for mask in chosen]
        assert taken[:2] in ([4, 3], [3, 4])
        assert taken[2:] == [5, 2]
        for case, mask in zip(cases, chosen, strict=True):
            assert not mask[case.counts[:, 1] == 0].any()
        assert [mask.sum() for mask in choose_slices(cases, "whole-tumor", seed, 4)] == [2, 2, 2, 2]


def test_the_sample_repeats_with_its_seed(cases):
    samples = [[mask.tolist() for mask in choose_slices(cases, "whole-tumor", seed, 4)] for seed in (0, 0, 1, 2)]
    assert samples[0] == samples[1]
    assert samples[0] != samples[2] or samples[0] != samples[3]


def test_domains_that_cannot_be_compared_are_refused(cases):
    with pytest.raises(UserError, match="domain dark alone"):
        choose_slices(cases[:2], "whole-tumor", 0, 10)
    with pytest.raises(UserError, match="dark: no slice shows enhancing"):
        choose_slices(cases, "enhancing", 0, 10)
    with pytest.raises(UserError, match="4 slices show whole-tumor; a t-SNE takes at least 5"):
        choose_slices(cases, "whole-tumor", 0, 2)


def test_an_embedding_is_the_mean_of_the_tokens_inside_the_slice(model, cases):
    chosen = [np.zeros(case.shape[0], bool) for case in cases]
    chosen[1][3] = chosen[3][[2, 5]] = True
    points = embed(model, cases, chosen, slices=4)
    assert points.cases == ("b-1", "d-1", "d-1")
    assert points.domains == ("dark", "bright", "bright")
    assert points.slices == (3, 2, 5)
    assert points.embeddings.dtype == np.float32
    # Slice 3 of b is the second of its window; of its 32 x 24 pixels, three quarters of the columns are no padding.
    images, _ = cases[1].read(2, 4, 32)
    grid = model.network().encode(to_input(jnp.asarray(images, jnp.float32), 64)[None], jnp.ones((1, 2), bool))
    expected = np.asarray(grid)[0, 1, :, :3].mean((0, 1))
    assert points.embeddings[0] == pytest.approx(expected, abs=2e-5)
    assert not np.allclose(np.asarray(grid)[0, 1].mean((0, 1)), expected, atol=1e-3)


def test_other_models_are_refused(model, cases):
    unet = replace(model, name="baseline", image_size=None)
    with pytest.raises(UserError, match="baseline: not a SAM"):
        embed(unet, cases, choose_slices(cases, "whole-tumor", 0, 4))


def test_an_analysis_writes_points_numbers_and_pictures(model, cases, tmp_path):
    chosen = choose_slices(cases, "whole-tumor", 0)
    found = analyse(model, cases, chosen, tmp_path, roi="whole-tumor", slices=4)
    assert found.accuracy == 1.0
    assert found.silhouette > 0.5
    with open(tmp_path / "embeddings.csv") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 14
    assert {(line["domain"], line["case"]) for line in lines} == {(c.case.domain, c.case.id) for c in cases}
    written = json.loads((tmp_path / "embeddings.json").read_text())
    assert written["domains"] == {"dark": {"slices": 7, "patients": 2}, "bright": {"slices": 7, "patients": 2}}
    assert (written["accuracy"], written["silhouette"]) == (found.accuracy, found.silhouette)
    assert (tmp_path / "embeddings.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "embeddings.pdf").read_bytes().startswith(b"%PDF")
    assert len(list(tmp_path.iterdir())) == 4
