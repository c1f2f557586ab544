"""Tumours of many kinds, drawn for a window: their course, and the materials that they put into it.

A tumour is a core of lobes (solid, necrotic, cystic, bleeding, or cut out), of which a part enhances, and edema that
follows white matter in ragged fingers and fades outwards. Nothing here is stored: only the window's points are drawn.
Lengths are millimetres; a "distance" is negative inside.
"""

from dataclasses import dataclass, field

import numpy as np

from samjax.data.labels import BACKGROUND, EDEMA, ENHANCING, NON_ENHANCING
from samjax.data.synthetic.brain import Field, edge
from samjax.data.synthetic.lattice import Lattice, smooth_field
from samjax.data.synthetic.tumour import lobes

PARTS = ("edema", "solid", "necrosis", "enhancing", "cyst", "blood", "cavity")
"""The materials of a tumour."""
LABELS = np.array([EDEMA, NON_ENHANCING, NON_ENHANCING, ENHANCING, NON_ENHANCING, NON_ENHANCING, BACKGROUND], np.uint8)
"""The canonical code of each part, as BraTS labels it; a resection cavity belongs to no region."""

KINDS = {
    "necrotic": 0.32,
    "diffuse": 0.15,
    "solid": 0.10,
    "metastases": 0.12,
    "meningioma": 0.10,
    "cystic": 0.06,
    "bleeding": 0.05,
    "resected": 0.05,
    "midline": 0.05,
}
"""Share of the patients with each kind; of all lesions a tenth are tiny besides."""


@dataclass(frozen=True)
class Lesion:
    """One focus; shares are of 1."""

    centre: np.ndarray
    """Place in the head's coordinates, (3,) float64 mm."""
    radius: float
    lobes: tuple[tuple[float, float, float, float], ...]
    """Offset and radius of each lobe."""
    stretch: tuple[float, float, float]
    roughness: float
    rim: float
    """Thickness of the part that enhances, over `radius`; above 1 all of the core."""
    gaps: float
    """Share of that part which does not enhance."""
    inner: tuple[str, str]
    """The two materials inside."""
    second: float
    """Share of the second one."""
    edema: float
    """How far edema reaches."""
    ragged: float
    """How uneven it reaches, from 0 (a shell) to 1 (fingers)."""
    fading: float
    """Width over which it fades outwards."""
    spared: float
    """How much of its reach it loses in grey matter."""
    push: float
    extra_axial: bool
    seed: int
    shares: np.ndarray = field(compare=False)
    """Volume of each of `PARTS` in cubic millimetres, roughly: (len(PARTS),)."""

    @property
    def extent(self) -> float:
        """No part of it lies further from the centre than this."""
        lobes = max(float(np.linalg.norm(lobe[:3])) + lobe[3] for lobe in self.lobes)
        return 1.3 * lobes + 3 * self.roughness * self.radius + 2.2 * self.edema + 2 * self.fading + 3

    def generator(self, purpose: int) -> np.random.Generator:
        """An independent stream for each random field."""
        return np.random.default_rng((self.seed, purpose))


@dataclass(frozen=True)
class Opacities:
    """A lesion in a window; fields over the window's points.

    `core` is the share of a voxel in the core, `halo` that in edema; `enhancing` and `second` are shares of the core
    that enhance, and of the rest that are of the second inner material.
    """

    core: Field
    enhancing: Field
    second: Field
    halo: Field
    density: Field
    """How much of the tissue edema replaces where it is."""


