"""Measures what the model glioma is worth as a start for fine-tuning where few patients are labelled.

    python docs/measure_few_patients.py --data BRATS_DIR --out DIR

`lora4ch` is trained on 1, 2, 4 and 7 of the first ten cases of a folder in the alphabet, once from `tiny` and once
from `glioma`, and scored prompt-free on three others. Test cases of fold 1 are the first, fourth and seventh, those of
folds 2 and 3 the ones after these; of the other seven the first ones train. Nothing is chosen by a score: all runs take
the same steps, and the patient that a run needs for its validation is a generated one. What is there already is not
done again. The scores go to DIR/scores.csv, of which docs/make_few_patients_figure.py makes a figure and a table.
"""

import csv
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import tyro

from samjax.data.cache.cases import CachedCase
from samjax.data.cohort import list_cases, prepare, require_labels
from samjax.data.labels import roi_mask
from samjax.data.synthetic.phantom import PhantomOptions, make_case
from samjax.inference.fitting.predictions import postprocessed
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.loading import model_of_run
from samjax.inference.postprocess import Postprocess
from samjax.inference.volumes import segment_cases
from samjax.metrics.hausdorff import hd95
from samjax.metrics.overlap import dice
from samjax.runs.folder import FINAL

CASES, TESTED = 10, 3
STARTS = ("tiny", "glioma")
PATIENTS = (1, 2, 4, 7)
RULES = ("none", "fit,share=0.2")
"""Masks as predicted, and by the rule that comes with glioma."""
REGIONS = ("whole-tumor", "tumor-core", "enhancing")
RECIPE = [
    "--strategy", "lora4ch", "--roi", "all", "--prompt", "none:0.5,point:0.3,box:0.2", "--clicks", "2",
    "--box-jitter", "0.1", "--empty-share", "0.15", "--epochs", "1000", "--lr", "3e-4", "--schedule", "cosine",
    "--warmup-steps", "30",
]  # fmt: skip
"""How glioma was trained, with a lower learning rate and a shorter warm-up."""
GRID, FIELD_OF_VIEW = (240, 240, 31), (240.0, 240.0, 155.0)
"""Voxels of the generated patient, and its size in mm: few slices, as its scores decide nothing."""
GENERATED = "Brats18_generated_1_1"
GENERATED_SEED = 3000


@dataclass(frozen=True)
class Options:
    """Fine-tune on few patients from two starts, and score on others."""

    data: Path
    """Folder of labelled cases."""
    out: Path
    """Folder for the runs and scores.csv."""
    folds: tuple[int, ...] = (1, 2, 3)
    starts: tuple[str, ...] = STARTS
    patients: tuple[int, ...] = PATIENTS
    steps: int = 300
    cache_dir: Path = Path("~/.cache/samjax")


@dataclass(frozen=True)
class Score:
    """A case as a run segments it; a run on 0 patients is glioma as it is."""

    fold: int
    start: str
    patients: int
    steps: int
    case: str
    rule: str
    region: str
    dice: float
    hd95: float


def main(options: Options) -> None:
    """Trains and scores what is missing."""
    options.out.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in options.data.iterdir() if path.is_dir())[:CASES]
    link_cases(options.out / "cases", options.data, names)
    write_generated(options.out / GENERATED)
    cases = require_labels(prepare(list_cases({"real": options.out / "cases"}, None, None, None), options.cache_dir))
    by_name = {case.case.id: case for case in cases}
    for fold in options.folds:
        tested = names[fold - 1 : 3 * TESTED : 3]
        others = [name for name in names if name not in tested]
        test = [by_name[name] for name in tested]
        score(Path("glioma"), test, options, (fold, "glioma", 0, 0))
        for count in options.patients:
            for start in options.starts:
                run = options.out / "runs" / f"{fold}-{start}-{count}-{options.steps}"
                if not (run / FINAL).exists():
                    train(run, start, others[:count], options)
                score(run, test, options, (fold, start, count, options.steps))


def link_cases(place: Path, data: Path, names: list[str]) -> None:
    """A folder with links to some cases of another."""
    place.mkdir(exist_ok=True)
    for name in names:
        if not (place / name).exists():
            (place / name).symlink_to((data / name).resolve())


def write_generated(folder: Path) -> None:
    """The generated patient that validates, named and labelled as BraTS 2018 does."""
    last = folder / f"{GENERATED}_seg.nii.gz"
    if last.exists():
        return
    folder.mkdir(exist_ok=True)
    options = PhantomOptions(GRID, FIELD_OF_VIEW)
    case = make_case("adult", GENERATED_SEED, 0, options)
    label = np.where(case["label"] == 3, 4, case["label"]).astype(np.uint8)
    files = {"t1ce" if name == "t1gd" else name: image for name, image in case["images"].items()} | {"seg": label}
    for name, array in files.items():
        nib.save(nib.Nifti1Image(array, options.affine), folder / f"{GENERATED}_{name}.nii.gz")


def train(run: Path, start: str, names: list[str], options: Options) -> None:
    """A run on the named cases, in a process of its own."""
    place = run.with_name(f"{run.name}-data")
    place.mkdir(parents=True, exist_ok=True)
    link_cases(place, options.data, names)
    link_cases(place, options.out, [GENERATED])
    split = place / "split.json"
    split.write_text(json.dumps({"train": names, "val": [GENERATED], "test": []}))
    command = [sys.executable, "-m", "samjax", "train", *RECIPE, "--data", f"real={place}", "--split-file", str(split)]
    command += ["--weights", start, "--max-steps", str(options.steps), "--run", str(run)]
    command += ["--cache-dir", str(options.cache_dir)]
    resume = ["--resume"] if run.exists() else []
    subprocess.run(command + resume, check=True)


def score(run: Path, cases: list[CachedCase], options: Options, which: tuple[int, str, int, int]) -> None:
    """Adds the scores of a run on cases to scores.csv, unless they are there."""
    path = options.out / "scores.csv"
    if any((row.fold, row.start, row.patients, row.steps) == which for row in read_scores(path)):
        return
    model = model_of_run(run)
    rows = []
    for case, found in segment_cases(model, cases, GroundTruthPrompts("none"), logits=True):
        images, labels = case.read(0, case.shape[0])
        spacing = case.geometry.spacing
        for rule in RULES:
            mask = postprocessed(found, images, spacing, model, Postprocess.parse(rule)).mask
            for region in REGIONS:
                predicted, truth = roi_mask(mask, region), roi_mask(labels, region)
                distance = hd95(predicted, truth, spacing)
                rows.append(Score(*which, case.case.id, rule, region, dice(predicted, truth), distance))
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(Score.__annotations__))
        if new:
            writer.writeheader()
        writer.writerows(map(asdict, rows))


def read_scores(path: Path) -> list[Score]:
    """The scores of a file, none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            Score(**{name: kind(row[name]) for name, kind in Score.__annotations__.items()})
            for row in csv.DictReader(file)
        ]


if __name__ == "__main__":
    main(tyro.cli(Options))
