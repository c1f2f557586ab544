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
from samjax.data.synthetic.brain import Field, Points
from samjax.data.synthetic.surroundings import surroundings

CORNER = (-104.0, -132.0, -150.0)
"""Lowest x, y and z of the box that a head fills, in millimetres; the neck is cut off at the lowest z."""
EXTENT = (208.0, 252.0, 258.0)
"""Side lengths of that box in millimetres."""
SITES = ("inside", "surface", "none")
"""Where a tumour grows: a glioma inside the brain, a meningioma at its surface, or no tumour."""

_PART = 40_000
"""Points that are computed together."""


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
    points = voxel_centres(shape, affine)
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
    points = voxel_centres(shape, affine)
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


def voxel_centres(shape: tuple[int, ...], affine: np.ndarray) -> Points:
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
    """Some points of a head: their places in the standard anatomy, distances to the brain's fluid, and `surroundings`.

    The arrays of one part fit into the processor's cache.
    """
    standard = brain.head_to_standard(points, subject)
    outside = brain.intracranial(standard)
    return standard, outside, surroundings(seed, points, standard, outside)
