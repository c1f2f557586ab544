"""Makes the four modalities of a generated window from its tissues, inside the compiled step.

The order is that of a scan: contrast, patterns within tissues, shading of the coils, thick slices, point spread with
motion and errors of registration, noise, removal of the skull, and the percentile normalisation that real scans get.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from samjax.data.cases import MODALITIES
from samjax.data.imaging.normalise import PERCENTILES
from samjax.data.on_device.contrast import MATERIALS, Contrast, draw_contrast
from samjax.data.on_device.draws import Draws
from samjax.data.synthetic.anatomy import HEAD_TISSUES, INSIDE, SHARE_STEPS
from samjax.data.synthetic.windows import MARGIN

_COUNT = len(MODALITIES)
_LEVELS = 96
_CODES = 16


@dataclass(frozen=True)
class Appearance:
    """Strength of what is drawn; ranges are uniform unless said otherwise."""

    random_share: float = 0.08
    """Share of the modalities with any contrast of the healthy tissues."""
    noise: tuple[float, float] = (0.005, 0.07)
    """Standard deviation of the noise as a share of white matter's brightness; its logarithm is uniform."""
    bias: float = 0.25
    """Largest standard deviation of the logarithm of the coils' shading."""
    blur: tuple[float, float] = (0.3, 1.3)
    """Standard deviation of the point spread in pixels."""
    coarse_share: float = 0.12
    """Share of the modalities with more than twice that blur, along rows and columns each: thick slices of other planes
    look like that."""
    thick_share: float = 0.4
    """Share of the modalities with slices of 2 to 5 mm."""
    shift: float = 1.0
    """Largest error of registration in pixels along each axis."""
    motion_share: float = 0.15
    """Share of the modalities with a ghost."""


def appear(
    key: jax.Array,
    head: jax.Array,
    tumour: jax.Array,
    volumes: jax.Array,
    stripped: jax.Array,
    step: jax.Array,
    options: Appearance,
) -> jax.Array:
    """The modalities of one sample; vmap it over a batch. Arguments as `synthetic.windows.DrawWindow` gives them.

    Returns:
        (Z, N, N, 4) float32 whole numbers in [0, 255], 0 where the scan shows nothing.
    """
    slices, size = head.shape[0], head.shape[1]
    depth = slices - 2 * MARGIN
    key, pattern_key, noise_key = jax.random.split(key, 3)
    draws = Draws(key)
    contrast = draw_contrast(draws, options.random_share)
    image = _painted(pattern_key, head, tumour, contrast)  # (4, S, N, N)
    image *= _shading(draws, options, size)
    image = jnp.einsum("mzs,msij->mzij", _thick(draws, options, depth, slices, step), image)
    white = contrast.mean[:, MATERIALS.index("white")]
    image = _acquired(draws, noise_key, image, white, options)
    shown = head[MARGIN : slices - MARGIN, ..., 1] >= INSIDE
    air = (head[MARGIN : slices - MARGIN, ..., 0] == 0) & (tumour[MARGIN : slices - MARGIN, ..., 2] == 0)
    cut = draws.chance(0.5) | stripped
    shown &= ~(air & cut)
    low, high = _window(draws, contrast, volumes, cut)
    image = (image - low[:, None, None, None]) * (255 / (high - low))[:, None, None, None]
    return jnp.moveaxis(jnp.round(jnp.clip(image, 0, 255)) * shown, 0, -1)


