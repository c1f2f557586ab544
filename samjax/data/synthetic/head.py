"""Whole generated heads: the phantom's brain in its skull, with scalp, eyes, air sinuses, face and neck.

A head is made once without noise and then scanned: each scan has its own grid, pose, slice thickness, shading and
noise. So the true brain and the true movement between two scans are known. No scan of a real person went into it.

Coordinates are those of `brain`: millimetres, x to the Right, y to Anterior, z to Superior.
"""

from dataclasses import dataclass

import numpy as np

from samjax.data.synthetic import brain
from samjax.data.synthetic import scanner as scan
from samjax.data.synthetic import tumour as growth
from samjax.data.synthetic.brain import Field, Points, chain, edge, ellipsoid, smooth_union, waves

CORNER = (-104.0, -132.0, -150.0)
"""Lowest x, y and z of the box that a head fills, in millimetres; the neck is cut off at the lowest z."""
EXTENT = (208.0, 252.0, 258.0)
"""Side lengths of that box in millimetres."""
SITES = ("inside", "surface", "none")
"""Where a tumour grows: a glioma inside the brain, a meningioma at its surface, or no tumour."""

# Brightness of each tissue on t1, t1gd, t2 and flair, as a share of white matter on t1.
_BRIGHTNESS = {
    "air": (0.02, 0.02, 0.02, 0.02),
    "skin": (0.70, 0.85, 0.75, 0.60),
    "fat": (1.55, 1.55, 1.45, 1.20),
    "muscle": (0.58, 0.70, 0.42, 0.48),
    "bone": (0.10, 0.10, 0.08, 0.08),
    "marrow": (1.10, 1.15, 0.90, 0.80),
    "vitreous": (0.26, 0.28, 2.60, 0.22),
    "mucosa": (0.60, 1.60, 1.90, 1.20),
    "dura": (0.45, 1.20, 0.35, 0.45),
    "cord": (0.90, 0.92, 0.85, 0.88),
    "fluid": (0.28, 0.30, 2.50, 0.24),
}
_PART = 40_000
"""Points that are computed together."""
_FAT_SATURATED = 0.25
"""Brightness of fat where its signal is suppressed."""


@dataclass(frozen=True)
class Head:
    """A head without noise, on one grid.

    `images` by modality, (i, j, k) float32; `brain` bool, all that skull stripping keeps; `label` uint8 with BraTS 2023
    values; `affine` from (i, j, k, 1) to RAS millimetres.
    """

    images: dict[str, np.ndarray]
    brain: np.ndarray
    label: np.ndarray
    affine: np.ndarray


@dataclass(frozen=True)
class Pose:
    """Where a head lies in the scanner: turned by `degrees` about x, y and z in turn, then moved by `shift` mm."""

    degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def matrix(self) -> np.ndarray:
        """The 4 x 4 matrix from points of the head to points of the scanner, in millimetres."""
        a, b, c = np.radians(self.degrees)
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        matrix = np.eye(4)
        matrix[:3, :3] = about_z @ about_y @ about_x
        matrix[:3, 3] = self.shift
        return matrix


@dataclass(frozen=True)
class Sequence:
    """How one modality is acquired; lengths in millimetres.

    `noise` is its standard deviation and `bias` that of the logarithm of the shading, both as shares of white matter.
    `lowest` and `highest` are the ends of the field of view along z, and `margin` narrows it along x and y.
    """

    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 0.03
    bias: float = 0.1
    lowest: float = -110.0
    highest: float = 104.0
    margin: float = 0.0


