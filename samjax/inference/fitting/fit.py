"""Fits a model's probabilities to the intensities of the one scan that they are of.

A network that has learnt from other scanners places a tumour well and draws its outline by contrasts that are not
those of this scan. Here its probabilities are the prior of an intensity model of the scan itself: each class (what is
no tumour, edema, core, ...) is a mixture of normal distributions of the modalities' logarithms, as in Van Leemput et
al. (1999) and, with a network as prior, Agn et al. (2019). By expectation maximisation the mixtures learn what the
classes look like where the network is sure, and the classes follow the mixtures, within the distance that the network
and neighbouring voxels allow. What also counts is how much brighter a place is on T2 and FLAIR than its mirror image
in the other half of the head. No labels and no other scans take part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samjax.data.cases import MODALITIES
from samjax.data.imaging.resampling import resampled, steps_between
from samjax.inference.fitting.mixture import Mixture, fitted_mixture
from samjax.inference.fitting.symmetry import mirrored_indices
from samjax.metrics.boxes import bounding_box


@dataclass(frozen=True)
class FitOptions:
    """How far a scan's intensities may move a model's probabilities."""

    spacing: float = 2.0
    """mm of the voxels on which the intensities are compared; axes that are coarser stay as they are."""
    background_parts: int = 5
    """Components of the mixture of what is no tumour."""
    class_parts: int = 2
    """Components of the mixture of every other class."""
    rounds: int = 8
    """Rounds of expectation maximisation."""
    weight: float = 0.5
    """Exponent of the likelihood: neighbouring voxels are not independent, so that each counts for less than one."""
    own: float = 0.5
    """Share of the prior that is the model's probability at the voxel; the rest is what the fit has found around it."""
    around: float = 6.0
    """Standard deviation in mm of what counts as around a voxel."""
    doubt: float = 2.5
    """How much lower the tumour's logit is where mixtures learn: from what is sure, not from what is likely."""
    least: float = 0.05
    """The smallest prior of the tumour and of what is none."""
    least_inner: float = 0.1
    """The smallest prior of a class within the tumour."""
    asymmetry: float = 4.0
    """Standard deviation in mm by which a scan is blurred before its halves are compared."""
    most_samples: int = 60_000
    """Voxels from which mixtures learn; of more, these many are drawn."""


DEFAULT = FitOptions()
_MIRRORED = ("t2", "flair")
_DARKEST = 0.05


def fit_classes(
    classes: np.ndarray, images: np.ndarray, spacing: Sequence[float], options: FitOptions = DEFAULT
) -> np.ndarray:
    """The probabilities of classes after the fit.

    Args:
        classes: (K, Z, rows, columns) float32, what is no tumour first; their sum is 1 at each voxel.
        images: (Z, rows, columns, 4) uint8: t1, t1gd, t2, flair, 0 outside of the brain; a modality that is 0
            everywhere is missing.
        spacing: mm along slices, rows and columns.

    Returns:
        (K, Z, rows, columns) float32; as they were where all modalities are 0, and everywhere if no voxel is tumour.
    """
    brain = images.any(axis=-1)
    box = bounding_box(brain)
    if box is None or not (classes[0][brain] < 0.5).any():
        return classes
    found = classes.copy()
    found[:, *box] = _fit(classes[:, *box], images[box], brain[box], np.asarray(spacing, float), options)
    return found


def _fit(
    classes: np.ndarray, images: np.ndarray, brain: np.ndarray, spacing: np.ndarray, options: FitOptions
) -> np.ndarray:
    coarse = tuple(max(1, min(n, round(n * mm / options.spacing))) for n, mm in zip(brain.shape, spacing, strict=True))
    down, up = steps_between(coarse, brain.shape), steps_between(brain.shape, coarse)
    mm = spacing * brain.shape / coarse
    share = resampled(brain, down)
    inside = share > 0.5
    own = resampled(classes, down)
    features = _features(images, brain, inside, share, down, mm, options)
    prior = _Prior(own[:, inside], inside, mm, options)
    likelihood, around = _expectation_maximisation(features[inside], prior, options)

    def upsampled(values: np.ndarray) -> np.ndarray:
        whole = np.zeros((len(values), *inside.shape), np.float32)
        whole[:, inside] = values
        weight = resampled(inside, up)
        return resampled(whole, up) / np.maximum(weight, 1e-3)

    mixed = options.own * classes + (1 - options.own) * upsampled(around)
    after = _normalised(options.weight * upsampled(likelihood) + np.log(_bounded(mixed, options)))
    return np.where(brain, after, classes)


