"""Do a model's image embeddings tell the domains apart? t-SNE and PCA, and what they only hint at as numbers.

Paper B (fig. 9) shows a t-SNE of the embeddings of four domains and reads from it that they are separate. A t-SNE
separates easily, and neighbouring slices of one patient lie together in any case. So:
  - a point is a slice with some of the ROI, the mean of the encoder's embedding over the tokens that are no padding
    (the paper does not say; flattened, it would mostly tell where the head lies);
  - the domains show equally many slices, drawn by turns from their patients;
  - beside the pictures stand the silhouette score of the domains and how often the nearest slice of another patient
    is of the same domain, both in the embedding space itself, the latter with what chance would give.
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
from samjax.figures.palette import COLOURS
from samjax.files import replacing
from samjax.inference.encoded import SLICES, EncodedVolume
from samjax.inference.model import SegmentationModel
from samjax.inference.reading import read_ahead

NAME = "embeddings"
PER_DOMAIN = 200
PERPLEXITY = 30.0
FEWEST_POINTS = 5
MARKERS = "osD^vPX"


@dataclass(frozen=True)
class Points:
    """One embedding a slice: `embeddings` (n, d) float32, and whose they are, n each."""

    embeddings: np.ndarray
    domains: tuple[str, ...]
    patients: tuple[str, ...]
    cases: tuple[str, ...]
    slices: tuple[int, ...]

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Slices and patients of each domain."""
        pairs = list(zip(self.domains, self.patients, strict=True))
        return {
            name: (self.domains.count(name), len({patient for domain, patient in pairs if domain == name}))
            for name in dict.fromkeys(self.domains)
        }


@dataclass(frozen=True)
class Separation:
    """How well the embeddings tell the domains apart.

    `accuracy` and `chance` are None where a domain has a single patient, who has no other to be matched with.
    """

    silhouette: float
    """Mean over slices, in [-1, 1]; near 0 the domains overlap (Rousseeuw 1987)."""
    accuracy: float | None
    """Share of slices whose nearest slice of another patient is of the same domain."""
    chance: float | None
    """The same for a slice of another patient drawn at random."""


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
        chosen: of each case, bool (Z,), as `choose_slices` gives them.
        roi: that they show.
        slices: how many go through the encoder together on each device, where there are so many.
        seed: of t-SNE.

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
    draw(points, projection, separation, model.name, [output / f"{NAME}.{kind}" for kind in ("png", "pdf")])
    return separation


def choose_slices(cases: Sequence[CachedCase], roi: str, seed: int, per_domain: int = PER_DOMAIN) -> list[np.ndarray]:
    """Of each case, bool (Z,): slices that show the ROI, equally many of each domain, from its patients by turns.

    Args:
        seed: of the choice.
        per_domain: at most so many of each.

    Raises:
        UserError: a domain has none, there is one domain only, or there are too few for a t-SNE.
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
        slices: how many go through the encoder together on each device, where there are so many.

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
        volume = EncodedVolume(model, images, slices)
        volume.encode(numbers)
        windows = {z // model.depth for z in numbers}
        of_windows = {window: token_means(volume.window(window), volume.extent, volume.square) for window in windows}
        of_windows = jax.device_get(of_windows)
        means += [of_windows[z // model.depth][z % model.depth] for z in numbers]
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
    """The mean embedding (n, d) float32 of n slices (n, h, w, d), over the tokens whose centre is no padding.

    `extent` (2,): rows and columns of the slices, which were padded to a side of `square` pixels.
    """
    tokens = embeddings.shape[1]
    centres = (jnp.arange(tokens) + 0.5) * square / tokens
    rows, columns = centres < extent[0], centres < extent[1]
    weights = (rows[:, None] & columns).astype(jnp.float32)
    return (embeddings * weights[..., None]).sum((1, 2)) / weights.sum()


def separation_of(points: Points) -> Separation:
    """Silhouette score and nearest-neighbour accuracy of the domains, by Euclidean distance between embeddings.

    The neck ends with a layer norm, so its channels are on one scale and are taken as they are. A patient is one by
    name, in whatever domain.
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
    """t-SNE (van der Maaten and Hinton 2008) and PCA of the embeddings; a third of few points is the perplexity."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    count = len(points.embeddings)
    values = points.embeddings.astype(np.float64)
    pca = PCA(2, svd_solver="full")
    plane = pca.fit_transform(values)
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    with threadpool_limits(1):  # the sums of several threads depend on their number and their turns
        tsne = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed).fit_transform(values)
    return Projection(tsne, plane, tuple(float(share) for share in pca.explained_variance_ratio_))


def _write_csv(path: Path, points: Points, projection: Projection) -> None:
    """One line a slice."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("domain", "patient", "case", "slice", "tsne_1", "tsne_2", "pca_1", "pca_2"))
        about = zip(points.domains, points.patients, points.cases, points.slices, strict=True)
        for names, tsne, pca in zip(about, projection.tsne.tolist(), projection.pca.tolist(), strict=True):
            writer.writerow((*names, *tsne, *pca))


def draw(points: Points, projection: Projection, separation: Separation, run: str, paths: Sequence[Path]) -> None:
    """t-SNE and PCA side by side, a colour and a marker for each domain, the numbers above."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 5.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _scatter(left, points, projection.tsne)
    _scatter(right, points, projection.pca)
    left.set(title="t-SNE (distances and sizes mean little)", xticks=[], yticks=[])
    first, second = (f"component {i} ({share:.0%} of the variance)" for i, share in enumerate(projection.explained, 1))
    right.set(title="PCA", xlabel=first, ylabel=second)
    right.spines[["top", "right"]].set_visible(False)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(f"Image embeddings of {run}: {_separation_text(separation)}", fontsize=11)
    for path in paths:
        with replacing(path) as temporary:
            figure.savefig(temporary)


def _scatter(axis, points: Points, plane: np.ndarray) -> None:
    domains = np.array(points.domains)
    for style, (name, (slices, patients)) in enumerate(points.counts.items()):
        axis.scatter(
            *plane[domains == name].T, s=22, marker=MARKERS[style % len(MARKERS)], color=COLOURS[style % len(COLOURS)],
            alpha=0.7, linewidths=0.4, edgecolors="white",
            label=f"{name}: {slices} slices of {patients} {'patient' if patients == 1 else 'patients'}",
        )  # fmt: skip


def _separation_text(separation: Separation) -> str:
    text = f"silhouette {separation.silhouette:.2f}"
    if separation.accuracy is None:
        return text
    return (
        f"{text}; nearest slice of another patient in the same domain: "
        f"{separation.accuracy:.0%} (chance {separation.chance:.0%})"
    )