def make_head(seed: int, spacing: float = 1.0, tumour: str = "inside") -> Head:
    """A head on a grid of `spacing` millimetres; the same arguments give the same voxels.

    Args:
      seed: seed of the anatomy, the tumour and the contrasts.
      spacing: millimetres between voxels.
      tumour: one of `SITES`.
    """
    rng = np.random.default_rng((seed, SITES.index(tumour)))
    subject = _draw_subject(rng)
    shape = tuple(round(side / spacing) for side in EXTENT)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = np.asarray(CORNER) + spacing / 2
    points = _voxel_centres(shape, affine)
    seed_around = int(rng.integers(2**31))
    parts = [_part(subject, seed_around, part) for part in np.array_split(points, -(-points.shape[1] // _PART), axis=1)]
    standard, outside, signal = (np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True))

    mask = outside < 0
    inner, place, depth = points[:, mask], standard[:, mask], outside[mask]
    grown = growth.draw_tumour("meningioma" if tumour == "surface" else "adult", rng, place, depth)
    moved = place if tumour == "none" else growth.displaced(place, grown)
    fractions = brain.tissue_fractions(moved, subject, depth)
    opacities, label = growth.grow(place, moved, grown, fractions, depth)
    if tumour == "none":
        opacities, label = np.zeros_like(opacities), np.zeros_like(label)
    signal[:, mask] = scan.signal(rng, inner, fractions, opacities, scan.usual_contrast(grown))

    values = np.zeros(len(mask), np.uint8)
    values[mask] = label
    images = {name: row.reshape(shape) for name, row in zip(scan.MODALITIES, signal, strict=True)}
    return Head(images, mask.reshape(shape), values.reshape(shape), affine)


def scan_head(
    head: Head, modality: str, seed: int, pose: Pose | None = None, sequence: Sequence | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One scan of a head as a scanner stores it.

    Args:
      head: the head.
      modality: one of t1, t1gd, t2, flair.
      seed: seed of noise, shading and gain.
      pose: where the head lies; the field of view stays.
      sequence: how it is acquired; voxels thicker than the head's are averages along z.

    Returns:
      (i, j, k) int16, and its 4 x 4 affine to RAS millimetres.
    """
    pose, sequence = pose or Pose(), sequence or Sequence()
    rng = np.random.default_rng((seed, scan.MODALITIES.index(modality)))
    shape, affine = _field_of_view(sequence)
    parts = max(1, round(sequence.spacing[2] / head.affine[2, 2]))
    fine = (*shape[:2], shape[2] * parts)
    thin = affine @ np.diag([1, 1, 1 / parts, 1])
    thin[2, 3] -= sequence.spacing[2] * (1 - 1 / parts) / 2
    values = in_pose(head.images[modality], head.affine, fine, thin, pose)
    values = values.reshape(*shape, parts).mean(axis=-1)
    points = _voxel_centres(shape, affine)
    values *= scan.bias_field(rng, points, sequence.bias).reshape(shape)
    real = values + sequence.noise * rng.standard_normal(shape, np.float32)
    imaginary = sequence.noise * rng.standard_normal(shape, np.float32)
    gain = rng.uniform(250, 1200)
    return np.clip(np.hypot(real, imaginary) * gain, 0, 32767).astype(np.int16), affine


def true_brain(head: Head, affine: np.ndarray, shape: tuple[int, int, int], pose: Pose | None = None) -> np.ndarray:
    """The brain of a head in a pose, on the grid of a scan: bool of `shape`."""
    return in_pose(head.brain.astype(np.float32), head.affine, shape, affine, pose or Pose()) >= 0.5


def _draw_subject(rng: np.random.Generator) -> brain.Subject:
    size = rng.normal(0.97, 0.03)
    return brain.Subject(
        scale=tuple((size * rng.normal(1, 0.025, 3)).tolist()),
        tilt=tuple(rng.normal(0, (3.0, 1.5, 2.0)).tolist()),
        ventricles=float(rng.uniform(0.7, 1.7)),
        sulci=float(rng.uniform(0.6, 1.7)),
        gyrus=float(rng.uniform(14.5, 17)),
        gliosis=float(rng.beta(1.0, 2.0)),
        seed=int(rng.integers(2**31)),
    )


def _voxel_centres(shape: tuple[int, ...], affine: np.ndarray) -> Points:
    """The centres of all voxels of an upright grid, (3, n) millimetres in C order."""
    axes = [affine[n, n] * np.arange(side) + affine[n, 3] for n, side in enumerate(shape)]
    return np.stack([grid.ravel() for grid in np.meshgrid(*axes, indexing="ij")]).astype(np.float32)


def _field_of_view(sequence: Sequence) -> tuple[tuple[int, int, int], np.ndarray]:
    """The shape and affine of a scan's grid."""
    low = np.array([CORNER[0] + sequence.margin, CORNER[1] + sequence.margin, sequence.lowest])
    high = np.array(
        [CORNER[0] + EXTENT[0] - sequence.margin, CORNER[1] + EXTENT[1] - sequence.margin, sequence.highest]
    )
    spacing = np.asarray(sequence.spacing)
    shape = np.maximum(1, np.floor((high - low) / spacing)).astype(int)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (low + high) / 2 - (shape - 1) / 2 * spacing
    return tuple(shape.tolist()), affine


def in_pose(volume: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], onto: np.ndarray, pose: Pose) -> np.ndarray:
    """A volume of the head, moved by `pose`, at the voxels of another grid, linearly interpolated; float32."""
    from scipy import ndimage

    matrix = np.linalg.inv(affine) @ np.linalg.inv(pose.matrix) @ onto
    return ndimage.affine_transform(volume, matrix[:3, :3], matrix[:3, 3], shape, order=1, output=np.float32)


def _part(subject: brain.Subject, seed: int, points: Points) -> tuple[Points, Field, Field]:
    """Some points of a head: their places in the standard anatomy, distances to the brain's fluid, and `_surroundings`.

    The arrays of one part fit into the processor's cache.
    """
    standard = brain.head_to_standard(points, subject)
    outside = brain.intracranial(standard)
    return standard, outside, _surroundings(seed, points, standard, outside)


def _surroundings(seed: int, points: Points, standard: Points, outside: Field) -> Field:
    """Brightness (4, n) of all that is not brain; `outside` is the distance in millimetres to the brain's fluid."""
    rng, fields = np.random.default_rng((seed, 0)), np.random.default_rng((seed, 1))
    bright = {name: np.asarray(values) * rng.lognormal(0, 0.08, 4) for name, values in _BRIGHTNESS.items()}
    for number, chance in enumerate((0.0, 0.4, 0.1, 0.4)):
        if rng.random() < chance:
            bright["fat"][number] = _FAT_SATURATED
            bright["marrow"][number] = _FAT_SATURATED
    signal = np.repeat(np.float32(bright["air"])[:, None], points.shape[1], axis=1)

    def paint(tissue: str, alpha: Field) -> None:
        for row, value in zip(signal, bright[tissue], strict=True):
            row += alpha * (np.float32(value) - row)

    shape = _Shape(fields, rng, standard, outside)
    shape.paint(paint)
    signal *= 1 + 0.05 * waves(fields, points, 20.0) + 0.03 * waves(fields, points, 6.0)
    return signal


class _Shape:
    """The structures around one brain, from the skin inwards."""

    def __init__(self, fields: np.random.Generator, rng: np.random.Generator, points: Points, outside: Field):
        self.points, self.outside, self.fields = points, outside, fields
        self.mirrored = np.stack([np.abs(points[0]), points[1], points[2]])
        self.dura = np.float32(rng.uniform(0.6, 1.4))
        self.table = np.float32(rng.uniform(1.2, 2.0))
        diploe = rng.uniform(1.5, 5.0)
        beside = np.clip(1 - np.abs(points[2] + 10) / 40, 0, 1) * np.clip(self.mirrored[0] / 45 - 0.6, 0, 1)
        uneven = waves(fields, points, 45.0, 8)
        self.diploe = (np.float32(diploe) * (1 + 0.35 * uneven) * (1 - beside)).clip(0, None)
        self.skull = self.dura + 2 * self.table + self.diploe
        muscle = ellipsoid(self.mirrored, (70.0, 8.0, -12.0), (16.0, 34.0, 38.0))
        self.temporal = edge(muscle, 6.0)
        self.scalp = np.float32(rng.uniform(3.5, 8.0)) * (1 + 0.15 * waves(fields, points, 50.0, 8)) + 8 * self.temporal
        self.skin = np.float32(rng.uniform(1.5, 2.5))
        self.sinuses = rng.uniform(0.6, 1.3)

    def paint(self, paint) -> None:
        """Lays every structure over what is there."""
        surface = self._surface()
        self._soft_tissue(paint, surface)
        self._face(paint)
        self._neck(paint)
        self._skull(paint)
        self._openings(paint)

    def _surface(self) -> Field:
        """Distance to the skin."""
        points = self.points
        head = self.outside - self.skull - self.scalp
        face = smooth_union(
            ellipsoid(points, (0.0, 28.0, -58.0), (64.0, 62.0, 62.0)),
            ellipsoid(points, (0.0, 32.0, -102.0), (48.0, 54.0, 36.0)),
            20.0,
        )
        face = smooth_union(face, ellipsoid(points, (0.0, 90.0, -60.0), (13.0, 16.0, 24.0)), 10.0)
        neck = chain(points, ((0.0, -36.0, -50.0, 58.0), (0.0, -44.0, -110.0, 57.0), (0.0, -50.0, -200.0, 60.0)))
        return smooth_union(smooth_union(head, face, 15.0), neck, 20.0)

    def _soft_tissue(self, paint, surface: Field) -> None:
        paint("skin", edge(surface))
        paint("fat", edge(surface + self.skin))
        lumps = waves(self.fields, self.points, 14.0, 16)
        deep = edge(surface + self.skin + self.scalp * 0.8, 2.0)
        paint("muscle", deep * np.clip(1.6 + 0.9 * lumps, 0, 1))
        paint("muscle", self.temporal * edge(self.outside - self.skull - self.scalp + self.skin + 2))

    def _face(self, paint) -> None:
        points, mirrored = self.points, self.mirrored
        jaw = np.abs(ellipsoid(points, (0.0, 34.0, -98.0), (42.0, 46.0, 22.0))) - 3
        paint("bone", edge(np.maximum(jaw, -40 - points[2])) * edge(20 - points[1]))
        orbit = ellipsoid(mirrored, (31.0, 50.0, -39.0), (19.0, 30.0, 18.0))
        paint("bone", edge(orbit - 2.5) * edge(points[1] - 70, 3.0))
        paint("fat", edge(orbit))
        nerve = chain(mirrored, ((31.0, 56.0, -38.0, 2.2), (18.0, 24.0, -32.0, 2.2), (7.0, 8.0, -24.0, 2.2)))
        paint("fluid", edge(nerve - 1.5))
        paint("cord", edge(nerve))
        for angle in (-1, 1):
            paint("muscle", edge(chain(mirrored, ((31 + 12 * angle, 62, -38, 2.2), (20, 28, -33, 2.0)))))
        globe = ellipsoid(mirrored, (32.0, 65.0, -38.0), (12.2, 12.2, 12.2))
        paint("muscle", edge(globe))
        paint("vitreous", edge(globe + 1.5))
        paint("muscle", edge(ellipsoid(mirrored, (32.0, 74.0, -38.0), (4.5, 2.2, 4.5))))
        size = np.float32(self.sinuses)
        for centre, axes in (
            ((28.0, 50.0, -66.0), (13.0, 16.0, 15.0)),
            ((9.0, 50.0, -58.0), (6.0, 34.0, 18.0)),
            ((8.0, 16.0, -43.0), (9.0, 12.0, 9.0)),
            ((54.0, -42.0, -46.0), (9.0, 12.0, 14.0)),
        ):
            cavity = ellipsoid(mirrored, centre, tuple(size * axis for axis in axes))
            paint("bone", edge(cavity - 3))
            paint("mucosa", edge(cavity - 1))
            paint("air", edge(cavity))

    def _neck(self, paint) -> None:
        points = self.points
        airway = chain(points, ((0.0, 12.0, -62.0, 9.0), (0.0, 2.0, -100.0, 8.0), (0.0, 2.0, -200.0, 8.0)))
        paint("mucosa", edge(airway - 2.5))
        paint("air", edge(airway))
        canal = chain(points, ((0.0, -39.0, -66.0, 9.0), (0.0, -44.0, -110.0, 8.0), (0.0, -50.0, -200.0, 8.0)))
        below = edge(points[2] + 84, 3.0)
        body = chain(points, ((0.0, -24.0, -92.0, 11.0), (0.0, -30.0, -200.0, 12.0)))
        paint("bone", edge(np.minimum(canal - 5, body)) * below)
        paint("marrow", edge(body + 2) * below * edge(1.5 - np.abs((points[2] + 1000) % 18 - 9)))
        paint("fluid", edge(canal))
        paint("cord", edge(canal + 3.5))

    def _skull(self, paint) -> None:
        spine = chain(self.points, ((0.0, -39.0, -58.0, 12.0), (0.0, -44.0, -110.0, 10.0)))
        closed = 1 - edge(spine, 2.0)  # the foramen magnum
        paint("bone", edge(self.outside - self.skull) * closed)
        marrow = edge(self.outside - self.skull + self.table) * (1 - edge(self.outside - self.dura - self.table))
        paint("marrow", marrow * closed * np.clip(self.diploe - 0.5, 0, 1))
        frontal = ellipsoid(self.mirrored, (11.0, 76.0, -10.0), (10.0, 6.0, 11.0)) + 3 * (1 - np.float32(self.sinuses))
        paint("air", edge(np.maximum(frontal, self.dura + self.table - self.outside)))
        paint("dura", edge(self.outside - self.dura) * closed)

    def _openings(self, paint) -> None:
        """Vessels and nerves that pass through the skull."""
        nerve = chain(self.mirrored, ((18.0, 24.0, -32.0, 1.8), (7.0, 6.0, -22.0, 1.8)))
        paint("cord", edge(nerve))
        carotid = chain(self.mirrored, ((22.0, -12.0, -90.0, 2.6), (20.0, -8.0, -45.0, 2.6), (9.0, 2.0, -20.0, 2.2)))
        paint("bone", edge(carotid))  # flowing blood has no signal