def draw_lesion(rng: np.random.Generator, kind: str, centre: np.ndarray, size: float | None = None) -> Lesion:
    """A lesion of one of `KINDS` about `centre` (3,) mm; `size` is its radius, by default drawn for the kind."""
    spread = {"metastases": (7.0, 0.55), "midline": (13.0, 0.3), "meningioma": (13.0, 0.45), "diffuse": (18.0, 0.45)}
    median, deviation = spread.get(kind, (18.0, 0.45))
    radius = float(np.clip(rng.lognormal(np.log(median), deviation), 3.0, 42.0)) if size is None else size
    solid = {"diffuse": ("solid", "solid"), "cystic": ("cyst", "solid"), "bleeding": ("blood", "necrosis")}
    inner = solid.get(kind, ("necrosis", "solid"))
    if kind == "resected":
        inner = ("cavity", "blood")
    if kind in ("solid", "meningioma", "midline"):
        inner = ("solid", "necrosis")
    rim, gaps = float(rng.uniform(0.12, 0.5)), float(rng.uniform(0.02, 0.35))
    if kind == "diffuse":
        gaps = 1.0 if rng.random() < 0.6 else float(rng.uniform(0.85, 0.97))
    elif kind == "midline":
        gaps = 1.0 if rng.random() < 0.4 else float(rng.uniform(0.7, 0.97))
    elif kind in ("solid", "meningioma") or (kind == "metastases" and rng.random() < 0.5):
        rim, gaps = float(rng.choice((3.0, rng.uniform(0.5, 0.9)))), float(rng.uniform(0, 0.15))
    elif kind in ("cystic", "resected"):
        rim, gaps = float(rng.uniform(0.08, 0.25)), float(rng.uniform(0.1, 0.8))
    reach = float(rng.lognormal(np.log(15), 0.55))
    if kind == "diffuse":
        reach *= float(rng.choice((0.25, 0.7)))
    without = {"meningioma": 0.4, "midline": 0.5, "metastases": 0.25, "cystic": 0.4}.get(kind, 0.08)
    reach = 0.0 if rng.random() < without else float(np.clip(reach, 2.0, 38.0))
    smooth = kind in ("meningioma", "metastases")
    count = int(rng.integers(1, 3 if smooth else 5))
    lesion = Lesion(
        centre=centre,
        radius=radius,
        lobes=lobes(rng, radius, count, farthest=1.1, sizes=(0.35, 0.75)),
        stretch=tuple(rng.uniform(0.75, 1.3, 3).tolist()),
        roughness=float(rng.uniform(0.02, 0.08) if smooth else rng.uniform(0.05, 0.25)),
        rim=rim,
        gaps=gaps,
        inner=inner,
        second=float(rng.uniform(0, 0.5)),
        edema=reach,
        ragged=float(rng.uniform(0.2, 1.0)),
        fading=float(rng.uniform(0.7, 1.5) if rng.random() < 0.5 else rng.uniform(1.5, 6)),
        spared=float(rng.uniform(0.2, 0.9)),
        push=float(rng.uniform(0.1, 0.55) if kind != "resected" else rng.uniform(-0.15, 0.1)),
        extra_axial=kind == "meningioma",
        seed=int(rng.integers(2**31)),
        shares=np.zeros(len(PARTS)),
    )
    lesion.shares[:] = _volumes(lesion)
    return lesion


def displaced(points: Field, lesion: Lesion) -> Field:
    """The place of the tissue at points (3, ...) before the lesion pushed it outwards (a cavity pulls it in)."""
    offset = points - lesion.centre.astype(np.float32)[:, None, None, None]
    reach = np.float32(1.5 * lesion.radius + 0.5 * lesion.edema)
    squared = np.einsum("i...,i...->...", offset, offset) / reach**2
    return points - offset * (np.float32(lesion.push) * np.exp(-squared))


def grow(lesion: Lesion, lattice: Lattice, grey: Field, fluid: Field, inside: Field) -> Opacities:
    """The lesion's parts at a lattice.

    Args:
        grey: share of grey matter, fluid: share of cerebrospinal fluid and vessels, inside: 1 inside the skull; each
            of the lattice's shape, after displacement.
    """
    points = lattice.points()
    core = _core_distance(lesion, lattice, points)
    within = edge(core) * inside
    if not lesion.extra_axial:
        within *= np.clip(1.3 - 0.6 * fluid * edge(-core - 3), 0, 1)
    enhancing = _enhancing(lesion, lattice, core)
    mixture = smooth_field(lesion.generator(5), lattice, max(0.8 * lesion.radius, 5.0))
    second = edge((_quantile(1 - lesion.second) - mixture) * np.float32(-0.3 * lesion.radius), 1.2)
    halo, density = _edema(lesion, lattice, core, grey)
    halo *= (1 - within) * np.clip(1.25 * (1 - fluid), 0, 1) * inside
    return Opacities(within, enhancing, second, halo, density)


