"""A map of a model's image embeddings by domain: t-SNE and PCA, and measures of the separation of the domains.

Paper B (fig. 9) shows a t-SNE of the embeddings of four domains and concludes from it that they are separate. But a
t-SNE shows clusters easily, and neighbouring slices of one patient lie together in any case. Therefore:
  - a point is a slice with some of the ROI: the mean of the encoder's embedding over the tokens that are no padding
    (the paper does not state it; a flattened embedding would mostly depend on the position of the head);
  - every domain shows the same number of slices, taken from its patients in turn;
  - the numbers with the pictures are the silhouette score of the domains, and how often the nearest slice of another
    patient is of the same domain, with what chance would give. Both are measured in the embedding space itself.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.slices import enough_pixels
from samjax.errors import UserError
from samjax.evaluation.prompted import PromptedModel
from samjax.figures.embedding_map import draw_embedding_map
from samjax.files import replacing
from samjax.inference.encoded import SLICES
from samjax.inference.model import SegmentationModel
from samjax.inference.reading import read_ahead
from samjax.inference.source import SourceVolume

NAME = "embeddings"
"""The name of the files written, before their suffixes."""
PER_DOMAIN = 200
"""The largest number of slices shown per domain."""
PERPLEXITY = 30.0
"""t-SNE's perplexity where there are enough points."""
FEWEST_POINTS = 5
"""The smallest number of points for t-SNE."""


@dataclass(frozen=True)
class Points:
    """The embeddings (n, d) float32 of n slices, and the domain, patient, case and number of each slice."""

    embeddings: np.ndarray
    domains: tuple[str, ...]
    patients: tuple[str, ...]
    cases: tuple[str, ...]
    slices: tuple[int, ...]

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """The number of slices and of patients of each domain."""
        pairs = list(zip(self.domains, self.patients, strict=True))
        return {
            name: (self.domains.count(name), len({patient for domain, patient in pairs if domain == name}))
            for name in dict.fromkeys(self.domains)
        }


@dataclass(frozen=True)
class Separation:
    """Measures of the separation of the domains in the embeddings.

    `accuracy` and `chance` are None if a domain has a single patient, who cannot be matched with another one.
    """

    silhouette: float
    """The silhouette score, a mean over slices in [-1, 1]; near 0 the domains overlap (Rousseeuw 1987)."""
    accuracy: float | None
    """The share of slices whose nearest slice of another patient is of the same domain."""
    chance: float | None
    """The share that slices of another patient drawn at random would give."""


@dataclass(frozen=True)
class Projection:
    """The points in two dimensions, (n, 2) each, and the shares of the variance that PCA's two axes explain."""

    tsne: np.ndarray
    pca: np.ndarray
    explained: tuple[float, float]


def analyse(
    model: SegmentationModel,
    cases: Sequence[CachedCase],
    chosen: Sequence[np.ndarray],
    output: Path,
    *,
    roi: str,
    slices: int = SLICES,
    workers: int = 0,
    seed: int = 0,
) -> Separation:
    """Embeds slices of labelled cases; writes embeddings.csv, .json, .png and .pdf into `output`.

    Args:
        chosen: the slices of each case, bool (Z,), as `choose_slices` gives them.
        roi: the region that they show.
        slices: number of slices that go through the encoder together on each device.
        seed: seed of t-SNE.

    Raises:
        UserError: the model is no SAM.
    """
    points = embed(model, cases, chosen, slices=slices, workers=workers)
    separation, projection = separation_of(points), project(points, seed)
    _write_csv(output / f"{NAME}.csv", points, projection)
    counts = {name: {"slices": n, "patients": patients} for name, (n, patients) in points.counts.items()}
    with replacing(output / f"{NAME}.json") as temporary:
        content = {"run": model.name, "roi": roi, "domains": counts, **asdict(separation)}
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    _draw(output / f"{NAME}.png", points, projection, separation, model.name)
    return separation


