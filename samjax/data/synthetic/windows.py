"""Windows of generated patients: a head of the bank, bent and turned, with tumours grown into it.

A window holds tissues, not intensities; these are made of it inside the compiled step (`on_device/appearance.py`).
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd
from pathlib import Path

import numpy as np

from samjax.data.loading.pipeline import MapDataset
from samjax.data.synthetic.anatomy import HEAD_TISSUES, INSIDE, SHARE_STEPS
from samjax.data.synthetic.head_bank import Head, read_head
from samjax.data.synthetic.lattice import Lattice, smooth_field
from samjax.data.synthetic.lesions import KINDS, LABELS, PARTS, Lesion, Opacities, displaced, draw_lesion, grow

SIZE = 192
"""Side of a window in pixels: a brain fits in. Scans are cropped to what they show before a model sees them, and so are
windows: the brain, or the head, fills `extent` from the first row and column on."""
SPACING = "1"
"""Millimetres between the pixels, as --spacing has them; the distance between slices varies."""
MARGIN = 2
"""Slices above and below those of the sample, from which thick ones are averaged."""
_TRIES = 12
_FAINT = 0.35
"""Share of a voxel from which on edema is labelled: raters draw around what they can just see."""
_COARSE = 6
_APART = 4
"""Samples of one slice that are drawn of a patient, and the largest distance between them in millimetres."""
_FARTHEST = 12.0
_HEAD_VOXELS = (1.08, 1.04, 0.98)
"""Voxels of a head in a millimetre along each axis: brains become 141 mm wide, 169 mm long and 142 mm high on average,
which is what stripped scans of adults show."""
_GREY = np.array([tissue in ("grey", "thalamus", "pallidum") for tissue in HEAD_TISSUES], np.float32)
_FLUID = np.array([tissue in ("csf", "vessel", "dura", "choroid") for tissue in HEAD_TISSUES], np.float32)


@dataclass(frozen=True)
class Pose:
    """The place of a window in its head: voxel = matrix @ (slice from the window's middle, row, column) + origin."""

    matrix: np.ndarray
    origin: np.ndarray
    extent: tuple[int, int]
    """Rows and columns that the scan fills."""


@dataclass(frozen=True)
class FreshWindows:
    """Epochs of `count` numbers each, none ever repeated."""

    count: int

    def epoch(self, epoch: int) -> range:
        """The numbers of an epoch's windows."""
        return range(epoch * self.count, (epoch + 1) * self.count)


@dataclass(frozen=True)
class DrawWindow:
    """Draws window `number` of a series; the same number gives the same window.

    A sample of Z = `depth` slices of N = `size` pixels has S = Z + 2 * MARGIN slices of tissue:

    - `head` (S, N, N, 2) uint8: voxels as in `anatomy.py`; the bit of byte 1 says that the scan shows the voxel.
    - `tumour` (S, N, N, 3) uint8: two of PARTS (first + 16 x second), share of the second and opacity of both, in
      255ths.
    - `labels` (Z, N, N) uint8: canonical codes.
    - `volumes` (tissues + parts,) float32: what the whole scan shows of each, in voxels.
    - `stripped` bool: whether the skull was removed; `step` float32: millimetres between slices.
    - `extent` (2,), `slices` (Z,), `identity`, `start`: as in every sample.
    """

    folder: Path
    heads: tuple[int, int]
    """Numbers of the first and of the last head used."""
    depth: int
    size: int
    seed: int
    empty_share: float
    """Share of the windows that show no tumour."""
    stripped_share: float = 0.85
    stream: int = 0
    close_share: float = 0.6
    """Share of the windows whose slices are a millimetre apart."""
    farthest: float = 5.0
    """Largest distance between slices in millimetres."""

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self.seed, self.stream, number))
        head, outlines = _head(self.folder, int(rng.integers(self.heads[0], self.heads[1] + 1)))
        empty = rng.random() < self.empty_share
        for _ in range(_TRIES):
            lesions = _draw_lesions(rng, head, healthy=empty and rng.random() < 0.5)
            stripped = bool(rng.random() < self.stripped_share)
            pose, step = self._pose(rng, head, outlines[int(stripped)], lesions, empty)
            sample = self._drawn(rng, head, lesions, pose, stripped)
            if sample["labels"].any() != empty:
                break
        return {
            **sample,
            "step": np.float32(step),
            "extent": np.int32(pose.extent),
            "slices": np.ones(self.depth, bool),
            "identity": np.int32(number),
            "start": np.int32(0),
        }

    def _pose(
        self, rng: np.random.Generator, head: Head, outline: np.ndarray, lesions: list[Lesion], empty: bool
    ) -> tuple[Pose, float]:
        """A random pose whose slices meet a lesion, or the brain anywhere if the window is to be empty."""
        step = 1.0 if rng.random() < self.close_share else float(rng.uniform(1, self.farthest))
        wide = rng.random() < 0.2
        angles = np.deg2rad(rng.normal(0, 12 if wide else 4, 3))
        scale = rng.normal(1, 0.05) * rng.normal(_HEAD_VOXELS, 0.04)
        flip = np.diag([1.0, 1.0, rng.choice((-1.0, 1.0))])
        matrix = _rotation(angles) @ flip @ np.diag(scale * (step, 1.0, 1.0))
        middle = _middle(head)
        height = middle[0] + rng.uniform(-0.78, 0.8) * middle[0]
        if lesions and not empty:
            lesion = lesions[int(rng.integers(len(lesions)))]
            height = lesion.centre[0] + rng.normal(0, 0.45) * (lesion.radius + 0.6 * lesion.edema)
        return _cropped(rng, matrix, np.array([height, *middle[1:]]), outline, self.size), step

    def _drawn(
        self, rng: np.random.Generator, head: Head, lesions: list[Lesion], pose: Pose, stripped: bool
    ) -> dict[str, np.ndarray]:
        shape = (self.depth + 2 * MARGIN, self.size, self.size)
        first = np.array([(shape[0] - 1) / 2, 0, 0])
        lattice = Lattice(pose.origin - pose.matrix @ first, pose.matrix.T, shape)
        places = lattice.points()
        for lesion in lesions:
            window = _near(lesion, lattice, 2.2 * (1.5 * lesion.radius + 0.5 * lesion.edema))
            if window is not None:
                places[(slice(None), *window)] = displaced(places[(slice(None), *window)], lesion)
        bend = rng.uniform(0, 3.5)
        for axis in range(3):
            places[axis] += np.float32(bend) * smooth_field(rng, lattice, 90.0, 6)
        voxels = _gather(head.voxels, places)
        parts = np.zeros((*shape, 3), np.uint8)
        labels = np.zeros(shape, np.uint8)
        for lesion in lesions:
            _lay(lesion, lattice, voxels, parts, labels)
        shown = _shown(rng, lattice, head, places, voxels, stripped)
        voxels[..., 1] = voxels[..., 1] % INSIDE + INSIDE * shown.astype(np.uint8)
        labels[~shown] = 0
        volumes = np.concatenate([head.shares[int(stripped)], sum((x.shares for x in lesions), np.zeros(len(PARTS)))])
        return {
            "head": voxels,
            "tumour": parts,
            "labels": labels[MARGIN : MARGIN + self.depth],
            "volumes": volumes.astype(np.float32),
            "stripped": np.bool_(stripped),
        }


