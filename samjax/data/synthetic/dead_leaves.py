"""Random pictures of overlapping textured shapes, on which a small model learns to segment objects.

Dead leaves (Matheron 1968; Lee, Mumford and Huang 2001): shapes of heavy-tailed size fall on each other, and
what can be seen has edges, occlusion and scale statistics like those of natural images. Some pictures are
grey, dim and soft with everything inside one large shape, as a slice of a head is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

_ANGLES = 256  # entries of an outline's table of radii


@dataclass(frozen=True)
class DeadLeavesOptions:
    """Parameters of the pictures. Sizes are shares of the picture's side, probabilities shares of 1."""

    size: int = 256  # pixels of a side
    shapes: tuple[int, int] = (20, 50)  # parts nested in a shape not counted
    radius: tuple[float, float] = (0.025, 0.4)
    size_exponent: float = 1.6  # the density of radii falls with this power
    nested: float = 0.3  # probability that a shape holds parts of its own
    scan_like: float = 0.35  # probability of a grey, soft picture with a dark backdrop


@dataclass(frozen=True)
class _Style:
    """Properties that the shapes of one picture share."""

    colours: tuple[float, float]  # range of brightness
    saturation: float
    contrast: float  # of a texture's two colours
    softness: float  # width of an edge in pixels
    patterns: tuple[float, ...]  # probabilities of flat, gradient, noise, stripes, checker
    noise: Field  # (2, size, size) in [0, 1]: cloudy and fine-grained


@dataclass
class _Canvas:
    picture: Field  # (3, size, size) in about [0, 1]
    ids: NDArray[np.uint8]  # (size, size)
    count: int = 0


