"""Measures the model glioma on heads with their skull, as they are and after `samjax prepare`.

    python docs/measure_whole_heads.py [--heads N] [--data BRATS_DIR]

The heads are generated ones, or those that the stripped and labelled cases of a folder get around their brains
(`samjax/data/synthetic/added_head.py`). Prints the whole tumour's prompt-free Dice of each head, for a case of a folder
also as it was before it had a head. A head that `samjax prepare` refuses counts as 0. It takes a minute or two a head.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import tyro

from samjax import Predictor
from samjax.data.cases import Case
from samjax.data.cohort import list_cases
from samjax.data.synthetic.added_head import head_around
from samjax.data.synthetic.head import Head, Pose, Sequence, in_pose, make_head, scan_head
from samjax.errors import UserError
from samjax.metrics.overlap import dice
from samjax.options import PrepareOptions
from samjax.prepare.batch import prepare

NAMES = {"t1": "t1", "t1gd": "t1ce", "t2": "t2", "flair": "flair"}
SCAN = Sequence(noise=0.04, bias=0.15)
SEED = 100


@dataclass(frozen=True)
class Options:
    """Measure the model glioma on heads with their skull."""

    heads: int = 4
    """Number of heads; of a folder, its first cases."""
    data: Path | None = None
    """Folder of stripped, labelled cases that get a head each; without it heads are generated."""


def main(options: Options) -> None:
    """Prints one line about each head, then mean, median and worst of each column."""
    predictor = Predictor.from_run("glioma")
    found = []
    for seed, (name, head, stripped) in enumerate(_heads(options), start=SEED):
        with tempfile.TemporaryDirectory() as place:
            raw, prepared = Path(place) / "raw", Path(place) / "prepared"
            write_scans(raw / name, head, seed)
            scores = {"with skull": score(predictor, raw / name, head), "prepared": 0.0}
            try:
                prepare(PrepareOptions(raw, prepared))
                scores["prepared"] = score(predictor, prepared / name, head)
            except UserError as error:
                print(error, flush=True)
        if stripped is not None:
            scores["stripped as published"] = score_stripped(predictor, stripped)
        volume = np.count_nonzero(head.label) / 1000
        print(f"{name}, {volume:.0f} ml: " + ", ".join(f"{key} {x:.3f}" for key, x in scores.items()), flush=True)
        found.append(scores)
    for key in found[0]:
        print(f"{key}: {_summary([scores[key] for scores in found])}")


def _summary(values: list[float]) -> str:
    spread = f" +- {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    middle = f"median {np.median(values):.3f}, worst {min(values):.3f}"
    return f"mean {np.mean(values):.3f}{spread}, {middle} (n = {len(values)})"


def _heads(options: Options) -> Iterator[tuple[str, Head, Case | None]]:
    """The name of each head, the head, and the case that it is around."""
    if options.data is None:
        for number in range(options.heads):
            yield f"head-{number + 1}", make_head(SEED + number), None
        return
    for number, case in enumerate(list_cases({"real": options.data}, None, None, options.heads)):
        images = {name: np.asarray(nib.load(source.path).dataobj) for name, source in case.images.items()}
        label = nib.load(case.label)
        yield (
            case.id,
            head_around(images, np.asarray(label.dataobj).astype(np.uint8), label.affine, SEED + number),
            case,
        )


def write_scans(folder: Path, head: Head, seed: int) -> None:
    """Writes the four scans of a head in one pose, each with noise and shading of its own."""
    folder.mkdir(parents=True)
    for modality, name in NAMES.items():
        array, affine = scan_head(head, modality, seed, sequence=SCAN)
        nib.save(nib.Nifti1Image(array, affine), folder / f"{folder.name}_{name}.nii.gz")


def score(predictor: Predictor, case: Path, head: Head) -> float:
    """The Dice of the whole tumour on the grid of a case's scans."""
    mask = _segmented(predictor, case)
    there = in_pose((head.label > 0).astype(np.float32), head.affine, mask.shape, mask.affine, Pose()) >= 0.5
    return dice(np.asarray(mask.dataobj) > 0, there)


def score_stripped(predictor: Predictor, case: Case) -> float:
    """The Dice of the whole tumour of a labelled case."""
    mask = _segmented(predictor, case.reference.path.parent)
    return dice(np.asarray(mask.dataobj) > 0, np.asarray(nib.load(case.label).dataobj) > 0)


def _segmented(predictor: Predictor, case: Path) -> nib.Nifti1Image:
    """The mask of a case by the model's own rule."""
    predictor.set_volume(case)
    predictor.segment(postprocess="auto")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "mask.nii.gz"
        predictor.save(path, labels="brats2023")
        mask = nib.load(path)
        return nib.Nifti1Image(np.asarray(mask.dataobj), mask.affine)


if __name__ == "__main__":
    main(tyro.cli(Options))
