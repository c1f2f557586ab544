"""A model for inference: its weights on the devices, and all options that decide how slices are prepared for it."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flax import nnx

from samjax.data.cases import MODALITIES
from samjax.data.imaging.grids import RunGrid
from samjax.data.imaging.planes import AXIAL
from samjax.data.labels import from_canonical, roi_value
from samjax.data.needs import Needs
from samjax.data.on_device.channels import Channels
from samjax.errors import UserError
from samjax.inference.devices import Devices
from samjax.models.config import ComputeConfig


@dataclass(frozen=True, eq=False)
class SegmentationModel:
    """A SAM or a U-Net, split for compiled functions, and the preparation of its slices."""

    name: str
    graphdef: nnx.GraphDef
    states: tuple[nnx.State, ...]
    """The parameters, in one part or several, which `nnx.merge` takes with `graphdef`."""
    rois: tuple[str, ...]
    """The regions that it predicts: one, or several at once, of which a SAM is prompted for the first."""
    channels: Channels
    depth: int = 1
    """Slices of a window, which the encoder sees together."""
    image_size: int | None = None
    """Side of SAM's input in pixels; None for a U-Net, which takes slices as they are."""
    native: int = 0
    """Side of the square that slices were padded to in training; 0 for base weights, which have none. A slice is padded
    to this square, or to its own where that is larger."""
    cropped: bool = False
    """Whether it sees what a scan shows, cropped in its plane, instead of whole slices."""
    grid: RunGrid | None = None
    """The voxel grid of the run, which scans are resampled to; None: every scan's own grid, as for base weights."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    prompts: tuple[str, ...] = ("none",)
    """Kinds of prompts (box, point, none, mask) that it was trained with."""
    planes: tuple[str, ...] = (AXIAL,)
    """The planes whose mean probability decides prompt-free masks; prompts are axial."""
    modality_dropout: float = 0.0
    """Probability with which each modality was hidden in training; above 0, a scan may lack some."""
    angles: tuple[float, ...] = (0.0,)
    """Degrees by which slices are turned in turn; with several, the mean of the masks turned back is the prediction."""
    devices: Devices = field(default_factory=Devices)
    nested: bool = False
    """Whether what an inner region has outside an outer one is left out, instead of making the outer one larger."""

    @classmethod
    def on_local_devices(cls, graphdef: nnx.GraphDef, *states: nnx.State, **about: Any) -> "SegmentationModel":
        """A model whose parameters are copied to every device of this process; `about` are the other attributes."""
        devices = Devices.local()
        return cls(graphdef=graphdef, states=devices.place(states), devices=devices, **about)

    @property
    def is_unet(self) -> bool:
        return self.image_size is None

    @property
    def turns(self) -> bool:
        """Whether a slice is segmented in several rotations."""
        return len(self.angles) > 1

    @property
    def needs(self) -> Needs:
        """The modalities that it looks at."""
        return Needs(self.name, self.channels.needed, self.modality_dropout > 0)

    def present(self, modalities: Collection[str]) -> np.ndarray | None:
        """The channels (C,) bool that a scan with these modalities has; None for a model that needs all of them.

        Raises:
            UserError: the model cannot do without those that the scan lacks.
        """
        if reason := self.needs.refusal(modalities):
            raise UserError(f"the scan has {reason}")
        return self.channels.present(np.isin(MODALITIES, list(modalities))) if self.modality_dropout else None

    def network(self) -> nnx.Module:
        """The Flax model, merged again."""
        return nnx.merge(self.graphdef, *self.states)

    def square(self, rows: int, columns: int) -> int:
        """Side in pixels of the square that a slice is padded to: it depends on the model and the slice alone."""
        return max(self.native, rows, columns)

    def require(self, kind: str, option: str = "prompt") -> None:
        """Raises a `UserError` that begins with `option` for a kind of prompt that the model was not trained with."""
        if kind not in self.prompts:
            seen = ", ".join(self.prompts)
            how = "with --clicks above 1" if kind == "mask" else "with it"
            raise UserError(
                f"{option} {kind}: {self.name} was trained with {seen} only; ask with one of these or train {how}"
            )

    def label_map(self, mask: np.ndarray, scheme: str) -> np.ndarray:
        """A predicted volume in the values of a label scheme, uint8.

        Args:
            mask: the region as bool, written with its outermost compartment's value, or canonical codes.
        """
        if mask.dtype == bool:
            return mask.astype(np.uint8) * roi_value(scheme, self.rois[0])
        return from_canonical(mask, scheme)
