"""Measures `samjax prepare` on generated heads and prints the tables of docs/prepare.md.

    python docs/measure_preparation.py [HEADS]

Each head is scanned four times, T1, T2 and FLAIR 20 mm and 15 degrees away from T1-Gd about random axes, at three
qualities. It takes minutes a head.
"""

import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from samjax.data.synthetic.head import SITES, Head, Pose, Sequence, make_head, scan_head, true_brain
from samjax.prepare.case import Prepared, prepare_case
from samjax.prepare.finding import find_scans
from samjax.prepare.grid import voxels_to_points

QUALITIES = {
    "1 mm": (Sequence(noise=0.04, bias=0.15), Sequence(noise=0.05, bias=0.15, lowest=-100)),
    "1 mm, noise, shading": (Sequence(noise=0.1, bias=0.3), Sequence(noise=0.1, bias=0.3, lowest=-100)),
    "5 mm slices": (Sequence(noise=0.04, bias=0.15), Sequence((0.6, 0.6, 5.0), 0.05, 0.15, -95)),
    "5 mm slices, T1-Gd too": (
        Sequence((0.6, 0.6, 5.0), 0.05, 0.15, -95),
        Sequence((0.6, 0.6, 5.0), 0.05, 0.15, -95),
    ),
}
"""How T1-Gd, and how the other modalities are acquired."""


def main() -> None:
    heads = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    for number in range(heads):
        site = SITES[number % len(SITES)]
        head = make_head(number + 1, 1.0, site)
        for quality in QUALITIES:
            measure(head, f"head {number + 1}, tumour {site}, {quality}", quality, number)


def measure(head: Head, name: str, quality: str, seed: int) -> None:
    """Prints one line about a head scanned at one quality."""
    with tempfile.TemporaryDirectory() as place:
        poses = write_scans(Path(place), head, quality, seed)
        started, busy = time.monotonic(), time.process_time()
        prepared = prepare_case(find_scans(Path(place)).cases[0], None, (1.0, 1.0, 1.0))
        seconds, work = time.monotonic() - started, time.process_time() - busy
    errors = [registration_error(head, prepared, poses, name) for name in prepared.movements]
    millimetres = ", ".join(
        f"{modality} {far:.2f}" for modality, (far, _) in zip(prepared.movements, errors, strict=True)
    )
    degrees = max(turn for _, turn in errors)
    true = brain_on(head, prepared, poses["t1gd"])
    missed, more = (np.count_nonzero(part) / 1000 for part in (true & ~prepared.brain, prepared.brain & ~true))
    dice = 2 * np.count_nonzero(true & prepared.brain) / (true.sum() + prepared.brain.sum())
    print(
        f"{name}: off by at most {millimetres} mm, {degrees:.2f} degrees; brain Dice {dice:.3f}, missed {missed:.0f}, "
        f"and more {more:.0f}, {true.sum() / 1000:.0f} ml; symmetry {prepared.found.symmetry:.3f}, closed "
        f"{prepared.found.closed:.3f}, {len(prepared.doubts)} doubts; {seconds:.0f} s, {work:.0f} s of work",
        flush=True,
    )


def write_scans(folder: Path, head: Head, quality: str, seed: int) -> dict[str, Pose]:
    """Writes the four scans of a head, and returns where it lay in each."""
    rng = np.random.default_rng((seed, list(QUALITIES).index(quality)))
    first = Pose(tuple(rng.uniform(-6, 6, 3)), tuple(rng.uniform(-8, 8, 3)))
    poses = {}
    for modality in ("t1gd", "t1", "t2", "flair"):
        turn, shift = (axis / np.linalg.norm(axis) for axis in rng.normal(size=(2, 3)))
        away = Pose(tuple(np.array(first.degrees) + 15 * turn), tuple(np.array(first.shift) + 20 * shift))
        poses[modality] = first if modality == "t1gd" else away
        sequence = QUALITIES[quality][modality != "t1gd"]
        array, affine = scan_head(head, modality, seed, poses[modality], sequence)
        nib.save(nib.Nifti1Image(array, affine), folder / f"{modality}.nii.gz")
    return poses


def registration_error(head: Head, prepared: Prepared, poses: dict[str, Pose], modality: str) -> tuple[float, float]:
    """The largest distance in the brain, in millimetres, and the angle in degrees by which a transform is wrong."""
    points = voxels_to_points(np.argwhere(head.brain)[::97], head.affine)
    wanted = poses[modality].matrix @ np.linalg.inv(poses["t1gd"].matrix)
    there = voxels_to_points(points, poses["t1gd"].matrix)
    found = prepared.movements[modality].matrix
    apart = np.linalg.norm(voxels_to_points(there, found) - voxels_to_points(there, wanted), axis=1).max()
    turn = (np.trace(found[:3, :3] @ wanted[:3, :3].T) - 1) / 2
    return float(apart), float(np.degrees(np.arccos(np.clip(turn, -1, 1))))


def brain_on(head: Head, prepared: Prepared, pose: Pose) -> np.ndarray:
    """The true brain on the grid of the result."""
    return true_brain(head, prepared.grid.affine, prepared.grid.shape, pose)


if __name__ == "__main__":
    main()
