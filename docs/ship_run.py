"""Writes a run as it comes with samjax: python docs/ship_run.py --run RUN --out samjax/weights/NAME

The parameters that predict are written in half precision, the configuration without the paths of the machine that
trained, and the post-processing of prompt-free masks is chosen anew on generated volumes, so that no real scan has a
part in it. The card (README.md of --out) is written by hand.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

from samjax.data.cache.cases import CachedCase
from samjax.data.cohort import list_cases, prepare, require_labels
from samjax.data.splits import Splits
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import model_of_run
from samjax.inference.postprocess_search import Predicted, choose, predicted_case
from samjax.inference.volumes import segment_cases
from samjax.runs.folder import CONFIG, FINAL, SPLIT, write_text
from samjax.runs.trained import AVERAGE, LAST, load_trained, save_final
from samjax.weights.safetensors_file import read_safetensors

DOMAINS = ("adult", "subsaharan", "meningioma", "paediatric")
SEED = 2000
"""Seed of the generated volumes; no run is trained on them."""
SHAPE = (192, 192, 144)
"""Voxels of 1 mm."""


@dataclass(frozen=True)
class Options:
    """Write a run as it comes with samjax."""

    run: Path
    """Finished run that was trained on generated scans alone."""
    out: Path
    """New folder."""
    volumes: Path
    """Folder of the generated volumes, which are made there."""
    per_domain: int = 4
    """Generated volumes of each of the four domains."""


def main(options: Options) -> None:
    """Writes the folder and prints the post-processing."""
    config, found = load_trained(options.run)
    final, metadata = read_safetensors(options.run / FINAL)
    which = AVERAGE if any(name.startswith(f"{AVERAGE}/") for name in final) else LAST
    step = int(metadata["step"])
    shipped = config.portable(config.options.labels)
    options.out.mkdir(parents=True, exist_ok=True)
    save_final(options.out, {LAST: found.trained}, shipped, step, half=True)
    write_text(options.out / CONFIG, shipped.to_json())
    write_text(options.out / SPLIT, json.dumps(Splits(shipped.options.seed, None, {}).to_json(), indent=2) + "\n")
    choice = choose(_predicted(options), (), "whole-tumor", LAST, step, fits=True)
    choice.save(options.out)
    print(f"{choice}; the weights are the run's {which}")


def _predicted(options: Options) -> Iterator[Predicted]:
    """The generated volumes with the prompt-free predictions of the shipped run."""
    model = model_of_run(options.out)
    for case, found in segment_cases(model, _cases(options), GroundTruthPrompts("none"), logits=True):
        yield predicted_case(case, found, model)


def _cases(options: Options) -> list[CachedCase]:
    folders = {domain: options.volumes / domain for domain in DOMAINS}
    for domain, folder in folders.items():
        write_cohort(folder, domain, options.per_domain, SEED, PhantomOptions(SHAPE), workers=2)
    cases = list_cases(folders, None, None, None)
    return require_labels(prepare(cases, None))


if __name__ == "__main__":
    main(tyro.cli(Options))
