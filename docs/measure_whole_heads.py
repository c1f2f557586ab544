"""Measures the model glioma on generated heads with their skull, as they are and after `samjax prepare`.

    python docs/measure_whole_heads.py [HEADS]

Prints the whole tumour's prompt-free Dice of each head. It takes a minute or two a head.
"""

import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from samjax import Predictor
from samjax.data.synthetic.head import Pose, Sequence, in_pose, make_head, scan_head
from samjax.metrics.overlap import dice
from samjax.options import PrepareOptions
from samjax.prepare.batch import prepare

NAMES = {"t1": "t1", "t1gd": "t1ce", "t2": "t2", "flair": "flair"}
SCAN = Sequence(noise=0.04, bias=0.15)
SEED = 100


def main() -> None:
    heads = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    predictor = Predictor.from_run("glioma")
    for number in range(heads):
        with tempfile.TemporaryDirectory() as place:
            truth, affine = write_head(Path(place) / "raw" / f"head-{number + 1}", SEED + number)
            prepare(PrepareOptions(Path(place) / "raw", Path(place) / "prepared"))
            as_is = score(predictor, next((Path(place) / "raw").iterdir()), truth, affine)
            after = score(predictor, Path(place) / "prepared" / f"head-{number + 1}", truth, affine)
        print(
            f"head {number + 1}, {truth.sum() / 1000:.0f} ml: with skull {as_is:.3f}, prepared {after:.3f}", flush=True
        )


def write_head(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Writes the four scans of a head in one pose; returns its tumour (i, j, k) bool and the affine of that."""
    folder.mkdir(parents=True)
    head = make_head(seed)
    for modality, name in NAMES.items():
        array, affine = scan_head(head, modality, seed, sequence=SCAN)
        nib.save(nib.Nifti1Image(array, affine), folder / f"{folder.name}_{name}.nii.gz")
    return head.label > 0, head.affine


def score(predictor: Predictor, case: Path, truth: np.ndarray, affine: np.ndarray) -> float:
    """The Dice of the whole tumour on the grid of a case's scans."""
    predictor.set_volume(case)
    predictor.segment(postprocess="auto")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "mask.nii.gz"
        predictor.save(path, labels="brats2023")
        mask = nib.load(path)
        predicted = np.asarray(mask.dataobj) > 0
    there = in_pose(truth.astype(np.float32), affine, mask.shape, mask.affine, Pose()) >= 0.5
    return dice(predicted, there)


if __name__ == "__main__":
    main()
