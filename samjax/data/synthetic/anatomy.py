"""A whole head as voxels: brain, what surrounds it, and the mask of a skull stripping.

The brain is that of the phantom (`brain.py`); skull, fat, muscles and eyes are shells and shapes around it. A voxel is
two tissues and the share of the second, in two bytes:

    byte 0: first tissue + 16 x second tissue, numbers in `HEAD_TISSUES`
    byte 1: share of the second in 254ths (0 to 127, at most a half), + 128 inside the skull
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samjax.data.synthetic import brain
from samjax.data.synthetic.brain import Field, Points, Subject, edge, ellipsoid, waves

Voxels = NDArray[np.uint8]

HEAD_TISSUES = ("air", *brain.TISSUES, "bone", "fat", "muscle", "eye")
"""The tissues of a head; `air` is 0. At most 16 fit in a voxel."""
SHARE_STEPS = 254
"""The share of a voxel's second tissue is stored in this many steps."""
INSIDE = 128
"""Bit of byte 1 of a voxel inside the skull."""
SHAPE = (180, 232, 200)
"""Voxels of 1 mm to superior, posterior and left."""
CENTRE = (0.0, -16.0, 8.0)
"""The middle of the volume in standard coordinates: right, anterior and superior of the commissure, in mm."""


@dataclass(frozen=True)
class Shell:
    """What lies around one brain, in millimetres."""

    skull: float
    """Thickness of the bone."""
    scalp: float
    """Thickness of fat and skin over it."""
    marrow: float
    """Share of the bone's thickness that is marrow."""


def draw_subject(rng: np.random.Generator) -> Subject:
    """A healthy head of any age between child and old age, tilted in all directions."""
    age = rng.choice(("child", "adult", "old"), p=(0.15, 0.5, 0.35))
    wide = {"child": (0.55, 1.0), "adult": (0.65, 1.5), "old": (1.1, 2.6)}[age]
    gape = {"child": (0.4, 0.8), "adult": (0.55, 1.3), "old": (1.0, 2.3)}[age]
    size = rng.normal(0.94 if age == "child" else 1.0, 0.03)
    return Subject(
        scale=tuple((size * rng.normal(1, 0.025, 3)).tolist()),
        tilt=tuple(rng.normal(0, (5.0, 2.5, 3.0)).tolist()),
        ventricles=float(rng.uniform(*wide)),
        sulci=float(rng.uniform(*gape)),
        gyrus=float(rng.uniform(13.5, 18)),
        gliosis={"child": 0.0, "adult": float(rng.beta(1, 3)), "old": float(rng.beta(2, 2))}[age],
        seed=int(rng.integers(2**31)),
    )


def make_head(seed: int, number: int) -> Voxels:
    """Head `number` of a seed's series, (*SHAPE, 2) uint8; the same arguments give the same bytes."""
    rng = np.random.default_rng((seed, number))
    subject = draw_subject(rng)
    shell = Shell(float(rng.uniform(3, 8)), float(rng.uniform(2, 9)), float(rng.uniform(0.1, 0.6)))
    voxels = np.zeros((*SHAPE, 2), np.uint8)
    # In blocks of slices: the fractions of a whole head at once would take gigabytes.
    for first in range(0, SHAPE[0], 30):
        block = slice(first, first + 30)
        voxels[block] = _slab(subject, shell, np.arange(SHAPE[0])[block])
    return voxels


