"""Makes a model's input channels from the four modalities.

The methods of the decoder fine-tuning paper: `combined` (any three modalities as red, green, blue),
`repeat` (one modality three times) and `pca2d` (two-dimensional principal components, four to three);
and all four as they are. All are pure functions of arrays, NumPy's or JAX's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from samjax.data.cases import MODALITIES, modality_of
from samjax.errors import UserError
from samjax.files import replacing

ALL = "all"
PCA2D = "pca2d"
_PERCENTILES = (0.5, 99.5)
# Components of differences of bytes along unit vectors lie within +-510; a bin is an eighth of a grey level.
_RANGE = (-512.0, 512.0)
_BINS = 8192


@dataclass(frozen=True, eq=False)
class Pca2d:
    """Fitted two-dimensional PCA.

    `mean` (H, W, 4): the mean training slice; `axes` (4, 3): columns are the leading eigenvectors; `low`
    and `high` (3,): the components' values that become 0 and 255. All float32.
    """

    mean: np.ndarray
    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        with replacing(path) as temporary:
            np.savez(temporary, mean=self.mean, axes=self.axes, low=self.low, high=self.high)


@dataclass(frozen=True, eq=False)
class Channels:
    """The composition of a model's input channels.

    `text` is the canonical spelling, stored with a model and compared on use; `modalities` the one
    each channel shows, or all four for `pca2d`, whose fit is `pca` (None until it is fitted).
    """

    text: str
    modalities: tuple[str, ...]
    pca: Pca2d | None = None

    @property
    def count(self) -> int:
        """The number of channels of the model: 3 or 4."""
        return 3 if self.text == PCA2D else len(self.modalities)

    @property
    def needed(self) -> tuple[str, ...]:
        """The modalities that the channels show, each once."""
        return tuple(dict.fromkeys(self.modalities))

    @property
    def _order(self) -> np.ndarray:
        """The place of each channel's modality in the stored order."""
        return np.array([MODALITIES.index(modality) for modality in self.modalities])

    def present(self, modalities: Any) -> Any:
        """Whether each channel's modality is there, (..., C) bool, from (..., 4) bool in stored order.

        Not for pca2d, whose channels each show all modalities.
        """
        if self.text == PCA2D:
            raise ValueError("every channel of pca2d shows all modalities")
        return modalities[..., self._order]

    def __call__(self, images: Any) -> Any:
        """Makes channels (..., H, W, C) float32 in [0, 255] from (..., H, W, 4) uint8 in stored order, NumPy or JAX.

        For `pca2d` the pixels must still lie where the scan has them (before any augmentation); slices of
        another size than the fitted ones' are taken to share the upper left corner.
        """
        if self.text == PCA2D:
            if self.pca is None:
                raise ValueError("pca2d has not been fitted")
            return _project(images, self.pca)
        return images[..., self._order].astype(np.float32)


def parse_channels(text: str, pca: Pca2d | None = None) -> Channels:
    """Parses `--channels`: three modalities, one (then repeated), all four, `all`, or `pca2d`.

    Raises:
      UserError: any other text.
    """
    if text == PCA2D:
        return Channels(PCA2D, MODALITIES, pca)
    names = MODALITIES if text == ALL else tuple(name.strip() for name in text.split(","))
    modalities = tuple(modality for name in names if (modality := modality_of(name)))
    number, different = len(names), len(set(modalities))
    if len(modalities) == number:
        if different == 1 and number in (1, 3):
            return Channels(modalities[0], modalities[:1] * 3)
        if different == number and number in (3, 4):
            return Channels(",".join(modalities), modalities)
    raise UserError(
        f"--channels {text}: expected three of {', '.join(MODALITIES)} in the order wanted (flair,t1gd,t2), "
        f"one of them (shown three times), all four or {ALL}, or {PCA2D}"
    )


