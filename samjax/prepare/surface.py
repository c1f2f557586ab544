"""A closed surface that grows in a bright region until it meets the dark layer around it.

It is the deformable surface of Smith (2002), "Fast robust automated brain extraction", Human Brain Mapping 17: vertices
move so that neighbours stay evenly spaced, the surface stays smooth, and its inside holds no darkness.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SUBDIVISIONS = 4
"""Times that the triangles of an icosahedron are divided into four: 2562 vertices."""
STEPS = 600
"""Most steps of the growth."""
STILL = 0.004
"""Millimetres of the mean movement in a step from which on the surface has stopped."""
INWARD, BRIGHT = 20.0, 10.0
"""Millimetres below a vertex in which darkness, and brightness, are looked for."""
_SAMPLES = 1.5
"""Millimetres between two samples."""
_BENDS = (3.33, 10.0)
"""Radii of curvature in millimetres: a sharper bend is smoothed, a flatter one left alone (Smith's r_min and r_max)."""
_PULL = 0.05
"""Weight of the image (Smith's factor of the third update term)."""
_FINE = 1.0
"""Largest voxel side in millimetres at which a surface is drawn into a mask."""


@dataclass(frozen=True)
class Surface:
    """A closed surface of triangles.

    `vertices` (n, 3) in millimetres along (slice, row, column) from the centre of the grid's first voxel; `faces`
    (m, 3) their indices, counter-clockwise seen from outside.
    """

    vertices: np.ndarray
    faces: np.ndarray

    @property
    def normals(self) -> np.ndarray:
        """The outward unit normal at each vertex, (n, 3)."""
        corners = self.vertices[self.faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        total = np.zeros_like(self.vertices)
        for corner in self.faces.T:
            for axis in range(3):
                total[:, axis] += np.bincount(corner, across[:, axis], len(total))
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)

    def larger(self, distance: float) -> "Surface":
        """The surface moved outwards by so many millimetres."""
        return Surface(self.vertices + distance * self.normals, self.faces)

    @property
    def volume(self) -> float:
        """The volume inside in millilitres."""
        first, second, third = np.moveaxis(self.vertices[self.faces], 1, 0)
        return float(np.sum(np.cross(first, second) * third) / 6000)


def grow(image: np.ndarray, spacing: float, centre: np.ndarray, radius: float, level: float) -> Surface:
    """The surface around the bright region that holds `centre`.

    Args:
      image: (slice, row, column) float32 of values up to 1; isotropic.
      spacing: millimetres between voxels.
      centre: (3,) millimetres along (slice, row, column).
      radius: millimetres of the sphere that the surface starts as.
      level: darkness begins below this share of the brightness near the surface.
    """
    directions, faces = sphere(SUBDIVISIONS)
    neighbours, counts = _neighbours(faces, len(directions))
    surface = Surface(centre + radius * directions, faces)
    for _ in range(STEPS):
        move = _move(surface, image, spacing, level, neighbours, counts)
        surface = Surface(surface.vertices + move, faces)
        if np.linalg.norm(move, axis=1).mean() < STILL:
            break
    return surface


def profiles(image: np.ndarray, spacing: float, surface: Surface, depths: np.ndarray) -> np.ndarray:
    """The image along the normals, (vertices, depths); depths in millimetres, positive inwards; 0 outside the grid."""
    points = surface.vertices[:, None] - surface.normals[:, None] * depths[None, :, None]
    places = (points / spacing).reshape(-1, 3).T
    return ndimage.map_coordinates(image, places, order=1, mode="constant").reshape(points.shape[:2])


def fill(surface: Surface, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    """The mask of what is inside a surface, bool of `shape`: voxels of which it holds half.

    Args:
      surface: in millimetres from the centre of the grid's first voxel.
      spacing: (slice, row, column) millimetres between voxels.
      shape: number of slices, rows and columns.
    """
    parts = [max(1, int(np.ceil(side / _FINE))) for side in spacing]
    fine = np.array(spacing) / parts
    start = -(np.array(spacing) - fine) / 2  # the centre of the first fine voxel
    places = (surface.vertices - start) / fine
    # Every voxel that the surface touches is drawn; moved inwards so far, it touches those with their centre inside.
    normals = Surface(places, surface.faces).normals
    places = places - normals * np.abs(normals).sum(axis=1, keepdims=True) / 2
    drawn = np.zeros([side * part for side, part in zip(shape, parts, strict=True)], bool)
    corners = np.moveaxis(places[surface.faces], 1, 0)
    longest = max(np.abs(corners[n] - corners[n - 1]).max() for n in range(3))
    cuts = int(np.ceil(2 * longest)) + 1
    for first in range(cuts + 1):
        for second in range(cuts + 1 - first):
            weights = np.array([first, second, cuts - first - second]) / cuts
            voxels = np.rint(np.tensordot(weights, corners, 1)).astype(int)
            voxels = voxels[((voxels >= 0) & (voxels < drawn.shape)).all(axis=1)]
            drawn[tuple(voxels.T)] = True
    filled = ndimage.binary_fill_holes(drawn)
    blocks = filled.reshape([number for pair in zip(shape, parts, strict=True) for number in pair])
    return blocks.mean(axis=(1, 3, 5)) >= 0.5


def sphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (n, 3) spread evenly, and the triangles (m, 3) between them, from an icosahedron."""
    golden = (1 + 5**0.5) / 2
    ring = [(-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0)]
    vertices = np.array([np.roll(vertex, shift) for shift in range(3) for vertex in ring], float)
    # Each triangle joins three vertices at the shortest distance, 2, and is turned so that its normal points outwards.
    near = np.isclose(np.linalg.norm(vertices[:, None] - vertices[None], axis=-1), 2)
    faces = []
    for a, b in np.argwhere(np.triu(near)):
        for c in np.flatnonzero(near[a] & near[b]):
            if c > b:
                outward = np.dot(np.cross(vertices[b] - vertices[a], vertices[c] - vertices[a]), vertices[a]) > 0
                faces.append((a, b, c) if outward else (a, c, b))
    faces = np.array(faces)
    for _ in range(subdivisions):
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        edges, place = np.unique(edges, axis=0, return_inverse=True)
        middle = len(vertices) + place.reshape(3, -1)
        vertices = np.concatenate([vertices, vertices[edges].mean(axis=1)])
        a, b, c = faces.T
        ab, bc, ca = middle
        corners = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = np.concatenate([np.stack(corner, axis=1) for corner in corners])
    return vertices / np.linalg.norm(vertices, axis=1, keepdims=True), faces


def _neighbours(faces: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours of each vertex, (count, 6), filled up with the vertex itself, and their numbers (count, 1)."""
    around = [set() for _ in range(count)]
    for a, b, c in faces.tolist():
        around[a] |= {b, c}
        around[b] |= {a, c}
        around[c] |= {a, b}
    rows = [sorted(near) + [vertex] * (6 - len(near)) for vertex, near in enumerate(around)]
    return np.array(rows), np.array([[len(near)] for near in around])


def _move(
    surface: Surface, image: np.ndarray, spacing: float, level: float, neighbours: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """The movement of each vertex in one step, in millimetres: Smith's three update terms."""
    vertices, normals = surface.vertices, surface.normals
    near = vertices[neighbours]
    surplus = (6 - counts) * vertices
    to_middle = (near.sum(axis=1) - surplus) / counts - vertices
    along = np.sum(to_middle * normals, axis=1, keepdims=True)
    length = np.linalg.norm(near - vertices[:, None], axis=-1).sum() / counts.sum()

    bend = 2 * np.abs(along) / length**2  # one over the radius of curvature
    sharp, flat = (1 / radius for radius in _BENDS)
    smooth = (1 + np.tanh(6 / (sharp - flat) * (bend - (sharp + flat) / 2))) / 2

    depths = np.arange(0, INWARD + _SAMPLES / 2, _SAMPLES)
    below = profiles(image, spacing, surface, depths)
    brightest = np.clip(below[:, depths <= BRIGHT].max(axis=1), 0.5, 1)
    pull = 2 * (np.minimum(below.min(axis=1), 1) - level * brightest) / brightest
    return (to_middle - along * normals) / 2 + smooth * along * normals + _PULL * length * pull[:, None] * normals