def tissue_shares(voxels: Voxels) -> NDArray[np.float64]:
    """Voxels of each tissue, (2, len(HEAD_TISSUES)): in the whole volume, and inside the skull."""
    codes, second = voxels[..., 0].ravel(), voxels[..., 1].ravel()
    inside, share = second >= INSIDE, (second % INSIDE) / SHARE_STEPS
    totals = []
    for weight in (np.ones(codes.size, np.float32), inside.astype(np.float32)):
        firsts = np.bincount(codes % 16, weight * (1 - share), 16)
        totals.append((firsts + np.bincount(codes // 16, weight * share, 16))[: len(HEAD_TISSUES)])
    return np.stack(totals)


def packed(fractions: Field, inside: NDArray[np.bool_]) -> Voxels:
    """Voxels (n, 2) of the two largest of the fractions (tissues, n), scaled to a sum of 1."""
    first = fractions.argmax(axis=0)
    columns = np.arange(fractions.shape[1])
    largest = fractions[first, columns]
    rest = fractions.copy()
    rest[first, columns] = -1
    second = rest.argmax(axis=0)
    less = np.clip(rest[second, columns], 0, None)
    share = np.rint(SHARE_STEPS * less / np.maximum(largest + less, 1e-6)).astype(np.uint8)
    return np.stack([(first + 16 * second).astype(np.uint8), share + INSIDE * inside.astype(np.uint8)], axis=-1)


def _slab(subject: Subject, shell: Shell, slices: NDArray[np.int_]) -> Voxels:
    points = _grid(slices)
    standard = brain.head_to_standard(points, subject)
    outside = brain.intracranial(standard)
    within = outside < 0
    fractions = np.zeros((len(HEAD_TISSUES), points.shape[1]), np.float32)
    count = 1 + len(brain.TISSUES)
    fractions[1:count, within] = brain.tissue_fractions(standard[:, within], subject, outside[within])
    beyond = ~within
    fractions[:, beyond] = _around(standard[:, beyond], outside[beyond], subject, shell)
    return packed(fractions, within).reshape(len(slices), *SHAPE[1:], 2)


def _grid(slices: NDArray[np.int_]) -> Points:
    """Voxel centres (3, n) of some slices, with x to the right, y to anterior and z to superior in mm."""
    z = CENTRE[2] + slices - (SHAPE[0] - 1) / 2
    y = CENTRE[1] - (np.arange(SHAPE[1]) - (SHAPE[1] - 1) / 2)
    x = CENTRE[0] - (np.arange(SHAPE[2]) - (SHAPE[2] - 1) / 2)
    grid = np.meshgrid(z, y, x, indexing="ij")
    return np.stack([axis.ravel() for axis in reversed(grid)]).astype(np.float32)


def _around(points: Points, outside: Field, subject: Subject, shell: Shell) -> Field:
    """Fractions of the tissues at points outside the skull's inner surface."""
    rng = subject.generator(20)
    x, y, z = points
    uneven = 1 + 0.25 * waves(rng, points, 60.0, 8)
    bone = np.float32(shell.skull) * np.clip(uneven, 0.4, 2)
    scalp = bone + np.float32(shell.scalp) * np.clip(1 + 0.3 * waves(rng, points, 50.0, 8), 0.3, 2)
    below = np.clip((-25 - z) / 15, 0, 1)  # face, neck and skull base under the vault
    face = ellipsoid(points, (0.0, 8.0, -45.0), (72.0, 92.0, 90.0))
    skin = np.minimum(outside - scalp, np.where(below > 0, face + 60 * (1 - below), 1e3))
    fractions = np.zeros((len(HEAD_TISSUES), points.shape[1]), np.float32)
    _lay(fractions, "air", np.ones_like(x))
    _lay(fractions, "fat", edge(skin))
    _lay(fractions, "muscle", edge(skin) * edge(np.abs(skin + 1.0) - 1.0))
    beneath = edge(outside - scalp) * below + (1 - below) * edge(np.abs(z + 10) - 25) * edge(np.abs(y + 5) - 35)
    strands = np.clip(0.6 + 0.8 * waves(rng, points, 16.0, 12), 0, 1)
    _lay(fractions, "muscle", edge(skin + 4) * np.clip(below + beneath, 0, 1) * strands * edge(bone - outside))
    _lay(fractions, "bone", edge(outside - bone))
    marrow = edge(np.abs(outside - bone / 2) - bone * np.float32(shell.marrow / 2))
    _lay(fractions, "fat", marrow * np.clip(0.5 + 0.4 * waves(rng, points, 20.0, 8), 0, 0.9))
    mirrored = np.stack([np.abs(x), y, z])
    orbit = ellipsoid(mirrored, (32.0, 56.0, -30.0), (17.0, 24.0, 16.0))
    _lay(fractions, "fat", edge(np.maximum(orbit, -outside)))
    _lay(fractions, "eye", edge(np.maximum(ellipsoid(mirrored, (32.0, 64.0, -30.0), (12.0, 12.0, 12.0)), -outside)))
    sinus = np.minimum(
        ellipsoid(mirrored, (24.0, 52.0, -58.0), (14.0, 16.0, 16.0)),
        ellipsoid(points, (0.0, 50.0, -42.0), (12, 30, 20)),
    )
    _lay(fractions, "air", edge(np.maximum(sinus, -outside + 2)))
    return fractions


def _lay(fractions: Field, tissue: str, alpha: Field) -> None:
    """Lays `tissue` over what is there, with opacity `alpha`."""
    fractions *= 1 - alpha
    fractions[HEAD_TISSUES.index(tissue)] += alpha
