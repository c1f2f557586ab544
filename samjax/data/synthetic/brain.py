"""The healthy anatomy of the phantom: tissue fractions at points of a head, from analytic shapes.

Coordinates are millimetres with x to the Right, y to Anterior, z to Superior and the origin near the
anterior commissure; positions and sizes of structures are round numbers from general neuroanatomy.
A "distance" is a signed distance in millimetres, negative inside. Points are (3, n) float32.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
Field = NDArray[np.float32]

TISSUES = ("white", "grey", "thalamus", "pallidum", "csf", "vessel", "choroid", "dura", "gliosis")
MENINGES = 2.2  # millimetres of fluid and membranes that skull stripping leaves, less at the base
CORTEX = 2.9  # thickness in millimetres

# Centre lines of the lateral ventricle and caudate nucleus on one side: (|x|, y, z, radius).
_VENTRICLE = (
    (16.0, 33.0, 1.0, 2.5),
    (10.0, 20.0, 7.0, 4.6),
    (6.5, 5.0, 15.0, 4.6),
    (9.0, -12.0, 20.0, 4.8),
    (15.0, -30.0, 19.0, 5.2),
    (25.0, -44.0, 9.0, 6.6),
    (24.0, -60.0, 5.0, 3.4),
    (21.0, -74.0, 3.0, 1.4),
)
_TEMPORAL_HORN = ((26.0, -42.0, 3.0, 4.0), (34.0, -28.0, -10.0, 2.2), (33.0, -12.0, -17.0, 2.0))
_CEREBELLAR_PEDUNCLE = ((9.0, -26.0, -29.0, 7.0), (17.0, -38.0, -32.0, 6.0), (22.0, -52.0, -34.0, 5.0))
_CAUDATE = (
    (13.0, 21.0, -1.0, 5.5),
    (14.5, 14.0, 8.0, 6.5),
    (16.5, 0.0, 18.0, 4.0),
    (21.0, -18.0, 21.0, 2.4),
)
_CHOROID = ((13.0, -26.0, 17.0, 1.2), (23.0, -42.0, 10.0, 3.4), (27.0, -40.0, 3.0, 1.5))
_MIDDLE_CEREBRAL_ARTERY = (
    (7.0, 2.0, -15.0, 1.7),
    (22.0, 4.0, -16.0, 1.5),
    (38.0, 4.0, -8.0, 1.3),
    (42.0, -8.0, 2.0, 1.0),
)
# From the confluence at the back along the tentorium's edge to the jugular foramen.
_TRANSVERSE_SINUS = (
    (0.0, -97.0, -6.0, 3.0),
    (22.0, -90.0, -15.0, 3.0),
    (44.0, -68.0, -20.0, 3.0),
    (52.0, -46.0, -24.0, 3.0),
    (40.0, -38.0, -40.0, 3.0),
)
# The brain stem: its floor on the midline, and the cerebral peduncle and pons on one side.
_STEM = (
    (0.0, -27.0, -2.0, 9.5),
    (0.0, -28.0, -16.0, 9.5),
    (0.0, -29.0, -28.0, 11.0),
    (0.0, -37.0, -52.0, 7.5),
    (0.0, -41.0, -74.0, 6.5),
)
_PEDUNCLE = (
    (12.0, -12.0, 0.0, 8.0),
    (9.0, -17.0, -12.0, 7.0),
    (5.5, -19.0, -24.0, 9.5),
    (5.5, -21.0, -32.0, 9.0),
    (3.5, -32.0, -50.0, 5.0),
)


@dataclass(frozen=True)
class Subject:
    """Parameters that differ between healthy heads. `scale` is per axis (x, y, z); sizes are factors of 1."""

    scale: tuple[float, float, float]
    tilt: tuple[float, float, float]  # degrees about x, y, z
    ventricles: float
    sulci: float  # how far the sulci gape
    gyrus: float  # wavelength of the folds in millimetres
    gliosis: float  # share in [0, 1] of the bright spots on FLAIR that come with age
    seed: int  # seed of the random fields
    sinuses: float = 0.0  # radius of the transverse and sigmoid sinuses in millimetres

    def generator(self, purpose: int) -> np.random.Generator:
        """An independent stream for each random field, so that changing one leaves the others alone."""
        return np.random.default_rng((self.seed, purpose))


def edge(distance: Field, width: float = 0.8) -> Field:
    """Membership in [0, 1] of a shape from its signed distance: a linear ramp of half-width `width` mm."""
    return np.clip(0.5 - distance / np.float32(2 * width), 0, 1)


def ellipsoid(points: Points, centre: tuple[float, ...], semi_axes: tuple[float, ...]) -> Field:
    """Approximate signed distance to an axis-aligned ellipsoid."""
    scaled = (points - _column(centre)) / _column(semi_axes)
    radius = np.sqrt(np.sum(scaled**2, axis=0)) + np.float32(1e-4)
    slope = np.sqrt(np.sum((scaled / _column(semi_axes)) ** 2, axis=0)) + np.float32(1e-6)
    return radius * (radius - 1) / slope


def chain(points: Points, nodes: tuple[tuple[float, float, float, float], ...]) -> Field:
    """Signed distance to a tube through `nodes` (x, y, z, radius), the radius linear between nodes."""
    nearest = np.full(points.shape[1], np.inf, np.float32)
    for start, stop in pairwise(nodes):
        a, b = _column(start[:3]), _column(stop[:3])
        along = np.clip(_along(points - a, (b - a)[:, 0]) / np.float32(np.sum((b - a) ** 2)), 0, 1)
        radius = np.float32(start[3]) + np.float32(stop[3] - start[3]) * along
        offset = points - a - (b - a) * along
        np.minimum(nearest, np.sqrt(np.sum(offset**2, axis=0)) - radius, out=nearest)
    return nearest


def smooth_union(first: Field, second: Field, radius: float) -> Field:
    """Union of two distances with the seam rounded over `radius` mm (polynomial smooth minimum)."""
    blend = np.clip(np.float32(radius) - np.abs(first - second), 0, None) / np.float32(radius)
    return np.minimum(first, second) - blend**2 * np.float32(radius / 4)


def waves(rng: np.random.Generator, points: Points, wavelength: float, count: int = 14) -> Field:
    """A smooth random field of unit variance: plane waves of about `wavelength` mm, random directions."""
    total = np.zeros(points.shape[1], np.float32)
    for vector, phase in zip(*_wave_vectors(rng, wavelength, count), strict=True):
        total += np.cos(_along(points, vector) + phase)
    return total * np.float32(np.sqrt(2 / count))


def waves_and_gradient(
    rng: np.random.Generator, points: Points, wavelength: float, count: int = 20
) -> tuple[Field, Points]:
    """The field of `waves`, and its gradient (3, n) in 1/mm."""
    value, gradient = np.zeros(points.shape[1], np.float32), np.zeros_like(points)
    for vector, phase in zip(*_wave_vectors(rng, wavelength, count), strict=True):
        argument = _along(points, vector) + phase
        value += np.cos(argument)
        gradient -= vector[:, None] * np.sin(argument)
    amplitude = np.float32(np.sqrt(2 / count))
    return value * amplitude, gradient * amplitude


def head_to_standard(points: Points, subject: Subject) -> Points:
    """Points of this head at their places in the standard anatomy: pose, size and smooth distortion."""
    angles = np.deg2rad(subject.tilt)
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = turn @ rotation
    matrix = (rotation / np.asarray(subject.scale)[:, None]).astype(np.float32)
    standard = np.stack([_along(points, row) for row in matrix])
    rng = subject.generator(0)
    return standard + np.stack([waves(rng, points, 95.0, 6) for _ in range(3)]) * _column((1.2, 1.8, 1.8))


def hull(points: Points) -> tuple[Field, Field, Field]:
    """Distances to the cerebrum, the cerebellum and the brain stem, without folds."""
    x, y, z = points
    side = np.abs(x)
    mirrored = np.stack([side, y, z])
    # Egg-shaped seen from above: widest behind the middle, flatter at the sides than an ellipse.
    width = np.float32(67) * (1 - np.float32(1.0e-5) * (y + 24) ** 2 - np.float32(5e-4) * (y + 24))
    height = np.float32(71) - np.float32(1.1e-3) * np.clip(y + 20, 0, None) ** 2
    radius = (
        np.abs(x / width) ** 2.4 + np.abs((y + 16) / np.float32(85)) ** 2.4 + np.abs((z - 3) / height) ** 2.4
    ) ** np.float32(1 / 2.4)
    dome = (radius - 1) * np.float32(66)
    # Floor of the skull in front (lowest at the midline), tentorium behind (highest there).
    front = np.float32(-25) + 0.20 * np.clip(side - 8, 0, None) + 0.10 * np.clip(y - 35, 0, None)
    behind = np.float32(-17) + 0.38 * np.clip(26 - side, 0, None)
    floor = behind + (front - behind) * np.clip((y + 34) / 22, 0, 1)
    top = -smooth_union(-dome, z - floor, 8.0)
    temporal = ellipsoid(mirrored, (41.0, -17.0, -17.0), (24.0, 41.0, 25.0))
    cerebrum = smooth_union(top, temporal, 7.0)
    notch = ellipsoid(points, (0.0, -25.0, -26.0), (15.5, 20.0, 24.0))
    cerebrum = np.maximum(cerebrum, -notch)
    lobes = ellipsoid(mirrored, (23.0, -64.0, -34.0), (29.0, 25.0, 21.0))
    vermis = ellipsoid(points, (0.0, -58.0, -26.0), (14.0, 20.0, 21.0))
    cerebellum = smooth_union(lobes, vermis, 6.0)
    stem = smooth_union(chain(points, _STEM), chain(mirrored, _PEDUNCLE), 5.0)
    stem = smooth_union(stem, chain(mirrored, _CEREBELLAR_PEDUNCLE), 4.0)
    return cerebrum, cerebellum, stem


def intracranial(points: Points) -> Field:
    """Distance to everything that skull stripping keeps: brain, fissures and basal cisterns."""
    cerebrum, cerebellum, stem = hull(points)
    cisterns = ellipsoid(points, (0.0, -14.0, -18.0), (24.0, 26.0, 15.0))
    tentorium = ellipsoid(points, (0.0, -54.0, -13.0), (28.0, 34.0, 11.0))
    brain = smooth_union(smooth_union(cerebrum, cerebellum, 12.0), stem, 6.0)
    everything = smooth_union(smooth_union(brain, cisterns, 4.0), tentorium, 6.0)
    return everything - np.float32(MENINGES) * np.clip((points[2] + 40) / 30, 0.4, 1)


def tissue_fractions(points: Points, subject: Subject, outside: Field) -> Field:
    """Fractions (len(TISSUES), n) of the tissues at points of the standard anatomy; they sum to 1.

    `outside` is the distance to the intracranial surface, before any tumour pushed tissue aside.
    """
    cerebrum, cerebellum, stem = hull(points)
    fractions = np.zeros((len(TISSUES), points.shape[1]), np.float32)
    fractions[TISSUES.index("csf")] = 1
    depth = _cortical_depth(points, cerebrum, subject)
    _paint(fractions, "white", edge(-depth))
    _paint(fractions, "grey", edge(-depth) * edge(depth - CORTEX))
    _paint_cerebellum(fractions, points, cerebellum, subject)
    _paint(fractions, "white", edge(stem))
    _paint(fractions, "thalamus", edge(stem + 2, 1.5) * np.float32(0.6))  # nuclei among the tracts
    _paint_deep_grey(fractions, points)
    _paint_ventricles(fractions, points, subject)
    _paint_vessels(fractions, points, subject, outside)
    return fractions


def _cortical_depth(points: Points, cerebrum: Field, subject: Subject) -> Field:
    """Millimetres below the folded surface of the cerebrum (negative in fluid)."""
    x, y = points[:2]
    midline = x - waves(subject.generator(1), points * _column((0, 1, 1)), 70.0, 5) * np.float32(0.8)
    # The hemispheres are joined by the corpus callosum and what lies below it.
    joined = ellipsoid(points * _column((0, 1, 1)), (0.0, -5.0, -2.0), (1e3, 39.0, 29.0))
    fissure = np.sqrt(midline**2 + np.clip(-joined, 0, None) ** 2) - np.float32(0.7 * subject.sulci)
    outer = -cerebrum
    surface = np.minimum(outer, fissure)

    spine = np.stack([22 * np.sign(x), np.clip(y, -58, 28), np.full_like(x, 6)]).astype(np.float32)
    outward = points - spine
    outward /= np.sqrt(np.sum(outward**2, axis=0)) + np.float32(1e-3)
    medial = np.clip((outer - fissure) / 16 + np.float32(0.5), 0, 1)
    foot = points + outward * np.clip(outer, 0, 40) * (1 - medial)
    foot[0] -= np.sign(x) * np.clip(fissure, 0, 30) * medial
    # Sulci bend on their way down, and the two hemispheres do not mirror each other.
    rng = subject.generator(5)
    bend = np.clip(surface, 0, 20) * np.float32(0.22)
    foot += np.stack([waves(rng, points, 26.0, 8) for _ in range(3)]) * bend
    foot[0] += np.where(x > 0, np.float32(500), np.float32(0))

    rng = subject.generator(2)
    pattern, gradient = waves_and_gradient(rng, foot, subject.gyrus)
    gradient -= outward * np.sum(outward * gradient, axis=0) * (1 - medial)
    slope = np.sqrt(np.sum(gradient**2, axis=0) + np.float32((1.2 / subject.gyrus) ** 2))
    shallow = np.maximum(medial, np.clip(-2 * outward[2], 0, 1))  # beside the falx and on the floor
    reach = (16 + 7 * waves(rng, foot, 34.0, 10)) * (1 - np.float32(0.5) * shallow)
    gape = np.float32(subject.sulci) * (0.9 - 0.75 * np.clip(surface / np.clip(reach, 4, None), 0, 1))
    sulcus = np.sqrt((pattern / slope) ** 2 + np.clip(surface - reach, 0, None) ** 2) - gape
    basal = ellipsoid(points, (0.0, -12.0, 5.0), (32.0, 42.0, 24.0))
    sulcus = np.maximum(sulcus, -basal)  # no sulcus reaches the basal nuclei
    return np.minimum(np.minimum(surface, sulcus), _sylvian(points, subject))


def _sylvian(points: Points, subject: Subject) -> Field:
    """Distance to the fluid of the lateral fissure and over the insula."""
    rng = subject.generator(6)
    wander = np.stack([waves(rng, points, 32.0, 8) for _ in range(2)])
    x, y, z = points
    side = np.abs(x) + 1.6 * wander[0]
    height = np.float32(-12) + np.float32(0.52) * (18 - y) + 2.2 * wander[1]
    lateral = np.stack([np.clip(38 - side, 0, None), np.clip(np.abs(y + 8) - 28, 0, None), (z - height) * 0.9])
    insula = np.stack(
        [
            side - 37 - 0.012 * np.clip(y - 8, 0, None) ** 2 + 0.004 * (y - 2) ** 2,
            np.clip(np.abs(y - 2) - 17, 0, None),
            np.clip(np.abs(z - 2 - 0.15 * (2 - y)) - 11, 0, None),
        ]
    )
    fluid = np.minimum(np.sqrt(np.sum(lateral**2, axis=0)), np.sqrt(np.sum(insula**2, axis=0)))
    return (fluid - np.float32(0.7 * subject.sulci)).astype(np.float32)


def _paint_cerebellum(fractions: Field, points: Points, cerebellum: Field, subject: Subject) -> None:
    """Cerebellar white matter with folia: thin leaves around the peduncles."""
    inside = edge(cerebellum)
    hub = points - _column((0, -44, -30))
    wobble = waves(subject.generator(3), points, 24.0, 8)
    leaves = np.cos(np.sqrt(np.sum(hub**2, axis=0)) * np.float32(2 * np.pi / 5.0) + 2.5 * wobble)
    below = -cerebellum
    core = 4 * wobble + 9 + 3 * waves(subject.generator(7), points, 11.0, 8)
    grey = np.clip(0.5 - 0.09 * (below - core), 0, 0.95) * np.clip(0.85 + 0.25 * leaves, 0, 1)
    _paint(fractions, "white", inside)
    _paint(fractions, "grey", inside * grey)
    _paint(fractions, "csf", inside * np.clip(-leaves - 0.6, 0, 0.4) * edge(below - 7, 5.0))


def _paint_deep_grey(fractions: Field, points: Points) -> None:
    x, y, z = points
    mirrored = np.stack([np.abs(x), y, z])
    slanted = mirrored + _column((1, 0, 0)) * (0.3 * (y - 2))
    _paint(fractions, "grey", edge(chain(mirrored, _CAUDATE)))
    putamen = ellipsoid(slanted, (26.0, 2.0, 2.0), (5.5, 17.0, 10.5))
    _paint(fractions, "grey", edge(putamen) * np.float32(0.85))
    _paint(fractions, "pallidum", edge(ellipsoid(slanted, (19.0, -2.0, 0.0), (4.5, 10.0, 7.5))))
    thalamus = ellipsoid(mirrored + _column((1, 0, 0)) * (0.3 * (y + 18)), (10.5, -18.0, 8.0), (9.0, 15.0, 9.5))
    _paint(fractions, "thalamus", edge(thalamus, 1.2))


def _paint_ventricles(fractions: Field, points: Points, subject: Subject) -> None:
    x, y, z = points
    mirrored = np.stack([np.abs(x), y, z])
    size = subject.ventricles
    grow = np.float32(4.0 * (size - 1))
    lateral = np.minimum(chain(mirrored, _VENTRICLE) - grow, chain(mirrored, _TEMPORAL_HORN) - grow / 2)
    _paint_gliosis(fractions, points, subject, lateral)
    lateral = np.maximum(lateral, 1.0 - np.abs(x))  # the septum pellucidum
    third = ellipsoid(points, (0.0, -12.0, 1.0), (2.2 * size, 15.0, 10.0))
    fourth = ellipsoid(points, (0.0, -43.0, -31.0), (7.0 * size**0.5, 4.5 * size**0.5, 10.0))
    _paint(fractions, "csf", edge(np.minimum(np.minimum(lateral, third), fourth)))
    choroid = chain(mirrored, _CHOROID)
    _paint(fractions, "choroid", edge(np.maximum(choroid, lateral)) * np.float32(0.8))


def _paint_gliosis(fractions: Field, points: Points, subject: Subject, ventricle: Field) -> None:
    """Caps around the lateral ventricles and spots in the white matter."""
    rng = subject.generator(8)
    caps = edge(ventricle - 4 * subject.gliosis * np.clip(0.4 + 0.6 * waves(rng, points, 24.0, 8), 0, 1), 1.5)
    spots = edge((2.6 - 0.5 * np.float32(subject.gliosis) - waves(rng, points, 15.0, 20)) * 3)
    share = np.maximum(caps * min(1.0, 2 * subject.gliosis), spots * np.float32(subject.gliosis > 0.1))
    _paint(fractions, "gliosis", np.float32(0.8) * share * fractions[TISSUES.index("white")])


def _paint_vessels(fractions: Field, points: Points, subject: Subject, outside: Field) -> None:
    """Arteries at the base, the sagittal sinus, veins on the surface and patches of dura."""
    x, y, z = points
    mirrored = np.stack([np.abs(x), y, z])
    rng = subject.generator(4)
    artery = np.minimum(chain(mirrored, _MIDDLE_CEREBRAL_ARTERY), chain(points, ((0, -7, -14, 1.4), (0, -9, -38, 1.7))))
    _paint(fractions, "vessel", edge(artery))
    beside = np.clip(-outside - 4, 0, None)
    sinus = np.sqrt(x**2 + beside**2) - np.float32(2.6)
    _paint(fractions, "vessel", edge(sinus) * edge(np.minimum(25 - z, np.maximum(y + 45, -12 - z))))
    if subject.sinuses:
        transverse = chain(mirrored, _TRANSVERSE_SINUS) + np.float32(3.0 - subject.sinuses)
        _paint(fractions, "vessel", edge(transverse))
    fluid = fractions[TISSUES.index("csf")]
    shallow = edge(-outside - 9, 3.0)
    veins = np.clip(waves(rng, points, 11.0, 16) - 1.3, 0, 0.6) * shallow * fluid
    _paint(fractions, "vessel", veins)
    patches = np.clip(0.45 + 0.4 * waves(rng, points, 45.0, 8), 0, 1)
    _paint(fractions, "dura", edge(-outside - 1.2, 0.6) * patches)


def _paint(fractions: Field, tissue: str, alpha: Field) -> None:
    """Lays `tissue` over what is there, with opacity `alpha`."""
    fractions *= 1 - alpha
    fractions[TISSUES.index(tissue)] += alpha


def _wave_vectors(rng: np.random.Generator, wavelength: float, count: int) -> tuple[Field, Field]:
    """Wave vectors (count, 3) in radians per millimetre and phases (count,)."""
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = 2 * np.pi / (wavelength * rng.uniform(0.8, 1.3, (count, 1)))
    return (directions * lengths).astype(np.float32), rng.uniform(0, 2 * np.pi, count).astype(np.float32)


def _along(points: Points, vector: Field) -> Field:
    # Not a matrix product: its threads would fight over the cores when several cases are made at once.
    return vector[0] * points[0] + vector[1] * points[1] + vector[2] * points[2]


def _column(values: tuple[float, ...]) -> Field:
    return np.asarray(values, np.float32)[:, None]