def choose(
    models: Sequence[object], cases: Sequence[CachedCase], seed: int
) -> tuple[SegmentationModel, list[np.ndarray]]:
    """The first model with image embeddings, and the slices of each case that it is to embed.

    Raises:
        UserError: no model has image embeddings, or the domains cannot be compared.
    """
    for model in models:
        if isinstance(model, PromptedModel) and not model.model.is_unet:
            return model.model, choose_slices(cases, model.rois[0], seed)
    raise UserError("--embeddings: needs a SAM run or --strategy zeroshot")


def choose_slices(cases: Sequence[CachedCase], roi: str, seed: int, per_domain: int = PER_DOMAIN) -> list[np.ndarray]:
    """Chooses slices that show the ROI, the same number in each domain, from its patients in turn: bool (Z,) per case.

    Args:
        seed: seed of the choice.
        per_domain: the largest number of slices of a domain.

    Raises:
        UserError: a domain has no such slice, there is one domain only, or there are too few slices for a t-SNE.
    """
    shown = [enough_pixels(case.counts, roi, 1) for case in cases]
    by_domain: dict[str, list[tuple[str, int, int]]] = {case.case.domain: [] for case in cases}
    for number, (case, mask) in enumerate(zip(cases, shown, strict=True)):
        by_domain[case.case.domain] += [(case.case.patient, number, int(z)) for z in np.flatnonzero(mask)]
    if len(by_domain) < 2:
        raise UserError(f"--data: domain {', '.join(by_domain) or '-'} alone; embeddings are compared between domains")
    for name, found in by_domain.items():
        if not found:
            raise UserError(f"{name}: no slice shows {roi}, so there is nothing to embed; leave the domain out")
    count = min(per_domain, *map(len, by_domain.values()))
    if (points := count * len(by_domain)) < FEWEST_POINTS:
        raise UserError(f"{points} slices show {roi}; a t-SNE takes at least {FEWEST_POINTS}; score more cases")
    chosen = [np.zeros_like(mask) for mask in shown]
    rng = np.random.default_rng(seed)
    for found in by_domain.values():
        for _, number, z in _by_turns(found, rng)[:count]:
            chosen[number][z] = True
    return chosen


def _by_turns(found: list[tuple[str, int, int]], rng: np.random.Generator) -> list[tuple[str, int, int]]:
    """Slices (patient, ...) in random order, but every patient's first one before any patient's second."""
    turns: dict[str, int] = {}
    placed = []
    for index in rng.permutation(len(found)):
        patient = found[index][0]
        turns[patient] = turns.get(patient, 0) + 1
        placed.append((turns[patient], found[index]))
    return [item for _, item in sorted(placed, key=lambda pair: pair[0])]


