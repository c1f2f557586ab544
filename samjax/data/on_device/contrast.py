"""The brightness of every tissue in every modality, drawn anew for each sample inside the compiled step.

Relaxation times are about those at 3 T (Stanisz et al. 2005 and Wansapura et al. 1999 for white and grey matter and
muscle, Rooney et al. 2007 for fluid; tumours and edema within the ranges that Just and Thelen 1988 and Badve et al.
2017 report), varied by tens of per cent, since field strengths and scanners differ. They go through the signal
equations of a spin or gradient echo, of an inversion recovery and of contrast agent. In a share of the modalities the
healthy tissues get any brightness at all, as in SynthSeg (Billot et al. 2023), so that a model cannot rely on one
contrast. The direction in which disease differs from white matter is kept: darker on T1, brighter on T2 and FLAIR, and
what takes up contrast agent brighter after it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from samjax.data.cases import MODALITIES
from samjax.data.on_device.draws import Draws
from samjax.data.synthetic.anatomy import HEAD_TISSUES
from samjax.data.synthetic.lesions import PARTS

MATERIALS = (*HEAD_TISSUES, *PARTS)

# T1 and T2 in milliseconds, density of protons, and the range of the rise of 1 / T1 after contrast agent, in 1/s.
_PHYSICS = {
    "air": (1000, 30, 0.0, 0, 0),
    "white": (850, 70, 0.70, 0, 0.02),
    "grey": (1350, 92, 0.82, 0, 0.04),
    "thalamus": (1150, 80, 0.77, 0, 0.04),
    "pallidum": (1000, 58, 0.73, 0, 0.04),
    "csf": (4200, 1200, 1.00, 0, 0.01),
    "vessel": (1600, 40, 0.45, 1.0, 8.0),
    "choroid": (1600, 130, 0.90, 0.5, 4.0),
    "dura": (1200, 50, 0.65, 0.1, 2.5),
    "gliosis": (1200, 120, 0.78, 0, 0.05),
    "bone": (800, 10, 0.10, 0, 0.1),
    "fat": (360, 100, 1.00, 0, 0.1),
    "muscle": (1350, 45, 0.75, 0.1, 0.8),
    "eye": (4000, 1000, 1.00, 0, 0.01),
    "edema": (1450, 145, 0.86, 0, 0.08),
    "solid": (1500, 130, 0.85, 0, 0.25),
    "necrosis": (2200, 200, 0.92, 0, 0.25),
    "enhancing": (1400, 112, 0.84, 0.45, 4.0),
    "cyst": (3000, 500, 0.97, 0, 0.05),
    "blood": (900, 80, 0.80, 0, 0.2),
    "cavity": (3800, 1000, 1.00, 0, 0.05),
}
# Standard deviations of the logarithm of T1 and T2.
_SPREAD = {
    "edema": (0.15, 0.22),
    "solid": (0.18, 0.25),
    "necrosis": (0.25, 0.35),
    "enhancing": (0.15, 0.22),
    "cyst": (0.25, 0.45),
    "blood": (0.55, 0.70),
    "gliosis": (0.15, 0.25),
    "vessel": (0.30, 0.50),
}
_HEALTHY = len(HEAD_TISSUES)
_T1, _T1GD, _T2, _FLAIR = range(len(MODALITIES))


def number(material: str) -> int:
    """The place of a material in `MATERIALS`."""
    return MATERIALS.index(material)


class Contrast(NamedTuple):
    """Brightness of an examination.

    `mean` (4, materials): of each modality and material, in any unit. `texture` (4, materials): standard deviation of
    the smooth pattern within a material, in the same unit.
    """

    mean: jax.Array
    texture: jax.Array


def draw_contrast(draws: Draws, random_share: float = 0.08) -> Contrast:
    """The contrast of one sample.

    Args:
        random_share: share of the modalities whose healthy tissues have any brightness.
    """
    mean = _physical(draws)
    mean = mean / jnp.maximum(mean[:, 1:_HEALTHY].mean(axis=1, keepdims=True), 1e-3)
    free = draws.chance(random_share, (len(MODALITIES), 1))
    mean = jnp.where(free, _any_healthy(draws, mean), mean)
    mean = _with_direction(draws, mean)
    return Contrast(mean, _texture(draws, mean))


def _physical(draws: Draws) -> jax.Array:
    """Signal of each material (4, materials) by the signal equations."""
    table = np.array([_PHYSICS[name] for name in MATERIALS], np.float32)
    spread = np.array([_SPREAD.get(name, (0.06, 0.10)) for name in MATERIALS], np.float32)
    count = len(MATERIALS)
    t1 = table[:, 0] * jnp.exp(spread[:, 0] * draws.normal((count,)) + draws.uniform((), -0.25, 0.1))
    t2 = table[:, 1] * jnp.exp(spread[:, 1] * draws.normal((count,)) + draws.uniform((), -0.1, 0.2))
    density = table[:, 2] * jnp.exp(0.04 * draws.normal((count,)))
    rise = table[:, 3] + (table[:, 4] - table[:, 3]) * draws.uniform((count,)) ** 1.5
    after = 1 / (1 / t1 + rise / 1000)

    def weighted(t1: jax.Array, spoil: jax.Array, wait: jax.Array, echo: jax.Array) -> jax.Array:
        return density * jnp.abs(1 - spoil * jnp.exp(-wait / t1)) * jnp.exp(-echo / t2)

    first = [draws.uniform((), *limits) for limits in ((1.0, 1.3), (400, 1000), (3, 18))]
    second = [draws.uniform((), *limits) for limits in ((1.0, 1.3), (400, 1000), (3, 18))]
    same = draws.chance(0.5)  # before and after contrast agent with one protocol, or with two
    second = [jnp.where(same, a, b) for a, b in zip(first, second, strict=True)]
    slow = weighted(t1, jnp.float32(1.0), draws.uniform((), 2500, 6000), draws.uniform((), 75, 125))
    repeat, inversion = draws.uniform((), 7000, 11000), draws.uniform((), 1950, 2550)
    recovered = jnp.abs(1 - 2 * jnp.exp(-inversion / t1) + jnp.exp(-repeat / t1))
    flair = density * recovered * jnp.exp(-draws.uniform((), 85, 145) / t2)
    signal = jnp.stack([weighted(t1, *first), weighted(after, *second), slow, flair])
    # Gains of the tissues that no equation has, such as flow, magnetisation transfer or iron.
    return signal * jnp.exp(0.05 * draws.normal(signal.shape))


def _any_healthy(draws: Draws, mean: jax.Array) -> jax.Array:
    """The means with any brightness for each healthy tissue but air; disease keeps its ratio to white matter."""
    drawn = draws.uniform((len(MODALITIES), _HEALTHY), 0.15, 1.3)
    drawn = drawn.at[:, number("air")].set(0)
    white = number("white")
    ratio = drawn[:, white] / jnp.maximum(mean[:, white], 1e-3)
    return jnp.concatenate([drawn, mean[:, _HEALTHY:] * ratio[:, None]], axis=1)


def _with_direction(draws: Draws, mean: jax.Array) -> jax.Array:
    """Moves disease that differs from white matter the wrong way, or too little, to the least difference."""
    least = draws.uniform((len(MODALITIES), len(MATERIALS)), 0.08, 0.45)
    white = mean[:, number("white")]

    def darker(mean: jax.Array, modality: int, part: str) -> jax.Array:
        place = modality, number(part)
        return mean.at[place].min(white[modality] * (1 - 0.6 * least[place]))

    def brighter(mean: jax.Array, modality: int, part: str, than: jax.Array) -> jax.Array:
        place = modality, number(part)
        return mean.at[place].max(than * (1 + least[place]))

    for part in ("edema", "solid", "necrosis", "cyst", "cavity"):
        for modality in (_T1, _T1GD):
            mean = darker(mean, modality, part)
    mean = darker(mean, _T1, "enhancing")
    for part in ("edema", "solid", "gliosis"):
        for modality in (_T2, _FLAIR):
            mean = brighter(mean, modality, part, white[modality])
    for part in ("necrosis", "enhancing", "cyst"):
        mean = brighter(mean, _T2, part, white[_T2])
    mean = brighter(mean, _FLAIR, "enhancing", white[_FLAIR])
    before = mean[_T1, number("enhancing")] / jnp.maximum(white[_T1], 1e-3)
    core = jnp.maximum(mean[_T1GD, number("solid")], before * white[_T1GD])
    return brighter(mean, _T1GD, "enhancing", core)


def _texture(draws: Draws, mean: jax.Array) -> jax.Array:
    """Standard deviation of the pattern within each material: slight in health, strong in disease and in flow."""
    healthy = draws.uniform((len(MODALITIES), 1), 0.0, 0.06)
    disease = draws.uniform((len(MODALITIES), 1), 0.04, 0.22)
    is_part = np.arange(len(MATERIALS)) >= _HEALTHY
    texture = jnp.where(is_part, disease, healthy) * mean
    # Fluid that moves is bright in places where FLAIR should have nulled it.
    flow = jnp.array([0.02, 0.02, 0.05, 0.5]) * draws.uniform((len(MODALITIES),)) ** 2
    return texture.at[:, number("csf")].add(flow * mean[:, number("white")])
