"""What surrounds a generated brain: skull, scalp, face, eyes, air sinuses and neck."""

import numpy as np

from samjax.data.synthetic.brain import Field, Points, chain, edge, ellipsoid, smooth_union, waves

# Brightness of each tissue on t1, t1gd, t2 and flair, as a share of white matter on t1.
BRIGHTNESS = {
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
_FAT_SATURATED = 0.25
"""Brightness of fat where its signal is suppressed."""


def surroundings(seed: int, points: Points, standard: Points, outside: Field) -> Field:
    """Brightness (4, n) of all that is not brain; `outside` is the distance in millimetres to the brain's fluid."""
    rng, fields = np.random.default_rng((seed, 0)), np.random.default_rng((seed, 1))
    bright = {name: np.asarray(values) * rng.lognormal(0, 0.08, 4) for name, values in BRIGHTNESS.items()}
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
