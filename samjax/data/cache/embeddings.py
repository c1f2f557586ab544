"""Image embeddings of single slices by a frozen encoder, kept on disk: computed once and read in every epoch.

A variant is one fixed augmentation of a slice; without augmentation there is one variant, the slice itself. A file
holds one variant of one case, as safetensors: `slices` (n,) int32, increasing, and `embeddings` (n, h, w, c) float16.
It may hold more slices than a run shows, since the regions of interest share the files. All files of one folder
come from the same `EmbeddingRecipe`, whose digest is the folder's name; that of a file names the prepared case.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from safetensors import SafetensorError, safe_open

from samjax.data.cache.cases import CachedCase
from samjax.errors import UserError
from samjax.files import replacing
from samjax.weights.safetensors_file import write_safetensors

EMBEDDINGS_VERSION = 1
"""Version of the embeddings; increased when the same input no longer gives the same ones."""
FOLDER = "embeddings"
"""Folder below --cache-dir that holds one folder for each recipe."""
RECIPE = "recipe.json"
_DTYPE = np.dtype(np.float16)


@dataclass(frozen=True)
class EmbeddingRecipe:
    """Everything that embeddings depend on besides the prepared case."""

    weights: str
    """Digest of the encoder's parameters."""
    architecture: Mapping[str, Any]
    channels: str
    pca: str
    """Digest of the fit of pca2d, or nothing."""
    image_size: int
    native: int
    """Side in pixels of the padded slice."""
    dtype: str
    """Dtype of the computation."""
    augmentation: Mapping[str, Any] | None
    """Strength and seed of the augmentation."""
    version: int = EMBEDDINGS_VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, indent=1) + "\n"


@dataclass(frozen=True)
class EmbeddingStore:
    """The files of one recipe; small, so it can be sent to other processes."""

    root: Path
    """Folder of all recipes, each of which has its own folder in it."""
    recipe: str
    """The recipe as JSON."""
    shape: tuple[int, int, int]
    """Shape (h, w, c) of an embedding."""
    variants: int = 1
    """The number of variants of each slice that a run shows; the folder may hold more."""

    @property
    def folder(self) -> Path:
        return self.root / hashlib.sha256(self.recipe.encode()).hexdigest()[:16]

    @property
    def slice_bytes(self) -> int:
        """Size in bytes of one embedding."""
        return int(np.prod(self.shape)) * _DTYPE.itemsize

    def path(self, case: CachedCase, variant: int) -> Path:
        """The file of a variant of a case, which must come from the slice cache."""
        assert case.path is not None
        # The prepared file is named by its sources, but augmentations are drawn from the domain's name as well.
        domain = zlib.crc32(case.case.domain.encode())
        return self.folder / f"{case.path.stem}-{domain:08x}-{variant}.safetensors"

    def slices(self, case: CachedCase, variant: int) -> np.ndarray:
        """The slices that are stored, int32 (n,); none where there is no file or it is damaged."""
        try:
            with safe_open(self.path(case, variant), framework="numpy") as file:
                slices, stored = file.get_tensor("slices"), file.get_slice("embeddings")
                if stored.get_shape() == [len(slices), *self.shape] and stored.get_dtype() == "F16":
                    return slices
        except (OSError, SafetensorError):
            pass
        return np.zeros(0, np.int32)

    def read(self, case: CachedCase, variant: int, number: int) -> np.ndarray:
        """The embedding of slice `number`, (h, w, c) float16.

        Raises:
            UserError: the file is gone or damaged, or lacks the slice.
        """
        path = self.path(case, variant)
        try:
            with safe_open(path, framework="numpy") as file:
                places = np.flatnonzero(file.get_tensor("slices") == number)
                if places.size:
                    place = int(places[0])
                    return file.get_slice("embeddings")[place : place + 1].reshape(self.shape)
            reason = f"lacks slice {number}"
        except (OSError, SafetensorError, ValueError) as error:
            reason = f"cannot be read ({error})"
        raise UserError(f"{path}: {reason}; go on with --resume, which computes the missing embeddings again")

    def add(self, case: CachedCase, variant: int, slices: np.ndarray, embeddings: np.ndarray) -> None:
        """Adds embeddings (n, h, w, c) of slices (n,) to the stored ones; several runs may do so at the same time.

        Raises:
            UserError: the disk is full or not writable.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):  # else one of two that add to a file would undo the other
                self._clear_up()
                tensors = self._merged(case, variant, slices, embeddings)
                write_safetensors(self.path(case, variant), tensors, {})
        except OSError as error:
            raise UserError(
                f"{self.folder}: the embeddings cannot be written ({error.strerror or error}); free some space or "
                "name another folder with --cache-dir"
            ) from error

    def _clear_up(self) -> None:
        """Removes files that a killed process left half written, and writes the recipe into the folder."""
        for path in self.folder.glob(".tmp-*"):
            path.unlink()
        if not (self.folder / RECIPE).exists():
            with replacing(self.folder / RECIPE) as temporary:
                temporary.write_text(self.recipe)

    def _merged(
        self, case: CachedCase, variant: int, slices: np.ndarray, embeddings: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The content of a file with the new slices and those that it holds already."""
        held = np.setdiff1d(self.slices(case, variant), slices)
        numbers = np.union1d(held, slices).astype(np.int32)
        stored = np.empty((len(numbers), *self.shape), _DTYPE)
        stored[np.searchsorted(numbers, slices)] = embeddings
        for number in held:
            stored[np.searchsorted(numbers, number)] = self.read(case, variant, number)
        return {"slices": numbers, "embeddings": stored}


def bytes_below(folder: Path) -> int:
    """The size in bytes of all files below a folder, 0 if there is none."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # another run has finished a temporary file
                total += os.stat(os.path.join(parent, name)).st_size
    return total
