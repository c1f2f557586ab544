"""Cases for the slice viewer of a report, cropped to the brain, and small enough to be embedded in the page.

The images are compressed with loss, since they are only viewed: all slices of a modality lie side by side on one
sheet, a WebP of quality 40, about 0.2 MB for a modality of a BraTS case. Masks are exact, as run lengths.
"""

import math
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from samjax.metrics.boxes import bounding_box

QUALITY = 40


@dataclass(frozen=True)
class ViewerCase:
    """A case's scans, labels and predictions; all arrays (slice, row, column) in our axes, of one shape.

    Raises:
        ValueError: there is no image, or an array has another shape or dtype.
    """

    id: str
    images: Mapping[str, np.ndarray]
    """The image of each modality, uint8, by the name shown, in the order of the viewer's keys 1, 2, ..."""
    truth: Mapping[str, np.ndarray]
    """The label of each region, bool."""
    predictions: Mapping[str, Mapping[str, np.ndarray]]
    """The masks of the regions that each run predicts, bool; each region is also in `truth`."""
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Spacing in mm along slices, rows and columns."""

    def __post_init__(self) -> None:
        shapes = {image.shape for image in self.images.values()}
        masks = list(self.masks())
        if len(shapes) != 1 or {mask.shape for mask in masks} - shapes or len(self.shape) != 3:
            raise ValueError(f"viewer: case {self.id} needs images and masks of one shape (slice, row, column)")
        if any(i.dtype != np.uint8 for i in self.images.values()) or any(mask.dtype != bool for mask in masks):
            raise ValueError(f"viewer: case {self.id} needs images of uint8 and masks of bool")
        if any(set(regions) - set(self.truth) for regions in self.predictions.values()):
            raise ValueError(f"viewer: case {self.id} has predictions of regions that have no truth")

    @property
    def shape(self) -> tuple[int, ...]:
        return next(iter(self.images.values())).shape

    def masks(self) -> Iterator[np.ndarray]:
        """All masks: first the labels, then the predictions."""
        yield from self.truth.values()
        for regions in self.predictions.values():
            yield from regions.values()


def payload(case: ViewerCase) -> dict[str, Any]:
    """A case as it is embedded in the page, for JSON.

    `shape` and `start` are those of the crop, in voxels. `sheets` are data URIs of pictures in which slice number i of
    the crop lies in row i // sheet_columns and column i % sheet_columns. Masks are as `run_lengths` encodes them.
    """
    box = crop(case)
    shape = tuple(side.stop - side.start for side in box)
    columns = sheet_columns(shape)
    return {
        "id": case.id,
        "slices": case.shape[0],
        "start": [side.start for side in box],
        "shape": list(shape),
        "spacing": list(case.spacing),
        "sheet_columns": columns,
        "sheets": {name: picture_uri(sheet(image[box], columns)) for name, image in case.images.items()},
        "truth": {roi: run_lengths(mask[box]) for roi, mask in case.truth.items()},
        "predictions": {
            run: {roi: run_lengths(mask[box]) for roi, mask in regions.items()}
            for run, regions in case.predictions.items()
        },
    }


def crop(case: ViewerCase) -> tuple[slice, slice, slice]:
    """The bounding box of the foreground of all images and masks; the whole volume if there is none."""
    filled = np.zeros(case.shape, bool)
    for array in (*case.images.values(), *case.masks()):
        filled |= array > 0
    return bounding_box(filled) or tuple(slice(0, size) for size in case.shape)


def sheet_columns(shape: tuple[int, ...]) -> int:
    """Number of slices side by side that makes the sheet about square."""
    slices, rows, columns = shape
    return min(slices, math.ceil(math.sqrt(slices * rows / columns)))


def sheet(volume: np.ndarray, columns: int) -> np.ndarray:
    """The slices of a volume (slice, row, column), row by row in one picture; places without a slice are black."""
    slices, height, width = volume.shape
    lines = math.ceil(slices / columns)
    padded = np.zeros((lines * columns, height, width), volume.dtype)
    padded[:slices] = volume
    return padded.reshape(lines, columns, height, width).swapaxes(1, 2).reshape(lines * height, columns * width)


def picture_uri(picture: np.ndarray) -> str:
    """A picture (rows, columns) uint8 as the data URI of a WebP, or of a JPEG where Pillow was built without it."""
    from PIL import Image, features

    kind = "webp" if features.check("webp") else "jpeg"
    file = BytesIO()
    Image.fromarray(picture).save(file, kind, quality=QUALITY)
    return data_uri(f"image/{kind}", file.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """Content as a data URI, which needs no other file."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def run_lengths(mask: np.ndarray) -> str:
    """The lengths of the runs of a mask in C order, beginning with background, as base64.

    Each length is a varint: seven bits a byte, the lowest first, the eighth bit set in all but the last.
    """
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(changes, prepend=0, append=flat.size).tolist()
    code = bytearray()
    for length in [0, *lengths] if flat[0] else lengths:
        while length > 127:
            code.append(length & 127 | 128)
            length >>= 7
        code.append(length)
    return b64encode(code).decode()
