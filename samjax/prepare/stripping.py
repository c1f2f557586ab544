"""Finds the brain in registered scans of a whole head, without learned weights.

Bone is dark in every modality, but brain, tumour and the fluid around are each bright in one of them. So the brightest
of the modalities at each voxel shows the inside of the skull as one bright body in a dark shell, and a smooth surface
grows from its middle to the shell (see `surface`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from samjax.errors import UserError
from samjax.prepare.surface import Surface, fill, grow, profiles

LEVELS = {True: 0.8, False: 0.65}
"""Share of the brightness inside at which the shell begins, with and without a T2, which shows fluid bright."""
VOLUME = (800.0, 2200.0)
"""Millilitres that a brain with its fluid has at least and at most."""
LEAST_SYMMETRY = 0.90
"""Dice of the brain's mask and its mirror image below which the mask is doubtful."""
LEAST_CLOSED = 0.90
"""Share of the surface that must have a dark layer just outside it."""
OUTWARD = 0.5
"""Millimetres by which the mask reaches beyond the surface found, so as not to cut into the brain."""
_START_RADIUS = 50.0
_UPPER_HEAD = 130.0
"""Millimetres from the top of the head that hold the brain; the neck lies below."""
_MIDDLE_RADIUS = 45.0
"""Millimetres around the middle of the upper head whose median is the brightness of brain."""
_LEAST_SLICE = 2000.0
"""Square millimetres of head from which on a slice counts as its top: not an ear, a tube, or noise."""
_SHELL = 6.0
"""Millimetres outside of the surface within which the dark layer must begin."""


@dataclass(frozen=True)
class Brain:
    """A brain that was found; `surface` in millimetres along the grid of the images, as in `Surface`."""

    surface: Surface
    volume: float
    """Millilitres."""
    symmetry: float
    """Dice of the mask and its mirror image."""
    closed: float
    """Share of the surface that has a dark layer just outside it."""

    @property
    def doubts(self) -> list[str]:
        """Sentences on what is unusual about it."""
        doubts = []
        if self.symmetry < LEAST_SYMMETRY:
            doubts.append(
                f"the brain's mask is not symmetric (Dice with its mirror image {self.symmetry:.2f}, usual is "
                f"{LEAST_SYMMETRY:.2f} or more): look at the picture"
            )
        if self.closed < LEAST_CLOSED:
            doubts.append(
                f"no skull is found around {100 * (1 - self.closed):.0f} % of the brain's mask: it may cut into the "
                "brain there, or reach out of it; look at the picture"
            )
        return doubts


def find_brain(images: Mapping[str, np.ndarray], spacing: float, case: str) -> Brain:
    """The brain in a case's registered scans.

    Args:
      images: by modality, (slice, row, column) float32 on one isotropic grid, slices from inferior to superior; 0 where
        a scan does not reach.
      spacing: millimetres between voxels.
      case: name of the case, for the error.

    Raises:
      UserError: what is found has not the volume of a brain.
    """
    middle = middle_of_head(images, spacing)
    body = bright_body(images, spacing, middle)
    surface = grow(body, spacing, middle, _START_RADIUS, LEVELS["t2" in images])
    lowest, highest = VOLUME
    if not lowest <= surface.volume <= highest:
        raise UserError(
            f"case {case}: the brain was not found, what was taken for it has {surface.volume:.0f} ml (expected "
            f"{lowest:.0f} to {highest:.0f}); strip the skull with another program and give prepare its stripped scans"
        )
    surface = surface.larger(OUTWARD)
    return Brain(surface, surface.volume, symmetry(surface), _closed(body, spacing, surface, LEVELS["t2" in images]))


def middle_of_head(images: Mapping[str, np.ndarray], spacing: float) -> np.ndarray:
    """The centre of mass of the upper head, (3,) millimetres along (slice, row, column)."""
    brightness = sum(np.sqrt(np.clip(image / max(np.percentile(image, 98), 1e-6), 0, 1)) for image in images.values())
    brightness = ndimage.gaussian_filter(brightness, 1.5 / spacing)
    head = brightness > _otsu(brightness)
    areas = head.sum(axis=(1, 2)) * spacing**2
    wide = np.flatnonzero(areas > _LEAST_SLICE)
    top = wide[-1] if len(wide) else head.shape[0] - 1
    lowest = max(0, top + 1 - round(_UPPER_HEAD / spacing))
    places = np.argwhere(head[lowest : top + 1])
    middle = places.mean(axis=0) if len(places) else np.array(head.shape) / 2
    return (middle + np.array([lowest, 0, 0])) * spacing


def bright_body(images: Mapping[str, np.ndarray], spacing: float, middle: np.ndarray) -> np.ndarray:
    """The brightest of the modalities at each voxel, as a share of brain's brightness, at most 1; float32.

    T1 with gadolinium is left out where there is another modality: it shows the membranes outside the brain bright.
    """
    used = [name for name in images if name != "t1gd"] or list(images)
    axes = (
        (np.arange(side) * spacing - centre) ** 2 for side, centre in zip(images[used[0]].shape, middle, strict=True)
    )
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    near = z + y + x < _MIDDLE_RADIUS**2
    body = np.zeros(images[used[0]].shape, np.float32)
    for name in used:
        inside = images[name][near]
        inside = inside[inside > 0]
        if inside.size:
            np.maximum(body, images[name] / np.float32(np.median(inside)), out=body)
    return ndimage.gaussian_filter(np.clip(body, 0, 1), 1.0 / spacing)


def symmetry(surface: Surface) -> float:
    """Dice of the inside of a surface and its mirror image, about the best plane near to the grid's own."""
    step = 4.0
    low = surface.vertices.min(axis=0) - 2 * step
    shape = tuple(np.ceil((surface.vertices.max(axis=0) + 2 * step - low) / step).astype(int).tolist())
    mask = fill(Surface(surface.vertices - low, surface.faces), (step,) * 3, shape)
    places = np.argwhere(mask).astype(float)
    middle = places.mean(axis=0)
    places -= middle
    best = 0.0
    for yaw in np.radians(np.arange(-20, 21, 4)):
        for roll in np.radians(np.arange(-20, 21, 4)):
            normal = np.array([np.sin(roll), np.sin(yaw) * np.cos(roll), np.cos(yaw) * np.cos(roll)])
            mirrored = places - 2 * np.outer(places @ normal, normal) + middle
            voxels = np.rint(mirrored).astype(int)
            voxels = voxels[((voxels >= 0) & (voxels < mask.shape)).all(axis=1)]
            best = max(best, float(np.count_nonzero(mask[tuple(voxels.T)])) / len(places))
    return best


def _closed(body: np.ndarray, spacing: float, surface: Surface, level: float) -> float:
    """The share of a surface with darkness just outside."""
    outside = profiles(body, spacing, surface, np.arange(-_SHELL, 0.1, 1.0)).min(axis=1)
    inside = profiles(body, spacing, surface, np.arange(0, 10.1, 2.0)).max(axis=1)
    return float(np.mean(outside < level * inside))


def _otsu(values: np.ndarray) -> float:
    """The threshold between two classes of values with the largest variance between them (Otsu 1979)."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * centres)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[np.nanargmax(between)])
