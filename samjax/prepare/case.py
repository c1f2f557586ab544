"""Prepares one case: registers its modalities, finds the brain and resamples all to one grid."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samjax.data.cases import MODALITIES
from samjax.data.formats.nifti import Nifti
from samjax.data.imaging.volumes import Scan, read_scan
from samjax.errors import UserError
from samjax.prepare.agreement import Agreement, agreement
from samjax.prepare.finding import CaseScans
from samjax.prepare.grid import Grid, points_to_voxels, voxels_to_points
from samjax.prepare.itk import coarser, grid_of, resampled, rigid_matrix, simple_itk, to_itk, upright
from samjax.prepare.recognition import stripped_brain
from samjax.prepare.registration import register
from samjax.prepare.stripping import Brain, find_brain
from samjax.prepare.surface import Surface, fill

REFERENCES = ("t1gd", "t1", "t2", "flair")
"""Modalities in the order in which they are taken for the reference: the first is mostly the finest."""
WORKING = 1.5
"""Millimetres between the voxels on which the brain is searched and scans compared; more if the scans are coarser."""
UNMOVED = 0.3
"""A scan that registration would move by less than so many millimetres anywhere in the brain stays where it is, or by
less than a tenth of the voxels that are compared, where these are coarse."""
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Movement:
    """How one modality's scan was registered to the reference."""

    transform: Any
    """SimpleITK transform from points of the reference to points of the scan; None for a scan that stays."""
    matrix: np.ndarray
    """The same, 4 x 4, between RAS millimetres."""
    shift: float
    """Millimetres by which it moves the middle of the brain."""
    degrees: float
    """Angle by which it turns."""
    agreement: Agreement


@dataclass(frozen=True)
class Shown:
    """What the picture shows, on the working grid: (slice, row, column) float32, NaN where a scan does not reach."""

    before: Mapping[str, np.ndarray]
    after: Mapping[str, np.ndarray]
    brain: np.ndarray


@dataclass(frozen=True)
class Prepared:
    """A case whose modalities lie on one grid, without skull.

    `images` by modality, (slice, row, column) int16 or float32 with 0 outside of `brain`, a bool mask.
    """

    scans: CaseScans
    reference: str
    grid: Grid
    images: Mapping[str, np.ndarray]
    brain: np.ndarray
    movements: Mapping[str, Movement]
    """By modality, without the reference."""
    stripped: tuple[str, ...]
    """The modalities that came without skull."""
    found: Brain | None
    """The brain, where it was searched."""
    doubts: tuple[str, ...]
    shown: Shown


@dataclass(frozen=True)
class _Read:
    """One modality as read: the scan, its SimpleITK image, and the brain's mask if it is stripped."""

    scan: Scan
    image: Any
    brain: Any = field(default=None)
    """SimpleITK image (float32, 0 or 1) of the same grid; None for a scan with a skull."""


def prepare_case(scans: CaseScans, reference: str | None, spacing: tuple[float, float, float]) -> Prepared:
    """Prepares the scans of a case.

    Args:
      scans: the case.
      reference: modality that the others are registered to; None: the first of `REFERENCES` that is there, and that is
        stripped if any is.
      spacing: millimetres between slices, rows and columns of the result.

    Raises:
      UserError: a file cannot be used, the reference is missing, or no brain is found.
    """
    read = _read(scans)
    reference = _choose_reference(scans, read, reference)
    fixed = read[reference]
    others = [name for name in read if name != reference]
    with ThreadPoolExecutor(max(1, min(len(others), os.cpu_count() or 1))) as pool:
        moves = dict(zip(others, pool.map(lambda name: _register(fixed, read[name]), others), strict=True))

    step = max(WORKING, min(fixed.scan.geometry.spacing))
    working = grid_of(fixed.image).resized((step,) * 3)
    before = {name: _on_working(read[name].image, working, None) for name in read}
    after = {
        name: _on_working(read[name].image, working, moves[name]) if name in moves else before[name] for name in read
    }
    stripped = tuple(name for name in MODALITIES if name in read and read[name].brain is not None)
    found = None
    if stripped:
        brain = _union(read, moves, stripped, working)
        points = voxels_to_points(np.argwhere(brain), working.affine)
    else:
        found = find_brain({name: np.nan_to_num(image) for name, image in after.items()}, step, scans.id)
        brain = fill(found.surface, working.spacing, working.shape)
        points = voxels_to_points(found.surface.vertices / step, working.affine)
    least = max(UNMOVED, step / 10)
    moves = {name: move if _farthest(move, points) > least else None for name, move in moves.items()}
    movements = {
        name: _movement(move, points, agreement(after[reference], before[name], after[name], brain, step))
        for name, move in moves.items()
    }

    own = grid_of(fixed.image)
    kept = fixed.brain is not None and np.allclose(own.spacing, spacing, rtol=1e-3)
    grid = own if kept else own.around(points, spacing)
    mask = _union(read, moves, stripped, grid) if stripped else _inside(found.surface, working, grid)
    images = {name: _written(one, grid, moves.get(name), mask) for name, one in read.items()}
    doubts = [*(found.doubts if found else []), *_doubts(movements, reference)]
    shown = Shown(before, after, brain)
    return Prepared(scans, reference, grid, images, mask, movements, stripped, found, tuple(doubts), shown)


