"""Pairs of masks that break careless metrics, and what measures them slowly but plainly."""

import numpy as np

SPACINGS = {2: [(1.0, 1.0), (0.7, 2.3), (4.0, 0.5)], 3: [(1.0, 1.0, 1.0), (3.0, 0.9, 0.9), (0.4, 1.1, 6.0)]}


def empty(*shape):
    return np.zeros(shape, bool)


def block(shape, *ranges):
    """A mask with a filled box: one (start, stop) per axis."""
    mask = empty(*shape)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


def pixels(*places, shape=(9, 9)):
    mask = empty(*shape)
    for place in places:
        mask[place] = True
    return mask


def ellipsoid(shape, centre, radii):
    grid = np.indices(shape).reshape(len(shape), -1).T
    return (((grid - centre) / radii) ** 2).sum(axis=1).reshape(shape) <= 1


def pairs(ndim):
    """Name -> (prediction, truth), neither of them empty."""
    shape = (13, 19, 11)[:ndim]
    rng = np.random.default_rng(ndim)
    middle = np.array(shape) / 2
    ball = ellipsoid(shape, middle, middle / 2)
    moved = ellipsoid(shape, middle + 2, middle / 2.5)
    noise, other_noise, sparse = (rng.random(shape) < p for p in (0.3, 0.5, 0.01))
    one, far = empty(*shape), empty(*shape)
    one[(1,) * ndim] = True
    far[(-1,) * ndim] = True
    sheet, stick = empty(*shape), empty(*shape)
    sheet[3] = True
    stick[(slice(None), *[5] * (ndim - 1))] = True
    full = ~empty(*shape)
    return {
        "balls": (ball, moved),
        "identical": (ball, ball.copy()),
        "rings": (
            ball & ~ellipsoid(shape, middle, middle / 4),
            moved & ~ellipsoid(shape, middle, middle / 3),
        ),
        "ring and hole": (ball & ~ellipsoid(shape, middle, middle / 4), ellipsoid(shape, middle, middle / 5)),
        "noise": (noise, other_noise),
        "specks": (ball | sparse, ball),
        "one voxel": (one, ball),
        "one voxel each, far apart": (one, far),
        "same voxel": (one, one.copy()),
        "full": (full, ball),
        "both full": (full, full.copy()),
        "touching the border": (ellipsoid(shape, middle * 0, middle), ellipsoid(shape, middle * 2, middle)),
        "sheets": (sheet, np.roll(sheet, 4, axis=0)),
        "sheet and stick": (sheet, stick),
        "far lesion missed": (ball & ~far, ball | far),
        "halved": (ball & (np.arange(shape[-1]) < shape[-1] // 2), ball),
    }


def plain_boundary(mask):
    """The coordinates (n, d) of voxels with a background face-neighbour."""
    padded = np.pad(mask, 1)
    found = []
    for index in np.argwhere(padded):
        steps = [sign * axis for axis in np.eye(mask.ndim, dtype=int) for sign in (-1, 1)]
        if not all(padded[tuple(index + step)] for step in steps):
            found.append(index - 1)
    return np.array(found)


def plain_distances(points, targets, spacing):
    """From each point (n, d) to the nearest target (m, d): every pair is measured."""
    offsets = (points[:, None] - targets[None]) * np.array(spacing)
    return np.sqrt((offsets**2).sum(axis=-1)).min(axis=1)