def dead_leaves(
    rng: np.random.Generator, options: DeadLeavesOptions | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture (size, size, 3) uint8 and the number of the shape at each of its pixels (size, size) uint8.

    0 is the backdrop; parts nested in a shape have numbers of their own. A number may be missing where later
    shapes cover an earlier one. The same state of `rng` gives the same picture.
    """
    options = options or DeadLeavesOptions()
    scan = rng.random() < options.scan_like
    style = _draw_style(rng, options.size, scan)
    canvas = _Canvas(np.zeros((3, options.size, options.size), np.float32), np.zeros((options.size,) * 2, np.uint8))
    clip = None
    if scan:
        clip = _draw_shape(rng, canvas, style, _head(rng, options.size), None)
    else:
        canvas.picture[:] = _texture(rng, style, *_whole(options.size))
    for radius in _radii(rng, options):
        centre = options.size * (rng.uniform(0.15, 0.85, 2) if scan else rng.random(2))
        mask = _draw_shape(rng, canvas, style, _shape(rng, centre, radius), clip)
        if mask is not None and radius > 0.06 * options.size and rng.random() < options.nested:
            _draw_parts(rng, canvas, style, centre, radius, mask)
    return _expose(rng, canvas.picture, clip), canvas.ids


def visible_regions(ids: NDArray[np.integer], min_pixels: int, min_share: float = 0.6) -> NDArray[np.intp]:
    """Numbers of the shapes that can serve as targets, ascending, (k,).

    A shape serves if at least `min_pixels` of it are visible and `min_share` of those form one piece (edge
    neighbours); a shape that others have cut to pieces does not.
    """
    from scipy import ndimage

    pixels = np.bincount(ids.ravel())
    usable = []
    for number, box in enumerate(ndimage.find_objects(ids), start=1):
        if box is None or pixels[number] < min_pixels:
            continue
        pieces, _ = ndimage.label(ids[box] == number)
        if np.bincount(pieces.ravel())[1:].max() >= min_share * pixels[number]:
            usable.append(number)
    return np.asarray(usable, np.intp)


@dataclass(frozen=True)
class _Shape:
    """A star-shaped outline, stretched and turned; `hole` makes a ring, `bend` curves it like a banana."""

    centre: tuple[float, float]  # row, column in pixels
    radii: Field  # (_ANGLES,) in pixels before stretching
    stretch: float  # of the second axis, at most 1
    angle: float
    bend: float
    hole: float  # inner over outer radius, 0 for none

    def box(self, size: int) -> tuple[slice, slice]:
        """The part of the picture that the shape can touch."""
        reach = self.radii.max() * (1 + abs(self.bend)) + 2
        return tuple(slice(max(0, int(c - reach)), max(0, min(size, int(c + reach) + 2))) for c in self.centre)

    def depth(self, rows: Field, columns: Field) -> Field:
        """The approximate depth in pixels of a point inside the outline (negative outside)."""
        rows, columns = rows - np.float32(self.centre[0]), columns - np.float32(self.centre[1])
        cosine, sine = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        along = cosine * columns + sine * rows
        across = cosine * rows - sine * columns
        if self.bend:
            across = across + np.float32(self.bend / self.radii.max()) * along**2
        across = across * np.float32(1 / self.stretch)
        distance = np.sqrt(along**2 + across**2)
        turn = np.arctan2(across, along) * np.float32(_ANGLES / (2 * np.pi))
        outline = self.radii[turn.astype(np.int32) % _ANGLES]
        depth = (outline - distance) * np.float32(0.5 * (1 + self.stretch))
        if self.hole:
            depth = np.minimum(depth, distance - np.float32(self.hole) * outline)
        return depth


def _draw_style(rng: np.random.Generator, size: int, scan: bool) -> _Style:
    noise = np.stack([_noise(rng, size, exponent) for exponent in (rng.uniform(1.4, 2.2), rng.uniform(0.2, 1.0))])
    if scan:
        low = rng.uniform(0.15, 0.5)
        return _Style(
            colours=(low, low + rng.uniform(0.15, 0.5)),
            saturation=0.0 if rng.random() < 0.5 else rng.uniform(0.05, 0.5),
            contrast=rng.uniform(0.05, 0.35),
            softness=rng.uniform(1.0, 4.0),
            patterns=(0.2, 0.2, 0.5, 0.1, 0.0),
            noise=noise,
        )
    low = rng.uniform(0, 0.5) if rng.random() < 0.3 else 0.0
    return _Style(
        colours=(low, min(1.0, low + rng.uniform(0.35, 1.0))),
        saturation=0.0 if rng.random() < 0.15 else rng.uniform(0.3, 1.0),
        contrast=rng.uniform(0.1, 0.8),
        softness=rng.uniform(1.0, 1.8),
        patterns=(0.25, 0.2, 0.3, 0.15, 0.1),
        noise=noise,
    )


def _radii(rng: np.random.Generator, options: DeadLeavesOptions) -> Field:
    """Radii in pixels from a truncated power law, roughly the largest first so that small ones show."""
    low, high = (share * options.size for share in options.radius)
    power = 1 - options.size_exponent
    share = rng.random(rng.integers(options.shapes[0], options.shapes[1] + 1))
    radii = (low**power + share * (high**power - low**power)) ** (1 / power)
    return radii[np.argsort(-radii * rng.lognormal(0, 0.5, radii.size))]


def _shape(rng: np.random.Generator, centre: NDArray[np.float64], radius: float) -> _Shape:
    kind = rng.choice(5, p=(0.22, 0.22, 0.34, 0.12, 0.10))  # ellipse, polygon, blob, bar, ring
    stretch, bend, hole = rng.uniform(0.4, 1.0), 0.0, 0.0
    if kind == 1:
        radii = _polygon(rng, radius)
    elif kind == 0:
        radii = np.full(_ANGLES, radius, np.float32)
    elif kind == 3:
        radii = np.full(_ANGLES, radius, np.float32) if rng.random() < 0.5 else _polygon(rng, radius, 4)
        stretch, bend = rng.uniform(0.08, 0.25), rng.choice((0.0, rng.uniform(-0.6, 0.6)))
    else:
        radii = _wavy(rng, radius, rng.uniform(0.05, 0.3))
        hole = rng.uniform(0.45, 0.8) if kind == 4 else 0.0
    return _Shape(tuple(centre.tolist()), radii, stretch, rng.uniform(0, 2 * np.pi), bend, hole)


def _head(rng: np.random.Generator, size: int) -> _Shape:
    """The large outline that holds everything in a scan-like picture."""
    centre = tuple((size * rng.uniform(0.44, 0.56, 2)).tolist())
    radii = _wavy(rng, size * rng.uniform(0.36, 0.5), 0.05)
    return _Shape(centre, radii, rng.uniform(0.7, 1.0), rng.uniform(0, np.pi), 0.0, 0.0)


def _wavy(rng: np.random.Generator, radius: float, amplitude: float) -> Field:
    """An outline with harmonics that fall off with their order; `radius` is about its mean."""
    theta = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    orders = np.arange(2, 2 + rng.integers(2, 9))
    weights = rng.normal(size=orders.size) / orders ** rng.uniform(0.3, 1.2)
    wave = np.cos(theta[:, None] * orders + rng.uniform(0, 2 * np.pi, orders.size)) @ weights
    wave *= amplitude / max(np.sqrt(np.mean(wave**2)), 1e-6)
    return (radius * np.clip(1 + wave, 0.25, 1.8)).astype(np.float32)


def _polygon(rng: np.random.Generator, radius: float, corners: int | None = None) -> Field:
    """An outline with straight sides between corners at random angles, sometimes star-like."""
    corners = corners or int(rng.integers(3, 9))
    gaps = rng.uniform(0.7, 1.3, corners)  # no gap of half a turn, so the centre stays inside
    angles = np.cumsum(gaps / gaps.sum() * 2 * np.pi)
    reach = radius * (rng.uniform(0.45, 1.0, corners) if rng.random() < 0.4 else np.ones(corners))
    theta = np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    index = np.searchsorted(angles, theta, side="right") % corners
    x, y = reach * np.cos(angles), reach * np.sin(angles)
    # Where the ray at theta meets the side from the corner before it to the corner after it.
    x0, y0, x1, y1 = np.roll(x, 1)[index], np.roll(y, 1)[index], x[index], y[index]
    across = (y1 - y0) * np.cos(theta) - (x1 - x0) * np.sin(theta)
    return np.clip((x0 * y1 - y0 * x1) / across, 0.05 * radius, radius).astype(np.float32)


def _draw_parts(
    rng: np.random.Generator,
    canvas: _Canvas,
    style: _Style,
    centre: NDArray[np.float64],
    radius: float,
    parent: NDArray[np.bool_],
) -> None:
    """Shapes inside a shape, as a core in a lesion or a window in a wall; nothing leaves `parent`."""
    for _ in range(rng.integers(1, 4)):
        place = centre + rng.normal(0, 0.25 * radius, 2)
        _draw_shape(rng, canvas, style, _shape(rng, place, radius * rng.uniform(0.2, 0.6)), parent)


def _draw_shape(
    rng: np.random.Generator,
    canvas: _Canvas,
    style: _Style,
    shape: _Shape,
    clip: NDArray[np.bool_] | None,
) -> NDArray[np.bool_] | None:
    """Lays one shape over the canvas within `clip`; returns the pixels it took, None if there are none."""
    size = canvas.ids.shape[0]
    box = shape.box(size)
    rows = np.arange(box[0].start, box[0].stop, dtype=np.float32)[:, None]
    columns = np.arange(box[1].start, box[1].stop, dtype=np.float32)[None]
    if canvas.count == 255 or not rows.size or not columns.size:
        return None
    alpha = np.clip(shape.depth(rows, columns) * np.float32(1 / style.softness) + np.float32(0.5), 0, 1)
    if clip is not None:
        alpha *= clip[box]
    inside = alpha > 0.5
    if not inside.any():
        return None
    canvas.count += 1
    canvas.ids[box][inside] = canvas.count
    below = canvas.picture[:, *box]
    below += (_texture(rng, style, rows, columns) - below) * alpha
    taken = np.zeros((size, size), bool)
    taken[box] = inside
    return taken


def _texture(rng: np.random.Generator, style: _Style, rows: Field, columns: Field) -> Field:
    """Colours (3, rows, columns): two colours mixed by a pattern."""
    first, second = _two_colours(rng, style)
    kind = rng.choice(5, p=style.patterns)
    if kind == 0:
        return first
    if kind == 1:
        mix = _gradient(rng, rows, columns)
    elif kind == 2:
        mix = _cut(rng, style.noise[rng.integers(2)], rows.size, columns.size)
        variant = rng.choice(3, p=(0.5, 0.2, 0.3))
        if variant == 1:  # spots
            mix = np.clip((mix - np.float32(0.55)) * 8, 0, 1)
        elif variant == 2:  # veins
            mix = np.abs(np.sin(mix * np.float32(rng.uniform(6, 25))))
    else:
        mix = _waves(rng, rows, columns, checker=kind == 4)
    return first + (second - first) * mix


def _two_colours(rng: np.random.Generator, style: _Style) -> tuple[Field, Field]:
    low, high = style.colours
    grey, tint = rng.uniform(low, high), rng.uniform(low, high, (3, 1, 1))
    first = grey + style.saturation * (tint - grey)
    step = rng.uniform(-0.5, 0.5) + style.saturation * rng.uniform(-0.5, 0.5, (3, 1, 1))
    second = np.clip(first + style.contrast * step, 0, 1)
    return first.astype(np.float32), second.astype(np.float32)


def _gradient(rng: np.random.Generator, rows: Field, columns: Field) -> Field:
    height, width = max(rows.size, 2), max(columns.size, 2)
    v, u = (rows - rows[0, 0]) / np.float32(height - 1), (columns - columns[0, 0]) / np.float32(width - 1)
    if rng.random() < 0.5:
        centre = rng.uniform(0.2, 0.8, 2).astype(np.float32)
        return np.sqrt((v - centre[0]) ** 2 + (u - centre[1]) ** 2)
    angle = rng.uniform(0, 2 * np.pi)
    return (
        np.float32(np.cos(angle)) * (u - np.float32(0.5))
        + np.float32(np.sin(angle)) * (v - np.float32(0.5))
        + np.float32(0.5)
    )


def _waves(rng: np.random.Generator, rows: Field, columns: Field, checker: bool) -> Field:
    """Stripes, smooth or sharp, or a checkerboard, with periods of 4 to 32 pixels."""
    angle = rng.uniform(0, np.pi)
    rate = np.float32(2 * np.pi / np.exp(rng.uniform(np.log(4), np.log(32))))
    cosine, sine = rate * np.float32(np.cos(angle)), rate * np.float32(np.sin(angle))
    phase = np.float32(rng.uniform(0, 2 * np.pi))
    wave = np.sin(cosine * columns + sine * rows + phase)
    if checker:
        wave *= np.sin(cosine * rows - sine * columns)
    sharpness = np.float32(rng.choice((0.5, 4.0)))
    return np.clip(np.float32(0.5) + sharpness * wave, 0, 1)


def _cut(rng: np.random.Generator, field: Field, height: int, width: int) -> Field:
    """A random window of `field` in a random orientation."""
    if rng.random() < 0.5:
        field = field.T
    row, column = rng.integers(field.shape[0] - height + 1), rng.integers(field.shape[1] - width + 1)
    return field[row : row + height, column : column + width][:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]


def _noise(rng: np.random.Generator, size: int, exponent: float) -> Field:
    """Noise (size, size) whose amplitude falls with frequency to the `exponent`; mean 1/2, deviation 1/5."""
    from scipy import fft

    spectrum = fft.rfft2(rng.standard_normal((size, size), np.float32))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)).astype(np.float32)
    frequency[0, 0] = np.inf
    field = fft.irfft2(spectrum * frequency ** np.float32(-exponent), s=(size, size))
    return np.clip(0.5 + field * np.float32(0.2 / field.std()), 0, 1).astype(np.float32)


def _expose(rng: np.random.Generator, picture: Field, clip: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Illumination, blur, noise and eight bits."""
    from scipy import ndimage

    rows, columns = _whole(picture.shape[1])
    gain = np.float32(1) + np.float32(rng.uniform(0, 0.5)) * (_gradient(rng, rows, columns) - np.float32(0.5))
    picture = picture * gain
    if rng.random() < 0.4:
        sigma = rng.uniform(0.4, 1.2)
        picture = ndimage.gaussian_filter(picture, (0, sigma, sigma), truncate=2.5)
    noise = np.float32(0.06 * rng.random() ** 2) * rng.standard_normal(picture.shape, np.float32)
    picture = picture + (noise if clip is None else noise * clip)
    levels = (np.clip(picture, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(levels, 0, -1))


def _whole(size: int) -> tuple[Field, Field]:
    span = np.arange(size, dtype=np.float32)
    return span[:, None], span[None]
