"""A volume and its prediction in a notebook, drawn by NiiVue (the package ipyniivue)."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from samjax.data.imaging.for_viewers import affine_of, nifti_bytes
from samjax.data.imaging.geometry import Geometry
from samjax.data.labels import COMPARTMENTS
from samjax.errors import UserError
from samjax.figures.palette import CODE_COLOURS, OPACITY

if TYPE_CHECKING:
    from ipyniivue import NiiVue

HINT = "pip install 'samjax[notebook]' to see it here"


def can_draw() -> bool:
    """Whether ipyniivue is installed."""
    return find_spec("ipyniivue") is not None


def draw(
    scans: dict[str, np.ndarray],
    codes: np.ndarray | None,
    geometry: Geometry | None,
    spacing: Sequence[float] | None,
) -> "NiiVue":
    """A widget that shows scans, the first of them in front, and a mask over them.

    Args:
        scans: (slices, rows, columns) uint8 of each modality; none of them but the first is visible until its opacity
            is raised.
        codes: canonical codes (slices, rows, columns) uint8; None: no mask.
        geometry: where the scans lie; None: see `spacing`.
        spacing: mm between slices, rows and columns where the geometry is not known; None: 1 mm.

    Raises:
        UserError: ipyniivue is not installed.
    """
    if not can_draw():
        raise UserError(f"ipyniivue draws the volume and is not installed; {HINT}")
    from ipyniivue import NiiVue

    affine = affine_of(geometry, spacing or (1.0, 1.0, 1.0))
    volumes = [
        {
            "name": f"{name}.nii.gz",
            "data": nifti_bytes(scan, affine),
            "colormap": "gray",
            "cal_min": 0.0,
            "cal_max": 255.0,
            "opacity": 0.0 if number else 1.0,
        }
        for number, (name, scan) in enumerate(scans.items())
    ]
    if codes is not None:
        volumes.append(
            {
                "name": "prediction.nii.gz",
                "data": nifti_bytes(codes, affine),
                "colormap_label": _colours(),
                "opacity": OPACITY,
            }
        )
    widget = NiiVue()
    widget.load_volumes(volumes)
    return widget


def _colours():
    """The colour of each canonical code, background being transparent."""
    from ipyniivue.traits import LUT

    lut = [0, 0, 0, 0]
    for code in range(1, len(COMPARTMENTS) + 1):
        lut += [*bytes.fromhex(CODE_COLOURS[code].removeprefix("#")), 255]
    return LUT(lut=lut, min=0, max=len(COMPARTMENTS), labels=["background", *COMPARTMENTS])
