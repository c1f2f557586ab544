"""The pixels that a stroke of the eraser touches."""

from collections.abc import Sequence

import numpy as np

from samjax.errors import UserError


def near_stroke(
    shape: tuple[int, int], spacing: Sequence[float], stroke: Sequence[Sequence[float]], radius: float
) -> np.ndarray:
    """The pixels (rows, columns) bool whose centres lie within `radius` mm of a line through places (row, column).

    Args:
        spacing: mm between rows and between columns.

    Raises:
        UserError: there is no place, one is not a pair of finite numbers, or the radius is not positive.
    """
    try:
        places = np.asarray(stroke, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise UserError("stroke: expected places (row, column)") from None
    if not places.size or not np.isfinite(places).all() or not 0 < radius < np.inf:
        raise UserError(
            f"stroke of {len(places)} places, radius {radius} mm: expected finite numbers, a radius above 0"
        )
    scale = np.asarray(spacing, np.float64)
    pixels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) * scale
    near = np.zeros(shape, bool)
    places = places * scale
    for start, end in zip(places, [*places[1:], places[-1]], strict=True):
        first = np.clip((np.minimum(start, end) - radius) / scale, 0, shape)
        last = np.clip((np.maximum(start, end) + radius) / scale, 0, shape)
        around = tuple(slice(int(a), int(b) + 1) for a, b in zip(first, np.ceil(last), strict=True))
        line, away = end - start, pixels[around] - start
        along = np.clip(away @ line / max(line @ line, 1e-12), 0, 1)
        near[around] |= ((away - along[..., None] * line) ** 2).sum(axis=-1) <= radius**2
    return near
