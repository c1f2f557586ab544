"""The scanner of the phantom: contrast of each modality, bias field, resolution and Rician noise."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from samjax.data.synthetic.brain import Field, Points, waves
from samjax.data.synthetic.tumour import COMPARTMENTS, Tumour

MODALITIES = ("t1", "t1gd", "t2", "flair")

# Brightness of each tissue, in the order of `brain.TISSUES`, as a share of white matter on t1.
_CONTRAST = {
    "t1": (1.00, 0.74, 0.84, 0.93, 0.28, 0.50, 0.60, 0.50, 0.84),
    "t1gd": (1.00, 0.78, 0.87, 0.95, 0.30, 2.10, 1.80, 1.50, 0.86),
    "t2": (0.72, 1.05, 0.86, 0.60, 2.50, 0.40, 1.60, 0.80, 1.35),
    "flair": (0.80, 0.97, 0.90, 0.72, 0.24, 0.40, 0.90, 1.10, 1.45),
}


@dataclass(frozen=True)
class Scanner:
    """Acquisition parameters of a site. `thickness` and `pixel` are the acquired voxel over the written one."""

    noise: tuple[float, float]  # range of the noise's standard deviation as a share of white matter
    bias: float  # standard deviation of the logarithm of the bias field
    blur: float  # in-plane point spread, standard deviation in millimetres
    pixel: float = 1.0
    thickness: float = 1.0
    slab: float = 0.0  # thickness in millimetres of slices that were acquired across `slab_axis`
    slab_axis: int = 2  # i, j or k


def usual_brightness() -> Field:
    """Brightness (4 modalities, tissues) as it is on average."""
    return np.asarray([_CONTRAST[m] for m in MODALITIES])


def tissue_contrast(rng: np.random.Generator) -> Field:
    """Brightness (4 modalities, tissues) of one examination, varied by a few per cent."""
    table = usual_brightness()
    return (table * rng.lognormal(0, 0.04, table.shape)).astype(np.float32)


def tumour_contrast(rng: np.random.Generator, tumour: Tumour) -> Field:
    """Brightness (4 modalities, COMPARTMENTS) of one tumour; varies more than healthy tissue does."""
    if tumour.necrotic:
        core = (0.48, 0.50, rng.uniform(1.6, 2.3), rng.uniform(0.5, 1.5))
    else:
        core = (0.64, 0.68, rng.uniform(1.3, 1.9), rng.uniform(1.1, 1.6))
    edema = (0.80, 0.82, rng.uniform(1.3, 1.9), rng.uniform(1.15, 1.7))
    if tumour.kind == "meningioma":  # about as bright as cortex until gadolinium is given
        core = (0.60, 0.75, rng.uniform(0.7, 1.9), rng.uniform(0.7, 1.3))
        enhancing = (0.76, rng.uniform(1.5, 2.1), rng.uniform(0.95, 1.4), rng.uniform(0.95, 1.4))
    else:
        enhancing = (0.78, rng.uniform(1.35, 1.95), rng.uniform(1.15, 1.7), rng.uniform(1.0, 1.5))
    by_name = {"non-enhancing": core, "edema": edema, "enhancing": enhancing}
    table = np.asarray([by_name[c] for c in COMPARTMENTS]).T
    return (table * rng.lognormal(0, 0.05, table.shape)).astype(np.float32)


@dataclass(frozen=True)
class Contrast:
    """How the tissues of one examination look: brightness of each in each modality, and its texture."""

    healthy: Callable[[np.random.Generator], Field]
    """Draws the brightness (4 modalities, tissues)."""
    diseased: Callable[[np.random.Generator], Field]
    """Draws the brightness (4 modalities, COMPARTMENTS)."""
    texture: float = 0.07
    """Standard deviation of the tumour's brightness from place to place, as a share of it."""


def usual_contrast(tumour: Tumour) -> Contrast:
    """The contrast of the domains that one scanner has seen."""
    return Contrast(tissue_contrast, lambda rng: tumour_contrast(rng, tumour))


def signal(rng: np.random.Generator, points: Points, fractions: Field, opacities: Field, contrast: Contrast) -> Field:
    """Noise-free brightness (4, n): healthy tissue with the tumour laid over it, both with some texture."""
    healthy = _mixed(contrast.healthy(rng), fractions)
    healthy *= 1 + 0.025 * waves(rng, points, 28.0) + 0.02 * waves(rng, points, 7.0)
    diseased = _mixed(contrast.diseased(rng), opacities)
    for row in diseased:
        row *= 1 + contrast.texture * waves(rng, points, 16.0, 12) + 0.03 * waves(rng, points, 6.0, 24)
    return healthy * (1 - opacities.sum(axis=0)) + diseased


def acquire(
    rng: np.random.Generator,
    volume: Field,
    mask: np.ndarray,
    spacing: tuple[float, float, float],
    scanner: Scanner,
) -> np.ndarray:
    """One modality as stored: int16 (i, j, k), exactly 0 outside `mask` and at least 1 inside."""
    from scipy import ndimage

    inside = mask.astype(np.float32)
    sigma = [scanner.blur / spacing[0], scanner.blur / spacing[1], 0.0]
    if scanner.slab:  # a box of that thickness has this standard deviation
        axis = scanner.slab_axis
        sigma[axis] = float(np.hypot(sigma[axis], scanner.slab / 12**0.5 / spacing[axis]))
    # Dividing by the blurred mask keeps the cut edge as bright as stripped scans have it.
    blurred = ndimage.gaussian_filter(volume, sigma, truncate=3) / np.maximum(
        ndimage.gaussian_filter(inside, sigma, truncate=3), 1e-3
    )
    noise = rng.uniform(*scanner.noise)
    if (scanner.pixel, scanner.thickness) != (1.0, 1.0):
        acquired = _resample(blurred * inside, _coarse(volume.shape, scanner)) / np.maximum(
            _resample(inside, _coarse(volume.shape, scanner)), 0.05
        )
        blurred = _resample(_rician(rng, acquired, noise), volume.shape)
    else:
        blurred = _rician(rng, blurred, noise)
    gain = rng.uniform(250, 1200)
    return np.where(mask, np.clip(blurred * gain, 1, 32767), 0).astype(np.int16)


def bias_field(rng: np.random.Generator, points: Points, strength: float) -> Field:
    """Multiplicative receive-coil shading (n,), smooth over the whole head."""
    return np.exp(np.float32(strength) * waves(rng, points, 260.0, 6))


def _mixed(contrast: Field, shares: Field) -> Field:
    return np.stack([sum(c * share for c, share in zip(row, shares, strict=True)) for row in contrast])


def _rician(rng: np.random.Generator, image: Field, sigma: float) -> Field:
    real = image + sigma * rng.standard_normal(image.shape, np.float32)
    imaginary = sigma * rng.standard_normal(image.shape, np.float32)
    return np.sqrt(real**2 + imaginary**2)


def _coarse(shape: tuple[int, ...], scanner: Scanner) -> tuple[int, int, int]:
    factors = (scanner.pixel, scanner.pixel, scanner.thickness)
    return tuple(max(1, round(n / f)) for n, f in zip(shape, factors, strict=True))


def _resample(volume: Field, shape: tuple[int, ...]) -> Field:
    from scipy import ndimage

    factors = [new / old for new, old in zip(shape, volume.shape, strict=True)]
    return ndimage.zoom(volume, factors, order=1, mode="nearest", grid_mode=True)
