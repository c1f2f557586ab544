"""Warnings about scans that can be read but differ from the skull-stripped scans that models here are trained on.

A doubt is a sentence for a person to judge; no scan is refused because of it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from samjax.data.cases import MODALITIES, Case
from samjax.data.formats.nifti import read_header
from samjax.data.imaging.background import background_of, commonest, edge
from samjax.data.imaging.geometry import Geometry
from samjax.data.imaging.grids import RunGrid
from samjax.data.imaging.volumes import Scan
from samjax.errors import UserError

RANGES = "training_ranges.json"
"""Name of the file with the `Ranges` of a run."""
TOLERANCE = {"spacing": 0.1, "thickness": 0.1, "extent": 0.2, "height": 0.2}
"""Share by which each quantity may lie outside its range."""
WORDS = {
    "spacing": "voxel spacing in the slice",
    "thickness": "slice thickness (distance between slices)",
    "extent": "field of view in the slice",
    "height": "field of view across the slices",
}
EDGE_BACKGROUND = 0.9
"""The least share of the voxels at the edge that is background around a skull-stripped brain, cropped or not."""
MOST_BRAIN_ML = 2200.0
"""Millilitres: the largest brains with their fluid have less than 2000."""
PLATEAU = 0.2
"""Share of the foreground's voxels from which on a single value is suspicious."""
LEAST_OVERLAP = 0.7
"""Dice from which on what two modalities show counts as the same brain. In ten cases of BraTS 2018 it is above 0.98,
but 0.80 for a FLAIR that lacks a third of the slices."""
MOST_SHOWN = 0.8
"""Share of the voxels up to which what is not background is compared: a head in noise fills all of them."""
_TOO_FAR = 0.5
"""Share of a voxel by which qform and sform may disagree."""
_STEP = 3
"""Step in voxels along each axis at which shares are counted."""


