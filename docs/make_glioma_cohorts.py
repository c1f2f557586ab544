"""Writes the generated patients that the model glioma was trained on: python docs/make_glioma_cohorts.py --out DIR"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from samjax.data.synthetic.phantom import write_cohort

COHORTS = {"adult": (70, 100), "subsaharan": (20, 200), "meningioma": (10, 300)}
"""Number of patients and seed, by domain of the phantom."""


@dataclass(frozen=True)
class Options:
    """Write the generated patients that the model glioma was trained on."""

    out: Path
    """Folder that gets a folder for each domain."""
    workers: int = 2


def main(options: Options) -> None:
    """Writes the cohorts; what is there already is kept."""
    for domain, (patients, seed) in COHORTS.items():
        write_cohort(options.out / domain, domain, patients, seed, workers=options.workers)
        print(f"{domain}: {patients} patients in {options.out / domain}")


if __name__ == "__main__":
    main(tyro.cli(Options))
