"""The voxel grid on which a run works: scans on other grids are resampled to it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samjax.errors import UserError

TOLERANCE = 0.01
"""Share by which a spacing may differ from the grid's and still count as the same, so that nothing is resampled."""
FINEST, COARSEST = 0.1, 20.0
"""Limits in mm of a spacing that a user may ask for."""
SMALLEST, LARGEST = 0.01, 100.0
"""Limits in mm of the distance between a scan's voxels; beyond them it is counted in another unit."""

Shape = tuple[int, int, int]
"""The number of slices, rows and columns."""


@dataclass(frozen=True)
class RunGrid:
    """The spacing of a run's voxels in mm; `slices` None leaves the slices of every scan as they are."""

    rows: float
    """Distance between rows."""
    columns: float
    """Distance between columns."""
    slices: float | None = None
    """Distance between slices."""

    @classmethod
    def parse(cls, text: str) -> "RunGrid":
        """The grid of one number (square pixels), two (rows, columns), or three (rows, columns, slices), in mm.

        Raises:
          UserError: `text` is something else.
        """
        parts = text.split(",")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if not 1 <= len(numbers) <= 3 or not all(0 < number < math.inf for number in numbers):
            raise UserError(
                f"--spacing {text}: expected one number of mm for square pixels, such as 1, or the distances between "
                "rows, columns and slices, such as 0.8,0.8,3"
            )
        return cls(numbers[0], *numbers[1:]) if len(numbers) > 1 else cls(numbers[0], numbers[0])

    @classmethod
    def asked(cls, text: str) -> "RunGrid":
        """As `parse`, for what a user asks for: also a `UserError` beyond the limits, where a unit was mistaken."""
        grid = cls.parse(text)
        if not all(FINEST <= side <= COARSEST for side in (grid.rows, grid.columns, grid.slices or grid.rows)):
            raise UserError(f"--spacing {text}: expected mm from {FINEST:g} to {COARSEST:g}")
        return grid

    def __str__(self) -> str:
        """The shortest text for `parse`."""
        numbers = [self.rows, self.columns, *([] if self.slices is None else [self.slices])]
        return f"{self.rows:.10g}" if numbers == [self.rows] * 2 else ",".join(f"{number:.10g}" for number in numbers)

    @property
    def words(self) -> str:
        """The grid for messages, such as "1 x 1 mm"."""
        return spacing_words((self.rows, self.columns, *([] if self.slices is None else [self.slices])))

    def shape_of(self, shape: Shape, spacing: Sequence[float]) -> Shape:
        """The shape of a scan on this grid, with the scan's field of view: its own shape where nothing is resampled.

        The number of voxels along an axis is whole, so the spacing there is the grid's to within half a voxel of the
        field of view. A scan that is on the grid stays on it.

        Args:
          shape: the scan's (slices, rows, columns).
          spacing: mm between the scan's slices, rows and columns.
        """
        wanted = (self.slices, self.rows, self.columns)
        slices, rows, columns = (
            size if want is None or abs(have / want - 1) <= TOLERANCE else max(1, round(size * have / want))
            for size, have, want in zip(shape, spacing, wanted, strict=True)
        )
        return slices, rows, columns

    def resamples(self, shape: Shape, spacing: Sequence[float]) -> bool:
        """Whether a scan of this shape and spacing is on another grid; see `shape_of`."""
        return self.shape_of(shape, spacing) != tuple(shape)


def common_grid(spacings: Sequence[Sequence[float]]) -> tuple[RunGrid, bool]:
    """The grid of a run for scans with these spacings (slices, rows, columns) in mm, at least one.

    Returns:
      Their common in-plane spacing, if it is one, or else square pixels of its median; and whether it is one.
    """
    planes = np.array([spacing[1:] for spacing in spacings], np.float64)
    rows, columns = np.median(planes, axis=0)
    if (abs(planes / (rows, columns) - 1) <= TOLERANCE).all():
        return RunGrid(_rounded(rows), _rounded(columns)), True
    side = _rounded(float(np.median(planes)))
    return RunGrid(side, side), False


def spacing_words(spacing: Sequence[float]) -> str:
    """Spacings as "0.8 x 0.8 mm"."""
    return " x ".join(f"{value:.3g}" for value in spacing) + " mm"


def _rounded(value: float) -> float:
    """The value with five digits; headers in float32 hold seven."""
    return float(f"{value:.5g}")