def embed(
    model: SegmentationModel,
    cases: Sequence[CachedCase],
    chosen: Sequence[np.ndarray],
    *,
    slices: int = SLICES,
    workers: int = 0,
) -> Points:
    """The embeddings of the chosen slices, each seen in the window that it is evaluated in.

    Args:
        chosen: for each case bool (Z,).
        slices: number of slices that go through the encoder together on each device.

    Raises:
        UserError: the model is no SAM.
    """
    if model.is_unet:
        raise UserError(f"{model.name}: not a SAM, so it has no image embedding; name a run of another strategy")
    wanted = [(case, np.flatnonzero(mask).tolist()) for case, mask in zip(cases, chosen, strict=True) if mask.any()]

    def read(item: tuple[CachedCase, list[int]]) -> np.ndarray:
        return item[0].read(0, item[0].shape[0])[0]

    means, where = [], []
    for (case, numbers), images in read_ahead(wanted, read, workers):
        scan = SourceVolume(model, images, case.geometry.spacing, slices, modalities=case.modalities)
        volume, seen = scan.encoded, scan.run_slices(numbers)
        volume.encode(seen)
        windows = {z // model.depth for z in seen}
        of_windows = {window: token_means(volume.window(window), volume.extent, volume.square) for window in windows}
        of_windows = jax.device_get(of_windows)
        means += [of_windows[z // model.depth][z % model.depth] for z in seen]
        where += [(case.case, z) for z in numbers]
    return Points(
        np.stack(means),
        tuple(case.domain for case, _ in where),
        tuple(case.patient for case, _ in where),
        tuple(case.id for case, _ in where),
        tuple(z for _, z in where),
    )


@jax.jit
def token_means(embeddings: jax.Array, extent: jax.Array, square: jax.Array) -> jax.Array:
    """The mean embedding (n, d) float32 of n slices (n, h, w, d), over the tokens whose centre is not padding.

    `extent` (2,): rows and columns of the slices, which were padded to a side of `square` pixels.
    """
    tokens = embeddings.shape[1]
    centres = (jnp.arange(tokens) + 0.5) * square / tokens
    rows, columns = centres < extent[0], centres < extent[1]
    weights = (rows[:, None] & columns).astype(jnp.float32)
    return (embeddings * weights[..., None]).sum((1, 2)) / weights.sum()


def separation_of(points: Points) -> Separation:
    """Silhouette score and nearest-neighbour accuracy of the domains, by Euclidean distance between embeddings.

    The neck ends with a layer norm, so its channels are on one scale and are taken as they are. Two slices are of one
    patient where the patient's name is the same, whatever their domains.
    """
    from sklearn.metrics import pairwise_distances, silhouette_score

    silhouette = float(silhouette_score(points.embeddings, points.domains))
    if min(patients for _, patients in points.counts.values()) < 2:
        return Separation(silhouette, None, None)
    same_domain = np.equal.outer(np.array(points.domains), np.array(points.domains))
    other_patient = np.not_equal.outer(np.array(points.patients), np.array(points.patients))
    distances = np.where(other_patient, pairwise_distances(points.embeddings.astype(np.float64)), np.inf)
    nearest = distances.argmin(axis=1)
    hits = same_domain[np.arange(len(nearest)), nearest]
    chances = (same_domain & other_patient).sum(axis=1) / other_patient.sum(axis=1)
    return Separation(silhouette, float(hits.mean()), float(chances.mean()))


def project(points: Points, seed: int = 0) -> Projection:
    """t-SNE (van der Maaten and Hinton 2008) and PCA of the embeddings.

    Of n points the perplexity is at most (n - 1) / 3.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    count = len(points.embeddings)
    values = points.embeddings.astype(np.float64)
    pca = PCA(2, svd_solver="full")
    plane = pca.fit_transform(values)
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    with threadpool_limits(1):  # sums over several threads depend on how many there are and which comes first
        tsne = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed).fit_transform(values)
    return Projection(tsne, plane, tuple(float(share) for share in pca.explained_variance_ratio_))


def _write_csv(path: Path, points: Points, projection: Projection) -> None:
    """Writes one line per slice."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("domain", "patient", "case", "slice", "tsne_1", "tsne_2", "pca_1", "pca_2"))
        about = zip(points.domains, points.patients, points.cases, points.slices, strict=True)
        for names, tsne, pca in zip(about, projection.tsne.tolist(), projection.pca.tolist(), strict=True):
            writer.writerow((*names, *tsne, *pca))


def _draw(path: Path, points: Points, projection: Projection, separation: Separation, run: str) -> None:
    labels = {
        name: f"{name}: {slices} slices of {patients} {'patient' if patients == 1 else 'patients'}"
        for name, (slices, patients) in points.counts.items()
    }
    title = f"Image embeddings of {run}: {_separation_text(separation)}"
    draw_embedding_map(path, title, points.domains, labels, projection.tsne, projection.pca, projection.explained)


def _separation_text(separation: Separation) -> str:
    text = f"silhouette {separation.silhouette:.2f}"
    if separation.accuracy is None:
        return text
    return (
        f"{text}; nearest slice of another patient in the same domain: "
        f"{separation.accuracy:.0%} (chance {separation.chance:.0%})"
    )
