"""A small model and cases for the tests of the server."""

from pathlib import Path

from flax import nnx

from samjax.data.cases import Case
from samjax.data.imaging.grids import RunGrid
from samjax.data.on_device.channels import parse_channels
from samjax.inference.inputs import find_inputs
from samjax.inference.model import SegmentationModel
from samjax.serve.engine import Engine
from samjax.serve.library import Library
from tests.data.trees import example, save_brats
from tests.training import small

SHAPE = (9, 20, 16)
"""Slices, rows and columns of a case; the first and last slice are background."""
SPACING = (3.0, 1.0, 1.0)
INSIDE = (4, 9, 7)
"""A voxel within the head."""


def small_model(*prompts: str, grid: RunGrid | None = None) -> SegmentationModel:
    """A model of random weights, trained with these kinds of prompts or with all."""
    return SegmentationModel.on_local_devices(
        *nnx.split(small.lora4ch()), name="small", rois=("whole-tumor",), channels=parse_channels("all"),
        depth=small.DEPTH, image_size=64, native=32, grid=grid, prompts=prompts or ("none", "box", "point", "mask"),
    )  # fmt: skip


def write_case(root: Path, name: str = "BraTS-GLI-00001-000", seed: int = 0, orientation: str = "LPS") -> Path:
    """A case of four scans and a label."""
    scan = example(seed, SHAPE)
    save_brats(root / name, name, scan, "brats2023", orientation=orientation, spacing=SPACING)
    return root / name


def cases_of(*folders: Path) -> list[Case]:
    return find_inputs(folders, None, None)[0]


def library_of(engine: Engine, output: Path, *folders: Path) -> Library:
    cases = cases_of(*folders)
    return Library(engine, cases, {case.id: "brats2023" for case in cases}, output)
