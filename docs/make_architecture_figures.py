"""Draws images/way_of_a_batch.png and images/way_of_a_request.png: `python docs/make_architecture_figures.py`."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from samjax.figures.palette import COLOURS
from samjax.files import replacing

IMAGES = Path(__file__).parent / "images"
HOST, DEVICE, FILES = COLOURS[0], COLOURS[1], "#6b6b6b"
BOX, GAP = 2.05, 0.42
"""Width of a station and of the space between two, in inches."""
HEIGHT, LEVEL = 0.95, 1.5
"""Height of a station and distance between two rows, in inches."""


@dataclass(frozen=True)
class Station:
    """One box of a way: the room that does the work, what it does, and what it hands on."""

    room: str
    does: str
    gives: str
    colour: str = HOST


BATCH = (
    (
        Station("scan", "NIfTI files of a case", "int16, any orientation", FILES),
        Station("data/formats", "finds cases, labels, scheme", "paths by modality"),
        Station("data/imaging", "orients, checks, normalises, crops", "uint8 (slice, row, column, 4)"),
        Station("data/cache", "one memory-mapped file per case", "slices without parsing"),
    ),
    (
        Station("data/samples", "windows of Z slices with the ROI", "(case, first slice)"),
        Station("data/loading", "shuffles, reads, batches, prefetches", "(b, Z, N, N, 4) uint8"),
        Station("training/loop", "hands a batch to every device", "(devices, b, Z, N, N, 4)"),
        Station("data/on_device", "channels, augmentation, prompts", "(b, Z, N, N, C) float32", DEVICE),
    ),
    (
        Station("models", "encoder, prompt encoder, decoder", "logits (b, Z, S/4, S/4)", DEVICE),
        Station("training/tasks", "loss at native size, counted slices", "one number", DEVICE),
        Station("training/step", "gradient, sum over devices, Adam, SWA", "new parameters", DEVICE),
        Station("runs", "log, checkpoints, what was trained", "final.safetensors", FILES),
    ),
)
REQUEST = (
    (
        Station("scan + prompts", "NIfTI files; clicks or boxes", "source voxels", FILES),
        Station("cli, or Predictor", "names the run and the case", "options"),
        Station("runs", "base and trained weights, channels", "a model"),
        Station("data/imaging", "orients, normalises", "uint8 (slice, row, column, 4)"),
    ),
    (
        Station("inference", "pads to the run's square, makes windows", "(g, Z, N, N, 4)"),
        Station("models", "encodes a window once; it is kept", "(Z, S/16, S/16, 256)", DEVICE),
        Station("inference", "prompts into slots of a fixed number", "(n, K, 2) and labels"),
        Station("models", "decodes n prompts together", "logits (n, S/4, S/4), IoU", DEVICE),
    ),
    (
        Station("inference", "logits to native pixels, above 0", "(n, rows, columns) bool", DEVICE),
        Station("inference", "unites slices; propagates if asked", "(slice, row, column)"),
        Station("data/labels", "region to the scheme's values", "uint8 label map"),
        Station("data/imaging", "back to the source's axes and affine", "CASE.nii.gz", FILES),
    ),
)


def draw(rows: tuple[tuple[Station, ...], ...], path: Path) -> None:
    """Draws the stations of a way row by row, an arrow from each to the next, and writes the PNG."""
    across = max(len(row) for row in rows)
    width, height = across * (BOX + GAP) - GAP + 0.3, (len(rows) - 1) * LEVEL + HEIGHT + 0.75
    figure, axes = plt.subplots(figsize=(width, height), dpi=150)
    figure.subplots_adjust(0, 0, 1, 1)
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    places = []
    for level, row in enumerate(rows):
        for number, station in enumerate(row):
            x, y = 0.15 + number * (BOX + GAP), height - 0.15 - HEIGHT - level * LEVEL
            draw_station(axes, station, x, y)
            places.append((x, y))
    for (x0, y0), (x1, y1) in pairwise(places):
        draw_arrow(axes, (x0, y0), (x1, y1))
    draw_key(axes)
    with replacing(path) as temporary:
        figure.savefig(temporary, facecolor="white")
    plt.close(figure)


def draw_station(axes: Axes, station: Station, x: float, y: float) -> None:
    """One box with its lower left corner at (x, y): the room in bold, what it does, and what it gives."""
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch((x, y), BOX, HEIGHT, style, facecolor="white", edgecolor=station.colour, lw=1.4))
    middle = x + BOX / 2
    centred = {"ha": "center", "va": "center"}
    axes.text(middle, y + 0.76, station.room, fontsize=9, weight="bold", color=station.colour, **centred)
    axes.text(middle, y + 0.48, station.does, fontsize=6.8, **centred)
    axes.text(middle, y + 0.2, station.gives, fontsize=6.8, family="monospace", color="#444444", **centred)


def draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """An arrow between two boxes: straight along a row, or from the end of a row to the begin of the next."""
    (x0, y0), (x1, y1) = start, end
    if y0 == y1:
        tail, head = (x0 + BOX, y0 + HEIGHT / 2), (x1, y1 + HEIGHT / 2)
    else:
        tail, head = (x0 + BOX / 2, y0), (x1 + BOX / 2, y1 + HEIGHT)
        middle = (tail[1] + head[1]) / 2
        axes.plot([tail[0], tail[0], head[0]], [tail[1], middle, middle], color="#444444", lw=1.2)
        tail = (head[0], middle)
    look = {"arrowstyle": "-|>", "mutation_scale": 10, "color": "#444444", "lw": 1.2}
    axes.add_patch(FancyArrowPatch(tail, head, shrinkA=0, shrinkB=1, **look))


def draw_key(axes: Axes) -> None:
    """What the colours mean."""
    for number, (colour, text) in enumerate(((FILES, "files"), (HOST, "host, NumPy"), (DEVICE, "device, compiled"))):
        axes.text(0.2 + 1.2 * number, 0.2, f"\N{BLACK SQUARE} {text}", fontsize=8, color=colour, va="center")


if __name__ == "__main__":
    draw(BATCH, IMAGES / "way_of_a_batch.png")
    draw(REQUEST, IMAGES / "way_of_a_request.png")