def _core_distance(lesion: Lesion, lattice: Lattice, points: Field) -> Field:
    distance = None
    for *offset, radius in lesion.lobes:
        middle = (lesion.centre + offset).astype(np.float32)[:, None, None, None]
        scaled = (points - middle) / np.asarray(lesion.stretch, np.float32)[:, None, None, None]
        lobe = np.sqrt(np.einsum("i...,i...->...", scaled, scaled)) - np.float32(radius)
        distance = lobe if distance is None else _union(distance, lobe, 0.4 * lesion.radius)
    rough = smooth_field(lesion.generator(0), lattice, 1.5 * lesion.radius + 4)
    rough += 0.5 * smooth_field(lesion.generator(1), lattice, max(0.5 * lesion.radius, 6.0))
    return distance + np.float32(lesion.roughness * lesion.radius) * rough


def _union(first: Field, second: Field, radius: float) -> Field:
    blend = np.clip(np.float32(radius) - np.abs(first - second), 0, None) / np.float32(radius)
    return np.minimum(first, second) - blend**2 * np.float32(radius / 4)


def _enhancing(lesion: Lesion, lattice: Lattice, core: Field) -> Field:
    """Share of the core that enhances: a rim of uneven width with gaps, nodules, or all of it."""
    if lesion.gaps >= 1:
        return np.zeros_like(core)
    gaps = smooth_field(lesion.generator(2), lattice, max(1.1 * lesion.radius, 7.0), 20)
    nodules = edge((gaps - _quantile(1 - lesion.gaps)) * np.float32(0.25 * lesion.radius))
    if lesion.rim > 1:
        return nodules
    uneven = 1 + 0.4 * smooth_field(lesion.generator(3), lattice, 0.9 * lesion.radius + 3)
    width = np.clip(np.float32(lesion.rim * lesion.radius) * uneven, 1.2, None)
    return edge(-core - width) * nodules


def _edema(lesion: Lesion, lattice: Lattice, core: Field, grey: Field) -> tuple[Field, Field]:
    if lesion.edema == 0:
        return np.zeros_like(core), np.ones_like(core)
    uneven = smooth_field(lesion.generator(6), lattice, 50.0)
    fingers = smooth_field(lesion.generator(7), lattice, 22.0) + 0.5 * smooth_field(lesion.generator(8), lattice, 9.0)
    course = 1 + 0.35 * np.clip(uneven, -2, 1.6) + np.float32(0.35 * lesion.ragged) * np.clip(fingers, -2.2, 2)
    reach = np.float32(lesion.edema) * course - np.float32(lesion.spared * lesion.edema) * grey
    halo = edge(core - reach, lesion.fading)
    patches = smooth_field(lesion.generator(9), lattice, 14.0)
    inwards = np.clip((reach - core) / np.float32(0.6 * lesion.edema + 2), 0, 1)
    return halo, np.clip(0.7 + 0.3 * inwards + 0.1 * patches, 0.45, 1)


def _volumes(lesion: Lesion) -> np.ndarray:
    """Rough volumes of the parts, from balls of the lobes' volume."""
    ball = 4 / 3 * np.pi * sum(lobe[3] ** 3 for lobe in lesion.lobes) ** np.float64(1)
    radius = (ball / (4 / 3 * np.pi)) ** (1 / 3)
    hollow = max(1 - lesion.rim, 0.0) ** 3
    enhancing = ball * (1 - hollow) * (1 - lesion.gaps)
    total = np.zeros(len(PARTS))
    total[PARTS.index("enhancing")] += enhancing
    total[PARTS.index(lesion.inner[0])] += (ball - enhancing) * (1 - lesion.second)
    total[PARTS.index(lesion.inner[1])] += (ball - enhancing) * lesion.second
    total[PARTS.index("edema")] += 0.5 * 4 / 3 * np.pi * ((radius + lesion.edema) ** 3 - radius**3)
    return total


def _quantile(share: float) -> np.float32:
    """The level that a unit normal field is below at this share of its points."""
    from statistics import NormalDist

    return np.float32(NormalDist().inv_cdf(min(max(share, 1e-4), 1 - 1e-4)))
