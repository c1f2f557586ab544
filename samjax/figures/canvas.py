"""What all figures share: size and type for print, how runs are told apart, and how a figure is written."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from samjax.evaluation.statistics import prompt_source
from samjax.figures.palette import COLOURS
from samjax.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 7.0
"""Inches: the text width of a page, so that the type sizes below are what is read in print."""
HATCHES = ("", "///", "...", "xxx")
MARKERS = "osD^vPX"
LINES = ("-", "--", ":", "-.")
FAINT = "#6b6b6b"

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
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "image.interpolation": "nearest",
    "pdf.fonttype": 42,  # as TrueType, which journals ask for and editors can change
}


@contextmanager
def drawn(path: Path, height: float, width: float = WIDTH) -> Iterator["Figure"]:
    """An empty figure of so many inches in our style, written to `path` (`save`) when the block ends well."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        save(figure, path)


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure as PNG and as PDF beside it, whichever of the two `path` names.

    The same figure gives the same bytes: the PDF has no date.
    """
    for suffix, metadata in ((".png", None), (".pdf", {"CreationDate": None})):
        with replacing(path.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, metadata=metadata)


def colour(number: int) -> str:
    """Of a run by its number; after the last it begins anew, hence `hatch` and `marker`."""
    return COLOURS[number % len(COLOURS)]


def hatch(number: int) -> str:
    """Tells apart runs of one colour."""
    return HATCHES[number // len(COLOURS) % len(HATCHES)]


def marker(number: int) -> str:
    """Of a run by its number."""
    return MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def line(number: int) -> str:
    """Of a run by its number."""
    return LINES[number % len(LINES)]


def prompts_text(prompts: Iterable[str]) -> str:
    """The source of prompts that all have one, in words: "prompts from ground truth (box)", or "no prompts"."""
    kinds = list(dict.fromkeys(prompts))
    (source,) = {prompt_source(kind) for kind in kinds}
    return "no prompts" if source == "none" else f"prompts from {source} ({' / '.join(kinds)})"


def asked_text(run: str, prompt: str) -> str:
    """A run and how it was asked, for a legend."""
    return f"{run} ({'no prompts' if prompt_source(prompt) == 'none' else prompt})"
