"""The planes in which a volume is looked at: axial, coronal and sagittal slices of one array.

A volume's own axes are (slice, row, column), towards the superior, the posterior and the patient's left: its own slices
are axial. Pictures of the other planes show the superior up, as radiologists look at them:

| plane | slices run to | rows run to | columns run to |
|---|---|---|---|
| axial | the superior | the posterior | the patient's left |
| coronal | the posterior | the inferior | the patient's left |
| sagittal | the patient's left | the inferior | the posterior |

So axial pictures have anterior up, sagittal ones anterior on the left, and axial and coronal ones the patient's right
on the left. All of it is a change of axes: no voxel is computed anew, so that voxels must be about cubic for the planes
to look alike to one model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samjax.data.imaging.grids import TOLERANCE, RunGrid, Shape, spacing_words
from samjax.errors import UserError

CUBIC = 1.2
"""Largest ratio between two sides of a voxel that counts as about cubic."""


@dataclass(frozen=True)
class Plane:
    """A plane, by where its axes lie in a volume."""

    name: str
    axes: Shape
    """The axes of the volume along which the plane's slices, rows and columns run."""
    upside_down: bool = False
    """Whether rows run against the volume's axis."""

    def seen(self, array: np.ndarray) -> np.ndarray:
        """A view of a volume (slices, rows, columns, ...) in this plane, with the plane's slices first."""
        turned = array.transpose(*self.axes, *range(3, array.ndim))
        return turned[:, ::-1] if self.upside_down else turned

    def back(self, array: np.ndarray) -> np.ndarray:
        """A view of (..., slices, rows, columns) of this plane on the volume's axes; the inverse of `seen`."""
        turned = array[..., ::-1, :] if self.upside_down else array
        lead = array.ndim - 3
        return turned.transpose(*range(lead), *(lead + np.argsort(self.axes)))

    def shape(self, shape: Shape) -> Shape:
        """The shape in this plane of a volume of `shape`."""
        slices, rows, columns = (shape[axis] for axis in self.axes)
        return slices, rows, columns

    def box(self, start: Shape, stop: Shape, shape: Shape) -> tuple[Shape, Shape]:
        """A crop from `start` up to before `stop` of a volume of `shape`, in this plane."""
        start, stop = self.shape(start), self.shape(stop)
        if self.upside_down:
            rows = self.shape(shape)[1]
            start, stop = (start[0], rows - stop[1], start[2]), (stop[0], rows - start[1], stop[2])
        return start, stop


AXIAL = "axial"
PLANES = {
    plane.name: plane
    for plane in (Plane(AXIAL, (0, 1, 2)), Plane("coronal", (1, 0, 2), True), Plane("sagittal", (2, 0, 1), True))
}
"""All planes, by name."""


def parse_planes(text: str) -> tuple[str, ...]:
    """The planes of a value of `--planes`, each once, in the order of `PLANES`.

    Raises:
      UserError: the text names none, an unknown one, or one twice.
    """
    names = [name.strip() for name in text.split(",")]
    if not set(names) <= PLANES.keys() or len(set(names)) < len(names):
        raise UserError(f"--planes {text}: expected one or several of {', '.join(PLANES)}, each once, with commas")
    return tuple(name for name in PLANES if name in names)


def require_cubic(grid: RunGrid, planes: str) -> None:
    """Raises a `UserError` if the voxels of a run's grid are not about cubic; `planes` is the value of `--planes`."""
    if grid.slices is None:
        raise UserError(
            f"--planes {planes}: --spacing {grid} leaves the slices of every scan as they are, and several planes need "
            f"voxels that are about cubic; give three numbers, such as --spacing {_cube(grid.rows)}"
        )
    sides = (grid.slices, grid.rows, grid.columns)
    if max(sides) / min(sides) > CUBIC:
        raise _not_cubic(planes, f"those of --spacing {grid} are {spacing_words(sides)}", grid)


def cubic_grid(grid: RunGrid, slices: Sequence[float], planes: str) -> RunGrid:
    """A grid that leaves slices as they are, completed by the distance between the scans' slices.

    Args:
      grid: a grid without a distance between slices.
      slices: mm between the slices of each scan, at least one. Where they differ, their median is taken; where they are
        as far apart as the rows, exactly that.
      planes: the value of `--planes`, for messages.

    Raises:
      UserError: the voxels of a scan are not about cubic.
    """
    for apart in slices:
        sides = (apart, grid.rows, grid.columns)
        if max(sides) / min(sides) > CUBIC:
            raise _not_cubic(planes, f"there are scans of {spacing_words(sides)} (slices x rows x columns)", grid)
    middle = float(f"{float(np.median(slices)):.5g}")
    alike = abs(middle / grid.rows - 1) <= TOLERANCE
    return RunGrid(grid.rows, grid.columns, grid.rows if alike else middle)


def _not_cubic(planes: str, what: str, grid: RunGrid) -> UserError:
    return UserError(
        f"--planes {planes}: several planes need voxels that are about cubic, but {what}; resample them with "
        f"--spacing {_cube(grid.rows)}"
    )


def _cube(side: float) -> str:
    return ",".join([f"{side:.10g}"] * 3)