@dataclass(frozen=True)
class Ranges:
    """The least and largest values of a set of scans, in millimetres."""

    spacing: tuple[float, float]
    """Distance between voxels along rows and columns."""
    thickness: tuple[float, float]
    """Distance between slices."""
    extent: tuple[float, float]
    """Length of the longer side of a slice."""
    height: tuple[float, float]
    """Distance from the first to the last slice."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


USUAL = Ranges((0.4, 1.6), (0.4, 2.5), (0, np.inf), (0, np.inf))
"""Usual ranges, around the 1 mm of BraTS and the Decathlon, for scans that are not compared with a run."""


def ranges_of(geometries: Iterable[Geometry]) -> Ranges:
    """The ranges of a set of scans, at least one."""
    each = [_measured(geometry) for geometry in geometries]
    return Ranges(
        **{name: (min(min(one[name]) for one in each), max(max(one[name]) for one in each)) for name in WORDS}
    )


def read_ranges(run: Path) -> Ranges | None:
    """The ranges of the scans that the run in a folder was trained on; None if the run did not record them.

    Raises:
      UserError: the file cannot be read.
    """
    path = run / RANGES
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        return Ranges(**{name: (float(content[name][0]), float(content[name][1])) for name in WORDS})
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path}: not the ranges of a run's training data ({error})") from None


def geometry_doubts(geometry: Geometry, ranges: Ranges, whose: str, grid: RunGrid | None = None) -> list[str]:
    """Sentences on each quantity of a scan's grid that lies outside the ranges of `whose` ("the training data").

    Spacings that are resampled to a run's `grid` give no doubt where they are too fine; where they are too coarse,
    resampling adds no detail.
    """
    doubts = []
    resampled = {"spacing": grid is not None, "thickness": grid is not None and grid.slices is not None}
    for name, values in _measured(geometry).items():
        low, high = getattr(ranges, name)
        least, most = low / (1 + TOLERANCE[name]), high * (1 + TOLERANCE[name])
        if max(values) > most or (min(values) < least and not resampled.get(name)):
            text = " x ".join(f"{value:.3g}" for value in dict.fromkeys(values))
            more = f"; it is resampled to {grid.words}, which adds no detail" if resampled.get(name) else ""
            doubts.append(f"{WORDS[name]} {text} mm; {whose} {_range(low, high)}{more}")
    return doubts


def header_doubts(case: Case) -> list[tuple[Path, str]]:
    """The image files of a case whose header gives no place in space, or two that disagree, each with what is wrong."""
    paths = dict.fromkeys(case.images[modality].path for modality in case.modalities)
    headers = {path: read_header(path) for path in paths}
    found = [(path, text) for path, header in headers.items() if (text := _disagreement(header))]
    if unplaced := [path for path, header in headers.items() if not header["qform_code"] and not header["sform_code"]]:
        how_many = f"{len(unplaced)} of {len(paths)} headers give" if len(paths) > 1 else "the header gives"
        found.append((unplaced[0], f"{how_many} no orientation (neither qform nor sform): left and right are assumed"))
    return found


def image_doubts(images: Mapping[str, tuple[np.ndarray, float]], geometry: Geometry) -> list[str]:
    """Signs that an image is not a skull-stripped head on a constant background, or not where the others are.

    Args:
      images: by modality, (slice, row, column) and the value of the background.
      geometry: geometry of all images.
    """
    sampled = {name: (array[::_STEP, ::_STEP, ::_STEP], background) for name, (array, background) in images.items()}
    if apart := _apart({name: array != background for name, (array, background) in sampled.items()}):
        return [apart]
    edges = {name: float(np.mean(edge(array) == background)) for name, (array, background) in images.items()}
    if loose := [name for name, share in edges.items() if share < EDGE_BACKGROUND]:
        share = min(edges.values())
        return [
            f"{', '.join(loose)}: only {100 * share:.0f} % of the voxels at the edge are background; expected a "
            "constant background around a skull-stripped brain, and what is not background is taken for brain"
        ]
    doubts = []
    voxel = float(np.prod(geometry.spacing)) / 1000
    filled = {name: float(np.mean(array != background)) for name, (array, background) in sampled.items()}
    most = max(filled, key=filled.get)
    if (volume := filled[most] * np.prod(geometry.shape) * voxel) > MOST_BRAIN_ML:
        doubts.append(
            f"{most}: {volume:.0f} ml are not background, a brain has at most {MOST_BRAIN_ML:.0f}; "
            "is it skull-stripped?"
        )
    for name, (array, background) in sampled.items():
        inside = array[array != background]
        value, share = commonest(inside) if inside.size else (0.0, 0.0)
        if share > PLATEAU and inside.size > 100:
            doubts.append(
                f"{name}: {100 * share:.0f} % of what is not background ({background:g}) has one and the same value "
                f"({value:g}), which may be background too"
            )
    return doubts


def case_doubts(
    case: Case, prepared: np.ndarray, geometry: Geometry, ranges: Ranges | None, grid: RunGrid | None = None
) -> list[str]:
    """All doubts of a case from its prepared images (slices, rows, columns, 4) uint8, whose background is 0.

    Args:
      ranges: ranges of the training data; None if they are not known.
      grid: the grid that a run resamples the case to; None if it does not.
    """
    images = {name: (prepared[..., channel], 0.0) for channel, name in enumerate(MODALITIES) if name in case.images}
    outside = geometry_doubts(geometry, ranges, "the training data have", grid) if ranges else []
    headers = [f"{path.name}: {text}" for path, text in header_doubts(case)]
    return [*outside, *headers, *image_doubts(images, geometry)]


def scan_doubts(
    case: Case, scans: Sequence[Scan], ranges: Ranges | None, grid: RunGrid | None = None
) -> list[tuple[Path, str]]:
    """All doubts of a case from its scans as stored, with the file that each is about.

    Args:
      scans: scans of all its modalities; others are passed over.
      ranges: ranges of the training data; None: usual ranges.
      grid: the grid that a run resamples the case to; None if it does not.
    """
    by_source = {scan.source: scan for scan in scans}
    own = {name: by_source[case.images[name]] for name in case.modalities}
    images = {name: (scan.array, background_of(scan.array)) for name, scan in own.items()}
    geometry = by_source[case.reference].geometry
    outside = geometry_doubts(geometry, ranges or USUAL, "the training data have" if ranges else "usual is", grid)
    first = case.reference.path
    return [*((first, text) for text in [*outside, *image_doubts(images, geometry)]), *header_doubts(case)]


def _apart(shown: Mapping[str, np.ndarray]) -> str | None:
    """The modality that overlaps least with the others, if that is too little; from what each shows, bool."""
    brains = {name: mask for name, mask in shown.items() if 0 < mask.mean() <= MOST_SHOWN}
    best = {
        name: max((_dice(mask, brains[other]) for other in brains if other != name), default=1.0)
        for name, mask in brains.items()
    }
    worst = min(best, key=best.get, default=None)
    if worst is None or best[worst] >= LEAST_OVERLAP:
        return None
    return (
        f"{worst}: what it shows overlaps with the other modalities by a Dice of {best[worst]:.2f} at most, expected "
        f"{LEAST_OVERLAP} or more; is it registered to them, and does it show all of the brain?"
    )


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def _measured(geometry: Geometry) -> dict[str, tuple[float, ...]]:
    thickness, *spacing = geometry.spacing
    slices, *sides = geometry.shape
    extent = max(side * step for side, step in zip(sides, spacing, strict=True))
    return {
        "spacing": tuple(spacing),
        "thickness": (thickness,),
        "extent": (extent,),
        "height": (slices * thickness,),
    }


def _disagreement(header: nib.Nifti1Header) -> str | None:
    """The disagreement between the qform and the sform of a header, if it has both."""
    if not header["qform_code"] or not header["sform_code"]:
        return None
    sform = header.get_sform()
    try:
        qform = header.get_qform()
    except (ValueError, nib.spatialimages.HeaderDataError) as error:
        return f"its qform cannot be used ({error}); the sform is"
    corners = np.array(np.meshgrid(*((0, side - 1) for side in header.get_data_shape()[:3]), [1])).reshape(4, -1)
    apart = float(np.linalg.norm((qform - sform)[:3] @ corners, axis=0).max())
    smallest = float(np.linalg.norm(sform[:3, :3], axis=0).min())
    if apart <= _TOO_FAR * smallest:
        return None
    return f"its qform and sform put the voxels up to {apart:.3g} mm apart; the sform is used"


def _range(low: float, high: float) -> str:
    return f"{low:.3g} mm" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g} mm"
