"""What callers of `Predictor` give: pictures and volumes as arrays of the predictor's own, clicks and boxes checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from samjax.data.cases import MODALITIES
from samjax.data.imaging.grids import LARGEST, SMALLEST
from samjax.errors import UserError
from samjax.inference.prompts import SlicePrompt


def picture_of(given: Any, channels: int) -> np.ndarray:
    """A picture (rows, columns, channels) uint8, copied, so that its owner may change his.

    Args:
        given: an array, a PIL image, or lists of whole numbers from 0 to 255.

    Raises:
        UserError: it is of another shape or type, or empty.
    """
    return _copied(given, "picture", ("rows", "columns", str(channels)), channels)


def volume_of(given: Any) -> np.ndarray:
    """A volume (slices, rows, columns, 4) uint8, copied; otherwise as `picture_of`."""
    names = ", ".join(MODALITIES)
    layout = ("slices", "rows", "columns", f"{len(MODALITIES)}")
    return _copied(given, "volume", layout, len(MODALITIES), f", the channels {names}")


def spacing_of(given: Any) -> tuple[float, float, float]:
    """Millimetres between slices, rows and columns.

    Raises:
        UserError: they are not three numbers, or not between `SMALLEST` and `LARGEST`.
    """
    try:
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != (3,) or not ((array >= SMALLEST) & (array <= LARGEST)).all():
        raise UserError(
            f"spacing {given!r}: expected the mm between slices, rows and columns, three numbers from {SMALLEST:g} to "
            f"{LARGEST:g}"
        )
    return tuple(array.tolist())


def modalities_of(volume: np.ndarray) -> tuple[str, ...]:
    """The modalities of a volume (slices, rows, columns, 4) uint8 that are not 0 everywhere.

    Raises:
        UserError: all of it is 0.
    """
    filled = [bool(volume[..., channel].any()) for channel in range(len(MODALITIES))]
    if not any(filled):
        raise UserError("volume: every voxel is 0 in all modalities; expected a scan")
    return tuple(name for name, there in zip(MODALITIES, filled, strict=True) if there)


def _copied(given: Any, what: str, layout: Sequence[str], channels: int, more: str = "") -> np.ndarray:
    expected = f"expected uint8 ({', '.join(layout)}){more}"
    try:
        array = np.array(given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what}: no array ({error}); {expected}") from None
    whole = array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 255
    if not isinstance(given, np.ndarray) and whole:
        array = array.astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim != len(layout) or array.shape[-1] != channels:
        mode = getattr(given, "mode", None)  # of a PIL image
        advice = f"; convert the image from mode {mode}" if isinstance(mode, str) else ""
        raise UserError(f"{what} of {array.dtype} {array.shape}: {expected}{advice}")
    if array.size == 0:
        raise UserError(f"{what} of shape {array.shape}: empty; {expected}")
    return array


def picture_prompt(
    points: np.ndarray | Sequence | None,
    labels: np.ndarray | Sequence | None,
    box: np.ndarray | Sequence | None,
    shape: tuple[int, int],
) -> SlicePrompt:
    """The prompt of a picture.

    Args:
        points: (n, 2) clicks (x, y) in pixels.
        labels: (n,) each 1 (positive) or 0 (negative).
        box: (4,) x0, y0, x1, y1 in pixels, inclusive.
        shape: (rows, columns) of the picture.

    Raises:
        UserError: one is of another shape or not finite, a label is neither 0 nor 1, a click lies outside of the
            picture, or a box ends before it begins or does not touch the picture.
    """
    clicks = _numbers(np.zeros((0, 2)) if points is None else points, "points")
    signs = _numbers(np.zeros(0) if labels is None else labels, "labels")
    if clicks.shape != (len(signs), 2) or not np.isin(signs, (0, 1)).all():
        raise UserError(f"points {clicks.shape}, labels {signs.shape}: expected (n, 2) and n labels, each 0 or 1")
    rows, columns = shape
    limits = np.array([columns, rows]) - 0.5
    for click in clicks[((clicks < -0.5) | (clicks > limits)).any(axis=1)]:
        raise UserError(f"point {click.tolist()}: outside of the picture of {columns} x {rows} pixels (x, y)")
    placed = tuple((float(x), float(y), int(sign)) for (x, y), sign in zip(clicks, signs, strict=True))
    return SlicePrompt(0, placed, None if box is None else _picture_box(box, limits))


def _picture_box(box: np.ndarray | Sequence, limits: np.ndarray) -> tuple[float, float, float, float]:
    edges = _numbers(box, "box")
    if edges.shape != (4,):
        raise UserError(f"box of shape {edges.shape}: expected x0, y0, x1, y1")
    first, last = edges[:2], edges[2:]
    if (first > last).any() or (last < -0.5).any() or (first > limits).any():
        raise UserError(f"box {edges.tolist()}: expected x0, y0, x1, y1 with x0 <= x1 and y0 <= y1, in the picture")
    x0, y0, x1, y1 = edges.tolist()
    return x0, y0, x1, y1


def _numbers(values: np.ndarray | Sequence, what: str) -> np.ndarray:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{what} {values!r}: expected numbers") from None
    if not np.isfinite(array).all():
        raise UserError(f"{what} {array.tolist()}: not finite; expected numbers in pixels")
    return array