@dataclass(frozen=True)
class DrawSlices:
    """Draws the slices of a window as samples of one slice each, with a new first axis, for a model of depth 1.

    They show one patient at places further apart than a window's, each with an appearance of its own.
    """

    draw: DrawWindow

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        window, count = self.draw(number), self.draw.depth
        around = range(1 + 2 * MARGIN)
        sample = {name: np.repeat(x[None], count, axis=0) for name, x in window.items()}
        for name in ("head", "tumour"):
            sample[name] = np.stack([window[name][[first + z for z in around]] for first in range(count)])
        sample["labels"] = window["labels"][:, None]
        sample["slices"] = np.ones((count, 1), bool)
        sample["identity"] = np.int32(number * count) + np.arange(count, dtype=np.int32)
        return sample


def training_windows(draw: DrawWindow, epoch: int, batch: int, host: tuple[int, int] = (0, 1)) -> MapDataset:
    """Batches of ever new windows, `epoch` of them per epoch, for host (index, count)."""
    return _batched(MapDataset.source(FreshWindows(epoch)).shard(*host), draw, batch)


def held_out_windows(draw: DrawWindow, count: int, batch: int) -> MapDataset:
    """Batches of the same `count` windows in every epoch."""
    return _batched(MapDataset.source(range(count)), draw, batch)