def _features(
    images: np.ndarray,
    brain: np.ndarray,
    inside: np.ndarray,
    share: np.ndarray,
    down: Sequence,
    mm: np.ndarray,
    options: FitOptions,
) -> np.ndarray:
    """Features (z, y, x, D) float32 of the coarse grid: the logarithm of each modality over its median, and how much
    larger that of T2 and FLAIR is than at the mirror image."""
    from scipy import ndimage

    logs, mirrored = [], []
    place = None
    for number, name in enumerate(MODALITIES):
        image = images[..., number]
        if not image.any():
            continue
        level = np.median(image[brain])
        blurred = _blurred(resampled(image, down) / np.maximum(share, 1e-3), inside, 1.0 / mm)
        logs.append(np.log(np.maximum(blurred / max(level, 1.0), _DARKEST)))
        if name in _MIRRORED:
            place = mirrored_indices(inside, mm) if place is None else place
            smooth = _blurred(logs[-1], inside, options.asymmetry / mm)
            there = ndimage.map_coordinates(inside.astype(np.float32), place, order=1) > 0.5
            mirrored.append(np.where(there, smooth - ndimage.map_coordinates(smooth, place, order=1), 0))
    return np.stack([*logs, *mirrored], axis=-1).astype(np.float32)


def _blurred(values: np.ndarray, inside: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Values (z, y, x) blurred with a standard deviation in voxels, those outside of a mask left out."""
    from scipy import ndimage

    total = ndimage.gaussian_filter(np.where(inside, values, 0).astype(np.float32), deviation, truncate=3)
    weight = ndimage.gaussian_filter(inside.astype(np.float32), deviation, truncate=3)
    return total / np.maximum(weight, 1e-3)


@dataclass(frozen=True)
class _Prior:
    """The prior of classes on the coarse grid."""

    own: np.ndarray
    """The model's probabilities (K, n) float32 of the voxels inside."""
    inside: np.ndarray
    mm: np.ndarray
    options: FitOptions

    def around(self, found: np.ndarray) -> np.ndarray:
        """The mean (K, n) of probabilities (K, n) around each voxel."""
        whole = np.zeros(self.inside.shape, np.float32)
        blurred = []
        for one in found:
            whole[self.inside] = one
            blurred.append(_blurred(whole, self.inside, self.options.around / self.mm)[self.inside])
        return np.stack(blurred)

    def log(self, around: np.ndarray) -> np.ndarray:
        """The logarithm (K, n) of the prior, given what was found around each voxel."""
        own = self.options.own
        return np.log(_bounded(own * self.own + (1 - own) * around, self.options))


def _bounded(prior: np.ndarray, options: FitOptions) -> np.ndarray:
    """A prior (K, ...) whose classes have at least their smallest share."""
    tumour, count = prior[1:].sum(axis=0), len(prior) - 1
    within = np.where(tumour > 1e-6, prior[1:] / np.maximum(tumour, 1e-6), 1 / count)
    if count > 1:
        within = (1 - count * options.least_inner) * within + options.least_inner
    tumour = np.clip(tumour, options.least, 1 - options.least)
    return np.concatenate([1 - tumour[None], within * tumour]).astype(np.float32)


def _normalised(logarithms: np.ndarray) -> np.ndarray:
    """Probabilities (K, ...) from their logarithms up to a constant."""
    values = np.exp(logarithms - logarithms.max(axis=0))
    return values / values.sum(axis=0)


def _expectation_maximisation(
    features: np.ndarray, prior: _Prior, options: FitOptions
) -> tuple[np.ndarray, np.ndarray]:
    """The logarithm of each class's density, and the probabilities around each voxel, (K, n) each, after all rounds."""
    rng = np.random.default_rng(0)
    found = prior.own
    drawn = rng.permutation(len(features))[: options.most_samples]
    samples = features[drawn]
    counts = [options.background_parts] + [options.class_parts] * (len(found) - 1)
    sure = _doubted(found[:, drawn], options.doubt)
    mixtures = [fitted_mixture(samples, one, count, rng) for one, count in zip(sure, counts, strict=True)]
    for _ in range(options.rounds):
        around = prior.around(found)
        found = _normalised(options.weight * _densities(mixtures, features) + prior.log(around))
        sure = _doubted(found[:, drawn], options.doubt)
        mixtures = [mixture.updated(samples, one) for mixture, one in zip(mixtures, sure, strict=True)]
    return _densities(mixtures, features), prior.around(found)


def _doubted(classes: np.ndarray, doubt: float) -> np.ndarray:
    """Classes (K, n) with the logit of their tumour lowered by `doubt`; the classes in it keep their proportions."""
    tumour = 1 - classes[0]
    odds = tumour / np.maximum(classes[0], 1e-6) * np.exp(-np.float32(doubt))
    less = odds / (1 + odds)
    return np.concatenate([1 - less[None], classes[1:] * (less / np.maximum(tumour, 1e-6))]).astype(np.float32)


def _densities(mixtures: Sequence[Mixture], features: np.ndarray) -> np.ndarray:
    return np.stack([mixture.log_density(features) for mixture in mixtures])
