"""Draws docs/images/few_patients.png and prints the table of docs/few_patients.md: fine-tuning on few patients.

    python docs/make_few_patients_figure.py [SCORES]

SCORES is what docs/measure_few_patients.py writes, by default docs/few_patients.csv.
"""

import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from measure_few_patients import RULES, STARTS, Score, read_scores

from samjax.figures.canvas import MARKERS, SCREEN, drawn
from samjax.figures.palette import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parent
FIGURE = ROOT / "images" / "few_patients.png"
TITLES = ("as predicted", "fitted to the scan (fit,share=0.2)")
"""Titles of the rules' panels."""


def main() -> None:
    """Draws the figure and prints the table."""
    scores = read_scores(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "few_patients.csv")
    draw([one for one in scores if one.region == "whole-tumor"])
    print_table(scores)


def draw(scores: list[Score]) -> None:
    """The whole tumour's Dice against the number of patients: the mean as a line, every case as a dot."""
    counts = sorted({one.patients for one in scores})
    with drawn(FIGURE, 2.6, suffixes=SCREEN) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axis, rule, title in zip(panels, RULES, TITLES, strict=True):
            _panel(axis, [one for one in scores if one.rule == rule], counts)
            axis.set(title=title, xlabel="real patients trained on", ylim=(0, 1))
        panels[0].set_ylabel("whole tumour, 3-D Dice")
        panels[1].legend(loc="lower right")


def _panel(axis: "Axes", scores: list[Score], counts: list[int]) -> None:
    for number, start in enumerate(STARTS):
        own = [one for one in scores if one.start == start]
        places = [place for place, count in enumerate(counts) if any(one.patients == count for one in own)]
        means = [_mean(one.dice for one in own if one.patients == counts[place]) for place in places]
        axis.plot(places, means, f"-{MARKERS[number]}", color=COLOURS[number], label=f"from {start}", zorder=3)
        beside = [counts.index(one.patients) + 0.16 * (number - 0.5) for one in own]
        axis.scatter(beside, [one.dice for one in own], 10, COLOURS[number], alpha=0.45, linewidths=0)
    axis.set_xticks(range(len(counts)), ["none" if count == 0 else f"{count}" for count in counts])
    axis.grid()


def print_table(scores: list[Score]) -> None:
    """One row for each start and number of patients: mean, SD and worst case of the whole tumour, and the rest."""
    print("| start | real patients | n | as predicted | after the fit | worst | HD95 mm | tumour core | enhancing |")
    print("|---|---|---|---|---|---|---|---|---|")
    for start, patients in sorted({(one.start, one.patients) for one in scores}, key=lambda key: (key[1], key[0])):
        own = [one for one in scores if (one.start, one.patients) == (start, patients)]
        raw, whole = _of(own, RULES[0], "whole-tumor"), _of(own, RULES[1], "whole-tumor")
        cells = [start, patients, len(whole), _spread(raw), _spread(whole), f"{min(one.dice for one in whole):.3f}"]
        cells.append(f"{_mean(one.hd95 for one in whole):.1f}")
        cells += [_spread(_of(own, RULES[1], region)) for region in ("tumor-core", "enhancing")]
        print("| " + " | ".join(map(str, cells)) + " |")


def _of(scores: list[Score], rule: str, region: str) -> list[Score]:
    return [one for one in scores if (one.rule, one.region) == (rule, region)]


def _spread(scores: list[Score]) -> str:
    values = [one.dice for one in scores]
    return f"{_mean(values):.3f} ± {statistics.stdev(values):.3f}"


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


if __name__ == "__main__":
    main()
