"""Scores runs with every subset of their modalities and prints a table: python docs/make_modalities_table.py --run RUN

Takes the options of eval.py. Each subset has a folder of its own in --output (default: subsets/ in the run's folder),
where the table is written as table.md, .tex and .csv. The runs must have been trained with --modality-dropout.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import tyro

from samjax.data.cases import MODALITIES
from samjax.evaluation.evaluate import evaluate
from samjax.evaluation.reporting.tables import Table, number, write_tables
from samjax.options import EvalOptions
from samjax.runs.config import needs_of
from samjax.runs.folder import find_run, read_config

HEADER = ("shown", "run", "domain", "ROI", "prompt", "Dice", "SD", "HD95 mm", "n")


def subsets(modalities: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """All non-empty subsets, the small ones first."""
    for count in range(1, len(modalities) + 1):
        yield from combinations(modalities, count)


def rows(summary: Path, shown: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A row for each run, domain and region of a summary.json."""
    for name, run in json.loads(summary.read_text())["runs"].items():
        for domain, data in run["data"].items():
            for roi, scopes in data["roi"].items():
                found = scopes["volume"]
                yield (
                    ", ".join(shown), name.removesuffix("-" + "+".join(shown)), domain, roi, run["prompt"],
                    number(found["dice"]), number(found["dice_sd"]), number(found["hd95"], 1), str(found["n"]),
                )  # fmt: skip


def main() -> None:
    options = tyro.cli(EvalOptions)
    runs = [find_run(run) for run in options.run or (None,)]
    looked_at = {name for run in runs for name in needs_of(read_config(run).options, run.name).modalities}
    output = options.output or runs[0] / "subsets"
    found: list[tuple[str, ...]] = []
    for shown in subsets([name for name in MODALITIES if name in looked_at]):
        folder = output / "+".join(shown)
        evaluate(replace(options, modalities=",".join(shown), output=folder))
        found += rows(folder / "summary.json", shown)
    table = Table("Dice and HD95 by volume (3-D) for every subset of the modalities", HEADER, tuple(found))
    write_tables(output / "table", [table])
    table.show()


if __name__ == "__main__":
    main()