def load_pca2d(path: Path) -> Pca2d:
    """Reads a file that `Pca2d.save` wrote; a `UserError` if it cannot be read."""
    try:
        with np.load(path) as stored:
            mean, axes, low, high = (stored[name] for name in ("mean", "axes", "low", "high"))
    except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: no fitted pca2d can be read from it ({error})") from None
    return Pca2d(mean, axes, low, high)


def fit_pca2d(slices: Iterable[np.ndarray]) -> Pca2d:
    """Fits `pca2d` to training slices, going over them twice and keeping none.

    The covariance is that of 2-D PCA: 1/M sum_j (A_j - mean)^T (A_j - mean) over slices A_j of shape
    (pixels, 4). The scaling's percentiles are those of pixels that are not background.

    Args:
      slices: gives arrays (n, H, W, 4) uint8 of one size each time it is iterated over.

    Raises:
      UserError: there are no slices.
    """
    if iter(slices) is slices:
        raise ValueError("fit_pca2d goes over its slices twice: give it more than an iterator")
    mean, axes = _principal_axes(slices)
    plain = Pca2d(mean, axes, np.zeros(3, np.float32), np.full(3, 255, np.float32))
    counts = np.zeros((3, _BINS), np.int64)
    for batch in slices:
        components = _components(batch, plain)[batch.any(axis=-1)]
        for number in range(3):
            counts[number] += np.histogram(components[:, number], _BINS, _RANGE)[0]
    edges = np.linspace(*_RANGE, _BINS + 1)
    bounds = np.array([_percentiles(edges, row) for row in counts], np.float32)
    return Pca2d(mean, axes, bounds[:, 0], bounds[:, 1])


def _principal_axes(slices: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The mean slice (H, W, 4) and the three leading eigenvectors (4, 3) of the covariance about it."""
    total, products, number = None, np.zeros((4, 4)), 0
    for batch in slices:
        values = batch.astype(np.float64)
        products += np.einsum("nhwc,nhwd->cd", values, values, optimize=True)
        total = values.sum(axis=0) if total is None else total + values.sum(axis=0)
        number += len(batch)
    if total is None or number == 0:
        raise UserError("--channels pca2d: no training slices to fit it to; lower --min-pixels or add cases")
    mean = total / number
    flat = mean.reshape(-1, 4)
    covariance = products / number - flat.T @ flat
    _, vectors = np.linalg.eigh(covariance)
    leading = vectors[:, :0:-1]
    largest = leading[np.abs(leading).argmax(axis=0), range(3)]
    return mean.astype(np.float32), (leading * np.sign(largest)).astype(np.float32)


def _percentiles(edges: np.ndarray, counts: np.ndarray) -> np.ndarray:
    below = np.concatenate([[0], np.cumsum(counts)])
    return np.interp(np.array(_PERCENTILES) / 100 * below[-1], below, edges)


def _components(images: Any, pca: Pca2d) -> Any:
    """Projects (..., H, W, 4) to (..., H, W, 3): (image - mean) times the axes, term by term (exact on any device)."""
    lead = (1,) * (images.ndim - 3)
    centred = images.astype(np.float32) - _fitted(pca.mean, images.shape[-3:-1]).reshape(*lead, *images.shape[-3:])
    terms = (centred[..., k, None] * pca.axes[k].reshape(*lead, 1, 1, 3) for k in range(4))
    first, second, third, fourth = terms
    return first + second + third + fourth


def _project(images: Any, pca: Pca2d) -> Any:
    shape = (1,) * (images.ndim - 1) + (3,)
    gain = (255 / (pca.high - pca.low)).reshape(shape)
    return ((_components(images, pca) - pca.low.reshape(shape)) * gain).clip(0, 255)


def _fitted(mean: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mean slice cropped or padded with background, right and bottom, to (rows, columns)."""
    rows, columns = size
    whole = np.zeros((rows, columns, mean.shape[2]), np.float32)
    part = mean[:rows, :columns]
    whole[: part.shape[0], : part.shape[1]] = part
    return whole
