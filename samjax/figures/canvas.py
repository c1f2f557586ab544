"""Shared parts of all figures: size and type for print, colours and marks of runs, and writing a figure."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from samjax.figures.palette import COLOURS, GRID
from samjax.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 7.0
"""The text width of a page in inches, so that the type sizes below hold in print."""
PRINT, SCREEN = (".png", ".pdf"), (".png",)
"""Suffixes of a figure's files: `PRINT` for evaluations, whose figures go into papers, and `SCREEN` for training."""
HATCHES = ("", "///", "...", "xxx")
MARKERS = "osD^vPX"
LINES = ("-", "--", ":", "-.")

_STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.titlesize": 9.5,
    "figure.dpi": 200,
    "savefig.dpi": 200,
    "savefig.bbox": "tight",  # long names of runs widen the picture instead of being cut off
    "savefig.pad_inches": 0.05,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.7,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "image.interpolation": "nearest",
    "pdf.fonttype": 42,  # as TrueType, which journals ask for and editors can change
}
_DARK = {"figure.facecolor": "black", "text.color": "white", "axes.labelcolor": "white"}


@contextmanager
def drawn(
    path: Path, height: float, width: float = WIDTH, *, suffixes: Sequence[str] = PRINT, dark: bool = False
) -> Iterator["Figure"]:
    """Yields an empty figure in our style, and writes it with `save` when the block ends well.

    Args:
        path: the file without regard to its suffix.
        height, width: inches.
        suffixes: the kinds of file, `PRINT` or `SCREEN`.
        dark: whether the ground is black, for slices.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE | (_DARK if dark else {})):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        save(figure, path, suffixes)


def save(figure: "Figure", path: Path, suffixes: Sequence[str]) -> None:
    """Writes a figure once for each suffix, in place of the suffix of `path`.

    The same figure gives the same bytes: the PDF has no date.
    """
    for suffix in suffixes:
        with replacing(path.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, metadata={"CreationDate": None} if suffix == ".pdf" else None)


def colour(number: int) -> str:
    """The colour of a run by its number; colours repeat, and `hatch` and `marker` tell those runs apart."""
    return COLOURS[number % len(COLOURS)]


def hatch(number: int) -> str:
    """The hatch of a run by its number, which tells apart runs of one colour."""
    return HATCHES[number // len(COLOURS) % len(HATCHES)]


def marker(number: int) -> str:
    """The marker of a run by its number, different for runs of one colour."""
    return MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def line(number: int) -> str:
    """The line style of a run by its number."""
    return LINES[number % len(LINES)]