def _painted(key: jax.Array, head: jax.Array, tumour: jax.Array, contrast: Contrast) -> jax.Array:
    """The signal (4, S, N, N) of the tissues, with the tumour laid over and the patterns within them."""
    columns = jax.lax.optimization_barrier(jnp.concatenate([contrast.mean, contrast.texture]).T)  # (materials, 8)
    healthy = jnp.zeros((_CODES, 2 * _COUNT)).at[: len(HEAD_TISSUES)].set(columns[: len(HEAD_TISSUES)])
    parts = jnp.zeros((_CODES, 2 * _COUNT)).at[: len(MATERIALS) - len(HEAD_TISSUES)].set(columns[len(HEAD_TISSUES) :])
    share = (head[..., 1] % INSIDE).astype(jnp.float32) / SHARE_STEPS
    signal = _looked_up(healthy, head[..., 0], share)
    opacity = tumour[..., 2].astype(jnp.float32)[..., None] / 255
    disease = _looked_up(parts, tumour[..., 0], tumour[..., 1].astype(jnp.float32) / 255)
    signal = jnp.moveaxis(signal + opacity * (disease - signal), -1, 0)
    slices, size = head.shape[:2]
    noise = jax.lax.optimization_barrier(jax.random.normal(key, (2 * _COUNT, *_knots((slices, size, size), 60))))
    coarse, fine = _smooth(noise[:, :, :30, :30], (slices, size, size)), _smooth(noise[_COUNT:], (slices, size, size))
    pattern = jnp.sqrt(0.25) * (coarse[:1] + coarse[1:5]) + jnp.sqrt(0.5) * fine
    return jnp.maximum(signal[:_COUNT] + signal[_COUNT:] * pattern, 0)