def _batched(numbers: MapDataset, draw: DrawWindow, batch: int) -> MapDataset:
    """Batches of windows; at depth 1, a patient gives up to `_APART` samples of a batch."""
    if draw.depth > 1:
        return numbers.map(draw).batch(batch)
    count = gcd(batch, _APART)
    slices = DrawSlices(replace(draw, depth=count, close_share=0.1, farthest=_FARTHEST))
    return numbers.map(slices).batch(batch // count).map(_side_by_side)


def _side_by_side(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Samples (patients, slices, ...) as (patients * slices, ...)."""
    patients, count = batch["identity"].shape
    valid = np.repeat(batch["valid"], count)
    return {name: valid if name == "valid" else x.reshape(patients * count, *x.shape[2:]) for name, x in batch.items()}


@lru_cache(maxsize=256)
def _head(folder: Path, number: int) -> tuple[Head, tuple[np.ndarray, np.ndarray]]:
    """A head, and voxels (n, 3) between which all of it lies, and all inside the skull."""
    head = read_head(folder, number)
    coarse = np.asarray(head.voxels[::_COARSE, ::_COARSE, ::_COARSE])
    return head, tuple(_hull(mask) for mask in (coarse[..., 0] > 0, coarse[..., 1] >= INSIDE))


def _hull(mask: np.ndarray) -> np.ndarray:
    """The corners of the convex hull of the voxels of a coarse mask, as voxels of the head."""
    from scipy.spatial import ConvexHull

    places = np.argwhere(mask).astype(np.float64) * _COARSE
    return places[ConvexHull(places).vertices]


def _cropped(rng: np.random.Generator, matrix: np.ndarray, origin: np.ndarray, outline: np.ndarray, size: int) -> Pose:
    """The pose whose window begins where the outline does; pixels grow where the outline is larger than `size`."""
    edges = np.abs(rng.normal(0, 2.0, (2, 2))) + (_COARSE - 1) / 2
    if rng.random() < 0.1:  # a scan that was not cropped, since its background is not of one value
        edges = rng.uniform(5, 45, (2, 2))
    inside = np.linalg.solve(matrix, (outline - origin).T)[1:]  # rows and columns from the origin
    low, high = inside.min(axis=1) - edges[0], inside.max(axis=1) + edges[1]
    zoom = max(1.0, float((high - low).max()) / size)
    extent = np.minimum(np.ceil((high - low) / zoom), size).astype(int)
    return Pose(matrix @ np.diag([1.0, zoom, zoom]), origin + matrix @ np.array([0.0, *low]), tuple(extent.tolist()))


def _middle(head: Head) -> np.ndarray:
    """The middle voxel of a head, (3,)."""
    return (np.asarray(head.voxels.shape[:3]) - 1) / 2


def _draw_lesions(rng: np.random.Generator, head: Head, healthy: bool) -> list[Lesion]:
    """The lesions of one patient, none if `healthy`."""
    if healthy:
        return []
    kind = str(rng.choice(list(KINDS), p=np.asarray(list(KINDS.values())) / sum(KINDS.values())))
    count = int(rng.integers(1, 6)) if kind == "metastases" else 1 + int(rng.random() < 0.12)
    sites = {"meningioma": head.surface, "midline": head.stem}.get(kind, head.white)
    lesions = []
    for _ in range(count):
        centre = sites[int(rng.integers(len(sites)))].astype(np.float64)
        tiny = rng.random() < 0.1
        lesions.append(draw_lesion(rng, kind, centre, float(rng.uniform(1.5, 4.5)) if tiny else None))
    return lesions


def _lay(lesion: Lesion, lattice: Lattice, voxels: np.ndarray, parts: np.ndarray, labels: np.ndarray) -> None:
    """Lays one lesion over the window's tumours and labels."""
    window = _near(lesion, lattice, lesion.extent)
    if window is None:
        return
    part = lattice.part(tuple(x.start for x in window), tuple(x.stop for x in window))
    head = voxels[window]
    opacities = grow(
        lesion, part, _share(head, _GREY), _share(head, _FLUID), (head[..., 1] >= INSIDE).astype(np.float32)
    )
    new, code = _mixed(lesion, opacities)
    stronger = new[..., 2] > parts[window][..., 2]
    parts[window] = np.where(stronger[..., None], new, parts[window])
    labels[window] = np.where(stronger & (code != 255), code, labels[window])


def _mixed(lesion: Lesion, opacities: Opacities) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of `tumour` and the label of each, 255 where the lesion leaves it as it is."""
    core, halo = opacities.core, opacities.halo
    enhancing = core * opacities.enhancing
    second = (core - enhancing) * opacities.second
    amounts = np.zeros((len(PARTS), *core.shape), np.float32)
    amounts[PARTS.index("enhancing")] = enhancing
    amounts[PARTS.index(lesion.inner[0])] += core - enhancing - second
    amounts[PARTS.index(lesion.inner[1])] += second
    amounts[PARTS.index("edema")] = halo * opacities.density
    first = amounts.argmax(axis=0)
    largest = np.take_along_axis(amounts, first[None], 0)[0]
    np.put_along_axis(amounts, first[None], -1, 0)
    other = amounts.argmax(axis=0)
    less = np.clip(np.take_along_axis(amounts, other[None], 0)[0], 0, None)
    share = less / np.maximum(largest + less, 1e-6)
    opacity = np.clip(core + halo * opacities.density, 0, 1)
    new = np.stack([first + 16 * other, np.rint(255 * share), np.rint(255 * opacity)], axis=-1).astype(np.uint8)
    inner = np.where(
        enhancing >= 0.5 * core,
        LABELS[PARTS.index("enhancing")],
        np.where(second > 0.5 * (core - enhancing), *(LABELS[PARTS.index(name)] for name in reversed(lesion.inner))),
    )
    faint = (halo >= _FAINT) | (core + halo >= 0.5)
    code = np.where(core >= 0.5, inner, np.where(faint, LABELS[PARTS.index("edema")], 255))
    return new, code


def _share(voxels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Share of the chosen tissues (tissues,) in voxels (..., 2)."""
    table = np.concatenate([chosen, np.zeros(16 - len(chosen), np.float32)])
    codes, share = voxels[..., 0], (voxels[..., 1] % INSIDE).astype(np.float32) / SHARE_STEPS
    return table[codes % 16] * (1 - share) + table[codes // 16] * share


def _gather(voxels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The nearest voxels to places (3, ...); air outside."""
    index = np.rint(places).astype(np.int32)
    inside = np.ones(places.shape[1:], bool)
    for axis, length in enumerate(voxels.shape[:3]):
        inside &= (index[axis] >= 0) & (index[axis] < length)
        np.clip(index[axis], 0, length - 1, out=index[axis])
    flat = (index[0] * voxels.shape[1] + index[1]) * voxels.shape[2] + index[2]
    pairs = np.asarray(voxels).reshape(-1, 2).view(np.uint16)[:, 0]
    return np.where(inside, pairs[flat], 0).astype(np.uint16)[..., None].view(np.uint8)


def _shown(
    rng: np.random.Generator, lattice: Lattice, head: Head, places: np.ndarray, voxels: np.ndarray, stripped: bool
) -> np.ndarray:
    """The voxels that the scan shows: all, or those inside the skull as a stripping finds them, good or bad."""
    if not stripped:
        return np.ones(lattice.shape, bool)
    if rng.random() < 0.5:
        return voxels[..., 1] >= INSIDE
    # A bad stripping follows a surface that lies further out in some places and further in in others.
    middle = _middle(head).astype(np.float32)[:, None, None, None]
    wander = rng.normal(0, 0.012) + np.float32(rng.uniform(0, 0.025)) * smooth_field(rng, lattice, 45.0, 8)
    return _gather(head.voxels, middle + (places - middle) * (1 + wander))[..., 1] >= INSIDE


def _near(lesion: Lesion, lattice: Lattice, reach: float) -> tuple[slice, slice, slice] | None:
    """The part of the lattice that is within `reach` mm of a lesion's centre along its axes; None if there is none."""
    place = np.linalg.solve(lattice.steps.T, lesion.centre - lattice.origin)
    span = reach / np.linalg.norm(lattice.steps, axis=1) * 1.05
    first = np.maximum(np.floor(place - span), 0).astype(int)
    stop = np.minimum(np.ceil(place + span) + 1, lattice.shape).astype(int)
    if (stop <= first).any():
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Turns about the three axes in order, (3, 3)."""
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        rotation = turn @ rotation
    return rotation
