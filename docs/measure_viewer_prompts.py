"""Measures what the prompts of viewers give with the model glioma on generated patients.

    python docs/measure_viewer_prompts.py [--cases N] [--seed S]

Each prompt is drawn from the label as a person would draw it, goes the way of a client of nnInteractive's protocol, and
is scored by the Dice of the whole tumour in 3-D. Prints the mean, standard deviation and least of each. It takes about
two minutes.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from scipy.ndimage import distance_transform_edt, label

from samjax.data.formats.nifti import read_nifti
from samjax.data.imaging.geometry import to_ours
from samjax.data.synthetic.phantom import write_cohort
from samjax.inference.inputs import find_inputs
from samjax.inference.loading import model_of_run
from samjax.metrics.boxes import bounding_box
from samjax.metrics.overlap import dice
from samjax.runs.folder import GLIOMA, find_model
from samjax.serve.engine import Engine
from samjax.serve.nninteractive.placing import Placed, assumed_geometry
from samjax.serve.nninteractive.session import Session
from samjax.serve.opened import OpenedCase


@dataclass(frozen=True)
class Options:
    """Measure the prompts of viewers on generated patients."""

    cases: int = 10
    """Number of patients."""
    seed: int = 4242
    """Seed of the patients; none of the model's training patients has it."""


@dataclass(frozen=True)
class Target:
    """A tumour and where a person would point: its largest slice, that slice's largest part and its deepest voxel."""

    truth: np.ndarray
    slice: int
    part: np.ndarray
    depth: np.ndarray
    place: tuple[int, int, int]

    @classmethod
    def of(cls, truth: np.ndarray) -> "Target":
        z = int(truth.sum(axis=(1, 2)).argmax())
        parts, _ = label(truth[z])
        part = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        depth = distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
        row, column = map(int, np.unravel_index(depth.argmax(), depth.shape))
        return cls(truth, z, part, depth, (z, row, column))


def click(session: Session, target: Target) -> None:
    session.add_points([target.place], True, True)


def scribble(session: Session, target: Target) -> None:
    """A line along the part's longer axis where it is deepest, from 15 to 85 percent of its length."""
    places = np.argwhere(target.part)
    centred = places - places.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    drawn = np.zeros(target.truth.shape, bool)
    for step in np.arange(*np.percentile(along, (15, 85)), 1.0):
        near = places[np.abs(along - step) < 1]
        if len(near):
            drawn[(target.slice, *near[target.depth[tuple(near.T)].argmax()])] = True
    session.add_scribble(drawn, (0, 0, 0), True, True)


def axial_box(session: Session, target: Target) -> None:
    rows, columns = bounding_box(target.part)
    box = [[target.slice, target.slice + 1], [rows.start, rows.stop], [columns.start, columns.stop]]
    session.add_box(box, True)


def other_box(axis: int) -> "Draw":
    """A box on the coronal (axis 1) or sagittal (2) slice through the deepest voxel."""

    def draw(session: Session, target: Target) -> None:
        parts, _ = label(target.truth.take(target.place[axis], axis))
        there = bounding_box(parts == parts[tuple(np.delete(target.place, axis))])
        box = [[side.start, side.stop] for side in there]
        box.insert(axis, [target.place[axis], target.place[axis] + 1])
        session.add_box(box, True)

    return draw


def box_in_3d(session: Session, target: Target) -> None:
    session.add_box([[side.start, side.stop] for side in bounding_box(target.truth)], True)


Draw = Callable[[Session, Target], None]
DRAWN: dict[str, Draw] = {
    "a click": click,
    "a scribble": scribble,
    "a box on an axial slice": axial_box,
    "a box on a coronal slice": other_box(1),
    "a box on a sagittal slice": other_box(2),
    "a box in 3-D": box_in_3d,
}


def main(options: Options) -> None:
    """Prints a line for each prompt."""
    run = find_model(Path(GLIOMA))
    engine = Engine(model_of_run(run), run)
    scores: dict[str, list[float]] = {name: [] for name in DRAWN}
    with tempfile.TemporaryDirectory() as place:
        write_cohort(place, "adult", options.cases, options.seed)
        for case in find_inputs([Path(place)], None, None)[0]:
            opened = OpenedCase.from_files(engine.model, case, run)
            labels = read_nifti(next(case.reference.path.parent.glob("*-seg.nii.gz"))).array
            target = Target.of(to_ours(labels, opened.geometry) > 0)
            for name, draw in DRAWN.items():
                session = Session(engine)
                session.set_image(Placed(opened, assumed_geometry(opened.shape, opened.spacing)))
                draw(session, target)
                scores[name].append(dice(session.mask > 0, target.truth))
    engine.close()
    for name, found in scores.items():
        print(f"{name}: {np.mean(found):.3f} +- {np.std(found, ddof=1):.3f}, worst {min(found):.3f} (n = {len(found)})")


if __name__ == "__main__":
    main(tyro.cli(Options))