def _read(scans: CaseScans) -> dict[str, _Read]:
    opened: dict[Path, Nifti] = {}
    read = {}
    for name, source in scans.images.items():
        scan = read_scan(source, opened)
        if scan.array.min() == scan.array.max():
            raise UserError(f"{scan.name}: empty, every voxel is {scan.array.flat[0]:g}; leave it out of the case")
        grid = upright(scan.geometry.oriented_affine, scan.geometry.shape, scan.name)
        brain = stripped_brain(scan.array, scan.geometry.spacing)
        read[name] = _Read(scan, to_itk(scan.array, grid), None if brain is None else to_itk(brain, grid))
    return read


def _choose_reference(scans: CaseScans, read: Mapping[str, _Read], asked: str | None) -> str:
    if asked is not None:
        if asked not in read:
            raise UserError(f"case {scans.id}: has no {asked} (--reference); it has {', '.join(read)}")
        return asked
    there = [name for name in REFERENCES if name in read]
    return next((name for name in there if read[name].brain is not None), there[0])


def _register(fixed: _Read, moving: _Read) -> Any:
    """The transform from points of `fixed` to points of `moving`.

    Where only one of the two is stripped, its brain is what they have in common.
    """
    sitk = simple_itk()
    if (fixed.brain is None) == (moving.brain is None):
        return register(fixed.image, moving.image)
    if fixed.brain is not None:
        return register(fixed.image, moving.image, sitk.Cast(fixed.brain, sitk.sitkUInt8))
    back = register(moving.image, fixed.image, sitk.Cast(moving.brain, sitk.sitkUInt8))
    return sitk.Euler3DTransform(back.GetInverse())


def _on_working(image: Any, working: Grid, transform: Any) -> np.ndarray:
    return resampled(coarser(image, working.spacing[0]), working, transform, outside=np.nan)


def _union(read: Mapping[str, _Read], moves: Mapping[str, Any], stripped: tuple[str, ...], grid: Grid) -> np.ndarray:
    """The voxels of a grid that are brain in any of the stripped scans."""
    brains = [resampled(read[name].brain, grid, moves.get(name)) >= 0.5 for name in stripped]
    return np.logical_or.reduce(brains)


def _inside(surface: Surface, working: Grid, grid: Grid) -> np.ndarray:
    """The voxels of a grid inside a surface of the working grid; the two grids have the same axes."""
    places = points_to_voxels(voxels_to_points(surface.vertices / working.spacing, working.affine), grid.affine)
    return fill(Surface(places * grid.spacing, surface.faces), grid.spacing, grid.shape)


def _farthest(transform: Any, points: np.ndarray) -> float:
    """The largest distance in millimetres by which a transform moves points in RAS."""
    return float(np.linalg.norm(voxels_to_points(points, rigid_matrix(transform)) - points, axis=1).max())


def _movement(transform: Any, points: np.ndarray, agreed: Agreement) -> Movement:
    if transform is None:
        return Movement(None, np.eye(4), 0.0, 0.0, agreed)
    matrix = rigid_matrix(transform)
    middle = points.mean(axis=0, keepdims=True)
    shift = float(np.linalg.norm(voxels_to_points(middle, matrix) - middle))
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))
    return Movement(transform, matrix, shift, degrees, agreed)


def _written(one: _Read, grid: Grid, transform: Any, mask: np.ndarray) -> np.ndarray:
    """A modality on the grid of the result, 0 outside of the brain."""
    values = resampled(one.image, grid, transform, smooth=one.brain is None)
    values = np.where(mask, values, np.float32(0))
    source = one.scan.array
    if source.dtype.kind in "iu" and _INT16.min <= source.min() and source.max() <= _INT16.max:
        return np.rint(values).astype(np.int16)
    return values


def _doubts(movements: Mapping[str, Movement], reference: str) -> list[str]:
    return [doubt for name, movement in movements.items() for doubt in movement.agreement.doubts(name, reference)]
