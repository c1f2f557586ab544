"""The tumours of the phantom: their place, the displacement of the tissue around, and their voxels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samjax.data.synthetic.brain import (
    TISSUES,
    Field,
    Points,
    edge,
    ellipsoid,
    hull,
    smooth_union,
    waves,
)

Labels = NDArray[np.uint8]

COMPARTMENTS = ("non-enhancing", "edema", "enhancing")  # BraTS 2023 label values 1, 2, 3

# The middle and half the extent of the cerebrum, in millimetres.
_MIDDLE = np.asarray([[0], [-16], [3]], np.float32)
_HALF = np.asarray([[67], [85], [71]], np.float32)

# Places a glioma starts from: (|x|, y, z) in standard millimetres, and how often.
GLIOMA_SITES = (
    ((28.0, 34.0, 20.0), 0.26),
    ((44.0, -14.0, -13.0), 0.24),
    ((32.0, -42.0, 34.0), 0.18),
    ((24.0, -72.0, 12.0), 0.10),
    ((37.0, 4.0, 12.0), 0.12),
    ((14.0, -16.0, 10.0), 0.05),
    ((9.0, 24.0, 16.0), 0.05),
)


@dataclass(frozen=True)
class Tumour:
    """One tumour in standard coordinates; lengths in millimetres, the rest as shares of 1."""

    kind: str  # glioma, meningioma or midline
    centre: tuple[float, float, float]
    lobes: tuple[tuple[float, float, float, float], ...]  # offset x, y, z and radius of each lobe
    radius: float
    roughness: float
    rim: float  # thickness of the enhancing rim over `radius`
    rim_gaps: float  # share of the rim that does not enhance
    edema: float  # how far edema reaches
    push: float
    necrotic: bool  # fluid in the core rather than solid tissue that does not enhance
    seed: int
    fade: float = 1.0  # opacity of the edema at its far end
    patches: float = 0.0  # standard deviation of the edema's opacity from place to place
    one_sided: bool = False  # whether edema counts the way past the midline twice
    spares_grey: float = 0.55  # how much less far edema reaches in grey matter, as a share

    def generator(self, purpose: int) -> np.random.Generator:
        """An independent stream for each random field."""
        return np.random.default_rng((self.seed, purpose))


def draw_tumour(domain: str, rng: np.random.Generator, points: Points, outside: Field) -> Tumour:
    """A tumour as `domain` has them.

    `points` (3, n) are the head's voxels in standard coordinates, `outside` (n,) their distance to
    the intracranial surface, from which a meningioma takes its place.
    """
    if domain == "meningioma":
        return _meningioma(rng, points, outside)
    if domain == "paediatric":
        return _midline_glioma(rng)
    return _glioma(rng, larger=domain == "subsaharan")


def displaced(points: Points, tumour: Tumour) -> Points:
    """The place of the tissue at `points` before the tumour pushed it outwards."""
    offset = points - np.asarray(tumour.centre, np.float32)[:, None]
    reach = np.float32(1.5 * tumour.radius + 0.5 * tumour.edema)
    squared = np.sum(offset**2, axis=0) / reach**2
    return points - offset * (np.float32(tumour.push) * np.exp(-squared))


def grow(points: Points, moved: Points, tumour: Tumour, fractions: Field, outside: Field) -> tuple[Field, Labels]:
    """Opacities (3, n) of `COMPARTMENTS` at points, and label values (n,) as a reader would draw them.

    `moved` are the points as `displaced` gives them and `fractions` the tissues there.
    The labels take a compartment where it fills half of a voxel; thin fluid in a sulcus stays part of
    the edema around it, a ventricle does not.
    """
    core = _core_distance(points, tumour)
    cerebrum, _, stem = hull(moved)
    host = np.minimum(cerebrum, stem)  # nothing here crosses the tentorium
    if tumour.kind == "meningioma":
        core = np.maximum(core, outside + np.float32(0.3))
    else:
        core = np.maximum(core, np.maximum(host - 1, outside + 2))
    in_core = edge(core)
    enhancing = in_core * _enhancement(points, tumour, core)
    reach = _edema_distance(points, tumour, core, fractions)
    in_edema = edge(np.maximum(reach, np.maximum(host, outside + 3)), 1.5) * (1 - in_core)
    fluid = fractions[TISSUES.index("csf")]
    seen = in_edema * np.clip(1.2 * (1 - fluid), 0, 1) * _edema_strength(points, tumour, reach)
    opacities = np.stack([in_core - enhancing, seen, enhancing])
    labels = np.where(enhancing > opacities[0], 3, 1)
    labels = np.where(in_core >= 0.5, labels, np.where((in_edema >= 0.5) & (fluid < 0.8), 2, 0))
    return opacities, labels.astype(np.uint8)


def grow_all(
    points: Points, moved: Points, tumours: tuple[Tumour, ...], fractions: Field, outside: Field
) -> tuple[Field, Labels]:
    """What `grow` gives for several tumours together; edema of one does not cover the core of another."""
    opacities, labels = grow(points, moved, tumours[0], fractions, outside)
    for tumour in tumours[1:]:
        more, drawn = grow(points, moved, tumour, fractions, outside)
        more[1] *= 1 - opacities[0] - opacities[2]
        opacities = opacities * (1 - more.sum(axis=0)) + more
        labels = np.where((drawn == 2) & (labels > 0) | (drawn == 0), labels, drawn)
    return opacities, labels


def _glioma(rng: np.random.Generator, larger: bool) -> Tumour:
    sites, weights = zip(*GLIOMA_SITES, strict=True)
    site = np.asarray(sites[rng.choice(len(sites), p=weights)])
    centre = (site + rng.normal(0, 5, 3)) * (rng.choice([-1, 1]), 1, 1)
    radius = float(np.clip(rng.lognormal(np.log(19 if larger else 16.5), 0.3), 8, 28))
    solid = rng.random() < 0.2
    return Tumour(
        kind="glioma",
        centre=tuple(centre.tolist()),
        lobes=lobes(rng, radius, int(rng.integers(1, 4))),
        radius=radius,
        roughness=float(rng.uniform(0.12, 0.24)),
        rim=float(rng.uniform(0.16, 0.45)),
        rim_gaps=0.75 if solid else float(rng.uniform(0.03, 0.3)),
        edema=float(rng.uniform(6, 20)),
        push=float(rng.uniform(0.35, 0.6)),
        necrotic=not solid,
        seed=int(rng.integers(2**31)),
    )


def _meningioma(rng: np.random.Generator, points: Points, outside: Field) -> Tumour:
    radius = float(np.clip(rng.lognormal(np.log(14), 0.33), 6, 26))
    eccentric = np.sum(((points - _MIDDLE) / _HALF) ** 2, axis=0) > 0.5
    shallow = (np.abs(outside + 0.45 * radius) < 2) & (points[2] > -16) & eccentric
    if rng.random() < 0.25:  # on the falx
        shallow = (np.abs(np.abs(points[0]) - 0.6 * radius) < 2) & (points[2] > 38) & (outside < -0.5 * radius)
    place = points[:, rng.choice(np.flatnonzero(shallow))]
    return Tumour(
        kind="meningioma",
        centre=tuple(float(c) for c in place),
        lobes=lobes(rng, radius, int(rng.integers(1, 3))),
        radius=radius,
        roughness=float(rng.uniform(0.03, 0.07)),
        rim=float(rng.uniform(0.5, 0.9)) if rng.random() < 0.35 else 3.0,
        rim_gaps=0.0,
        edema=0.0 if rng.random() < 0.3 else float(rng.uniform(4, 18)),
        push=float(rng.uniform(0.45, 0.6)),
        necrotic=False,
        seed=int(rng.integers(2**31)),
    )


def _midline_glioma(rng: np.random.Generator) -> Tumour:
    site = np.asarray((0.0, -24.0, -28.0) if rng.random() < 0.8 else (7.0, -18.0, 6.0))
    radius = float(rng.uniform(11, 18))
    return Tumour(
        kind="midline",
        centre=tuple((site + rng.normal(0, 2.5, 3)).tolist()),
        lobes=((0.0, 0.0, 0.0, radius),),
        radius=radius,
        roughness=float(rng.uniform(0.08, 0.16)),
        rim=0.0,
        rim_gaps=float(rng.uniform(0.9, 0.97)) if rng.random() < 0.75 else 1.0,
        edema=float(rng.uniform(3, 9)) if rng.random() < 0.45 else 0.0,
        push=float(rng.uniform(0.3, 0.45)),
        necrotic=False,
        seed=int(rng.integers(2**31)),
    )


def lobes(
    rng: np.random.Generator, radius: float, count: int, farthest: float = 0.85, sizes: tuple[float, float] = (0.4, 0.7)
) -> tuple[tuple[float, float, float, float], ...]:
    """Lobes of a tumour of `radius` millimetres: offsets x, y, z of each from its centre, and its radius.

    Those beside the first lie up to `farthest` radii away and have radii of `sizes`, as shares of the tumour's.
    """
    lobes = [(0.0, 0.0, 0.0, radius * (1.0 if count == 1 else 0.85))]
    for _ in range(count - 1):
        direction = rng.normal(size=3)
        offset = direction / np.linalg.norm(direction) * radius * rng.uniform(0.5, farthest)
        lobes.append((*offset.tolist(), radius * rng.uniform(*sizes)))
    return tuple(lobes)


def _core_distance(points: Points, tumour: Tumour) -> Field:
    distance = None
    for *offset, radius in tumour.lobes:
        place = tuple(c + o for c, o in zip(tumour.centre, offset, strict=True))
        stretch = tumour.generator(0).uniform(0.85, 1.18, 3)
        lobe = ellipsoid(points, place, tuple(radius * stretch))
        distance = lobe if distance is None else smooth_union(distance, lobe, 0.4 * tumour.radius)
    rough = waves(tumour.generator(1), points, 1.5 * tumour.radius) + 0.5 * waves(
        tumour.generator(2), points, max(0.6 * tumour.radius, 7.0)
    )
    return distance + np.float32(tumour.roughness * tumour.radius) * rough


def _enhancement(points: Points, tumour: Tumour, core: Field) -> Field:
    """Share of the core that enhances: a rim of uneven width with gaps, or nodules."""
    gaps = waves(tumour.generator(3), points, max(1.1 * tumour.radius, 9.0), 20)
    # The share of a unit normal field above this level is `rim_gaps`.
    level = np.float32(_normal_quantile(1 - tumour.rim_gaps))
    nodules = edge((gaps - level) * np.float32(0.25 * tumour.radius))
    if tumour.rim == 0:
        return nodules * edge(core + 1.5)
    width = tumour.rim * tumour.radius * (1 + 0.35 * waves(tumour.generator(4), points, 0.9 * tumour.radius))
    return edge(-core - np.clip(width, 1.8, None)) * nodules


def _edema_distance(points: Points, tumour: Tumour, core: Field, fractions: Field) -> Field:
    """Distance to the edema: fingers through the white matter around the core that spare cortex and fluid; infinite
    where there is no edema."""
    if tumour.edema == 0:
        return np.full_like(core, np.inf)
    uneven = waves(tumour.generator(5), points, 55.0) + 0.15 * waves(tumour.generator(6), points, 16.0)
    reach = np.float32(tumour.edema) * (1 + 0.4 * np.clip(uneven, -2, 1.5))
    grey = fractions[TISSUES.index("grey")] + fractions[TISSUES.index("thalamus")]
    spared = np.float32(tumour.spares_grey * tumour.edema) * grey
    distance = core - reach + spared
    if tumour.one_sided:
        distance += np.clip(-points[0] * np.float32(np.sign(tumour.centre[0])), 0, None)
    return distance


def _edema_strength(points: Points, tumour: Tumour, distance: Field) -> Field:
    """Opacity in [0, 1] of the edema where there is any: it fades outwards and is uneven."""
    if tumour.fade == 1 and tumour.patches == 0:
        return np.ones_like(distance)
    inwards = np.clip(-distance / np.float32(max(0.7 * tumour.edema, 4)), 0, 1)
    uneven = np.float32(tumour.patches) * waves(tumour.generator(7), points, 18.0, 16)
    return np.clip(tumour.fade + (1 - tumour.fade) * inwards + uneven, 0.15, 1).astype(np.float32)


def _normal_quantile(share: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(min(max(share, 1e-4), 1 - 1e-4))