def _looked_up(table: jax.Array, codes: jax.Array, share: jax.Array) -> jax.Array:
    """Rows of `table` (16, c) for pairs of codes, mixed by the share of the second -> (..., c)."""
    first, second = table[codes % _CODES], table[codes // _CODES]
    return first + share[..., None] * (second - first)


def _knots(shape: tuple[int, int, int], cells: int) -> tuple[int, int, int]:
    """The knots of smooth noise over (S, N, N) with `cells` along a side and as many for a millimetre across slices."""
    return max(3, round(cells * shape[0] / shape[1]) + 2), cells, cells


def _smooth(noise: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Smooth noise (..., *shape) of unit variance from unit normal noise at knots (..., slices, rows, columns)."""
    z, y, x = (_spline(size, knots) for size, knots in zip(shape, noise.shape[-3:], strict=True))
    return jnp.einsum("zs,...sij,yi,xj->...zyx", z, noise, y, x, optimize="optimal")


def _spline(size: int, knots: int) -> np.ndarray:
    """Weights (size, knots) of a smooth interpolation, scaled to keep unit variance."""
    place = np.linspace(0, knots - 1, size)[:, None] - np.arange(knots)[None]
    weights = np.exp(-0.5 * (place / 0.6) ** 2)
    return (weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))).astype(np.float32)


def _shading(draws: Draws, options: Appearance, size: int) -> jax.Array:
    """Multiplicative shading (4, 1, N, N), which hardly changes over the few slices of a window."""
    strength = draws.uniform((_COUNT, 1, 1, 1), 0.0, options.bias)
    return jnp.exp(strength * _smooth(draws.normal((_COUNT, 1, 4, 4)), (1, size, size)))


def _thick(draws: Draws, options: Appearance, depth: int, slices: int, step: jax.Array) -> jax.Array:
    """Weights (4, Z, S) of the window's slices in each slice of each modality.

    A modality with thick slices was acquired at places of its own, as averages over their thickness, and interpolated
    from these places to the slices of the window, to the nearest or linearly. What lies beyond the window is left out.
    """
    thick = draws.chance(options.thick_share, (_COUNT, 1))
    drawn = draws.uniform((_COUNT, 1), 2.0, 5.0)
    thickness = jnp.maximum(jnp.where(thick, drawn, 1.0) / step, 1.0)  # in slices
    phase = jnp.where(thickness > 1, draws.uniform((_COUNT, 1)), 0.0)
    wanted = jnp.arange(depth)[None] + float(MARGIN)  # (1, Z)
    place = wanted / thickness + phase
    lower = jnp.floor(place)
    fraction = place - lower
    nearest = draws.chance(0.3, (_COUNT, 1))
    fraction = jnp.where(nearest, jnp.round(fraction), fraction)
    lattice = jnp.arange(slices, dtype=jnp.float32)

    def averaged(number: jax.Array) -> jax.Array:
        distance = jnp.abs(lattice - ((number - phase) * thickness)[..., None])
        weights = jnp.clip((thickness[..., None] + 1) / 2 - distance, 1e-6, 1)
        return weights / weights.sum(axis=-1, keepdims=True)

    return (1 - fraction)[..., None] * averaged(lower) + fraction[..., None] * averaged(lower + 1)


def _acquired(draws: Draws, key: jax.Array, image: jax.Array, white: jax.Array, options: Appearance) -> jax.Array:
    """Point spread, registration error, ghosts and Rician noise on (4, Z, N, N)."""
    size, each = image.shape[-1], (_COUNT, 2)
    sigma = draws.uniform(each, *options.blur) * jnp.where(draws.chance(options.coarse_share, each), 2.5, 1.0)
    shift = draws.uniform(each, -options.shift, options.shift)
    ghost = draws.uniform(each, -0.12, 0.12) * draws.chance(options.motion_share / 2, each)
    spread = _spread(size, sigma, shift, ghost)  # (4, 2, N, N)
    ratio = jnp.exp(draws.uniform((_COUNT,), *np.log(options.noise)))
    # It is used three times and shall be drawn once.
    noise = jax.lax.optimization_barrier(jax.random.normal(key, image.shape))
    noise *= (ratio * white)[:, None, None, None]
    # Half of the modalities were interpolated after the noise came in, which smooths it; the other half were not.
    before = draws.chance(0.5, (_COUNT, 1, 1, 1))
    image = image + jnp.where(before, noise, 0)
    image = jnp.einsum("myi,mzij,mxj->mzyx", spread[:, 0], image, spread[:, 1], optimize="optimal")
    noise = jnp.where(before, 0, noise)
    # The imaginary part of the noise: that of other pixels, which is as good as noise of its own.
    return jnp.sqrt((image + noise) ** 2 + jnp.roll(noise, size // 2, axis=-1) ** 2)


def _spread(size: int, sigma: jax.Array, shift: jax.Array, ghost: jax.Array) -> jax.Array:
    """Matrices (4, 2, N, N) that blur, shift and add a displaced copy along rows and columns."""
    place = jnp.arange(size, dtype=jnp.float32)
    distance = place[:, None] - place[None, :] + shift[..., None, None]
    weights = jnp.exp(-0.5 * (distance / sigma[..., None, None]) ** 2)
    weights /= weights.sum(axis=-1, keepdims=True) + 1e-6
    return weights + ghost[..., None, None] * jnp.roll(weights, size // 3, axis=-1)


def _window(draws: Draws, contrast: Contrast, volumes: jax.Array, cut: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The brightness of each modality (4,) that becomes 0 and 255.

    A real scan is normalised by percentiles of its whole volume. Those of the patient come from the volumes of its
    tissues, each with a spread about its mean, and are varied, since a real brain is not made of a few tissues.
    """
    weights = volumes.at[0].multiply(jnp.where(cut, 0.0, 1.0))
    weights = weights / weights.sum()
    spread = jnp.sqrt(contrast.texture**2 + (0.10 * contrast.mean) ** 2) + 0.02
    top = 1.3 * contrast.mean.max(axis=1)
    levels = jnp.linspace(0, 1, _LEVELS) * top[:, None]  # (4, levels)
    below = jax.scipy.stats.norm.cdf(levels[..., None], contrast.mean[:, None], spread[:, None])
    below = (below * weights).sum(axis=-1)
    wanted = np.array(PERCENTILES) / 100

    def place(below: jax.Array, levels: jax.Array) -> jax.Array:
        return jnp.interp(wanted, below, levels)

    low, high = jax.vmap(place)(below, levels).T
    span = jnp.maximum(high - low, 1e-2)
    low = low + span * draws.uniform((_COUNT,), -0.08, 0.06)
    high = high + span * draws.uniform((_COUNT,), -0.15, 0.35)
    return low, jnp.maximum(high, low + 1e-2)
