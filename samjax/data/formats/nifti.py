"""Reads NIfTI files whole and checked, and writes them.

nibabel parses and writes the headers. The voxels are taken from the decompressed bytes here, as the
file's own integers: every gzip stream is read to its end, so that truncation and checksum errors are
found at no more than the cost of decompressing.
"""

import gzip
import io
import math
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import isal_zlib  # zlib's interface at three times its speed

from samjax.errors import UserError
from samjax.files import replacing

_GZIP_MAGIC = b"\x1f\x8b"
_HEADER_BYTES = 540  # of NIfTI-2, the longer one
_NIFTI2 = 540


@dataclass(frozen=True)
class Nifti:
    """A NIfTI file in memory. `array` holds the stored numbers (F order, 3-D or 4-D), scaled where the
    header asks for it (then float32)."""

    path: Path
    header: nib.Nifti1Header
    array: np.ndarray


def read_nifti(path: Path) -> Nifti:
    """Reads a `.nii` or `.nii.gz` file whole.

    Raises:
      UserError: the file is missing, truncated or damaged, no NIfTI, or not of real numbers.
    """
    raw = _decompressed(path)
    header = _parse(raw[:_HEADER_BYTES], path)
    dtype, shape = header.get_data_dtype(), header.get_data_shape()
    if dtype.kind not in "iuf":
        raise UserError(f"{path}: its voxels are {dtype}, expected real numbers")
    start, count = int(header.get_data_offset()), math.prod(shape)
    if count == 0 or len(raw) < start + count * dtype.itemsize:
        need = start + count * dtype.itemsize
        raise UserError(f"{path}: truncated, {len(raw)} bytes where shape {shape} needs {need}; fetch it again")
    array = np.frombuffer(raw, dtype, count, start).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1, 0):
        with np.errstate(over="ignore", invalid="ignore"):  # infinite voxels are refused where the scan is used
            array = array * np.float32(slope) + np.float32(intercept)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return Nifti(path, header, array)


def header_bytes(path: Path) -> bytes:
    """The first bytes of the file, decompressed: those that `read_header` parses, for hashing."""
    try:
        with path.open("rb") as file:
            start = file.read(4 * _HEADER_BYTES)
        if start.startswith(_GZIP_MAGIC):
            start = isal_zlib.decompressobj(31).decompress(start, _HEADER_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None
    except isal_zlib.error:
        raise _damaged(path) from None
    return start[:_HEADER_BYTES]


def read_header(path: Path) -> nib.Nifti1Header:
    """The header alone; a `UserError` where there is none."""
    return _parse(header_bytes(path), path)


def write_like(
    path: Path,
    array: np.ndarray,
    source: Path,
    dtype: np.dtype | type = np.uint8,
    slope: float = 1.0,
    shown: tuple[float, float] = (0, 0),
) -> None:
    """Writes a 3-D array with the header, affine and orientation codes of `source`.

    Args:
      path: `.nii` or `.nii.gz`.
      array: on the source's voxel grid and axes.
      source: the NIfTI file with that grid (3-D or 4-D).
      dtype: type in which the numbers are stored as they are.
      slope: factor in the header by which readers multiply them.
      shown: the window of values that viewers show; (0, 0): none.
    """
    header = read_header(source).copy()
    if array.shape != header.get_data_shape()[:3]:
        raise ValueError(f"array of shape {array.shape} for {source} of shape {header.get_data_shape()}")
    header.set_data_dtype(dtype)
    header["cal_min"], header["cal_max"] = shown  # that of the source is for the scan's intensities
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(np.asarray(array, dtype), None, header)
    if slope != 1:
        image.header.set_slope_inter(slope, 0)
    with replacing(path) as temporary:
        nib.save(image, temporary)


def _decompressed(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    if not data.startswith(_GZIP_MAGIC):
        return data
    stream = isal_zlib.decompressobj(31)
    try:
        raw = stream.decompress(data)
        if stream.unused_data:  # several streams in one file: rare, and gzip knows the rules
            raw = gzip.decompress(data)
    except (isal_zlib.error, EOFError, OSError):
        raise _damaged(path) from None
    if not stream.eof:
        raise UserError(f"{path}: the gzip stream ends early, the file is truncated; fetch it again")
    return raw


def _parse(start: bytes, path: Path) -> nib.Nifti1Header:
    length = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    kind = nib.Nifti2Header if _NIFTI2 in length else nib.Nifti1Header
    size = kind.sizeof_hdr
    if size not in length or len(start) < size:
        raise UserError(f"{path}: not a NIfTI file (no header of 348 or 540 bytes); fetch or convert it again")
    try:
        header = kind.from_fileobj(io.BytesIO(start[:size] + bytes(4)), check=False)
        problem = _problem_of(header, size)
        if problem is None and header["pixdim"][0] == 0:
            header["pixdim"][0] = 1  # the standard: a qfac of 0 means 1
        if problem is None:
            header.get_best_affine()
    except (nib.spatialimages.HeaderDataError, nib.filebasedimages.ImageFileError, ValueError) as error:
        problem = str(error)
    if problem is not None:
        raise UserError(f"{path}: its NIfTI header cannot be used ({problem}); fetch or convert it again")
    return header


def _problem_of(header: nib.Nifti1Header, size: int) -> str | None:
    """The fault in the header fields for the place and the scaling of voxels; None if there is none."""
    try:
        header.get_data_dtype()
    except (KeyError, nib.spatialimages.HeaderDataError):
        return f"unknown datatype code {header['datatype'].item()}"
    dimensions = header["dim"].tolist()
    if not 1 <= dimensions[0] <= 7 or min(dimensions[1 : dimensions[0] + 1]) < 1:
        return f"dimensions {dimensions}"
    slope, intercept = header["scl_slope"].item(), header["scl_inter"].item()
    if not math.isfinite(slope) or (slope != 0 and not math.isfinite(intercept)):
        return f"slope {slope:g} and intercept {intercept:g}"
    offset = float(header["vox_offset"])
    if not math.isfinite(offset):
        return f"voxels start at byte {offset:g}"
    if header["magic"].item() not in (b"n+1", b"n+2") or offset < size + 4:
        return "the voxels are not in the same file"
    return None


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path}: cannot be read ({error.strerror or error})")


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: damaged gzip stream (its checksum or structure is wrong); fetch it again")
