"""Asking a model about a picture or a volume whose image embeddings are computed once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from flax import nnx

from samjax.data.cases import MODALITIES, Case
from samjax.data.on_device.channels import Channels
from samjax.errors import UserError
from samjax.inference.encoded import EncodedVolume
from samjax.inference.programs import Network, grouped
from samjax.inference.prompts import SlicePrediction, SlicePrompt, regions_of
from samjax.inference.propagation import box_around, click_inside, propagate_prompts

if TYPE_CHECKING:  # what reads files or trains is imported where it is used: `from samjax import Predictor` stays quick
    from samjax.data.imaging.geometry import Geometry
    from samjax.inference.volumes import Segmenter

SLICES = 8
"""That go through the model together where there are so many."""
BASE_PROMPTS = ("box", "point", "mask")
"""What base weights were trained to answer."""


class VolumePrediction(NamedTuple):
    """A volume's prediction.

    `mask` (Z, rows, columns): the region as bool or, of a U-Net, canonical codes as uint8. `iou` (Z,) float32: what
    the model predicts for each slice's IoU, the lowest where several prompts meet; NaN where it was not asked, and
    everywhere of a U-Net.
    """

    mask: np.ndarray
    iou: np.ndarray


class Predictor:
    """A model that is set a picture or a volume once and is then asked about it.

    Attributes:
        name: the run's folder, or "zeroshot".
        rois: the regions it predicts: one, or all of a U-Net's.
        prompts: kinds of prompts that it was trained with; others are refused.
        is_unet: whether it is a U-Net, which takes no prompts and predicts all regions at once.
        geometry: of the volume that is set, if it came from files: between its voxel indices and the source's.
    """

    def __init__(self, segmenter: "Segmenter", prompts: Sequence[str], native: int = 0, slices: int = SLICES):
        """
        Args:
            segmenter: the model and its channels, depth and input size.
            prompts: kinds of prompts that it was trained with.
            native: side in pixels of the square that its training slices were padded to; larger ones get their own.
            slices: how many go through the model together where there are so many.
        """
        from samjax.models.unet import UNet
        from samjax.training.step import precision_of

        self.name, self.rois, self.prompts = segmenter.name, segmenter.rois, tuple(prompts)
        self.is_unet = isinstance(segmenter.model, UNet)
        self.geometry: Geometry | None = None
        self._segmenter, self._native, self._slices = segmenter, native, slices
        self._network = Network(*nnx.split(segmenter.model), precision_of(segmenter.dtype))
        self._picture: EncodedVolume | None = None
        self._volume: EncodedVolume | None = None

    @classmethod
    def from_run(cls, folder: Path | str, weights: str | None = None, slices: int = SLICES) -> "Predictor":
        """The model of a finished run, its weights averaged if the run did that.

        Args:
            weights: where the base weights are now, if they have moved.

        Raises:
            UserError: the run is not finished, is one of pictures, or its base weights are missing or others.
        """
        from samjax.data.on_device.prompts import PromptMix
        from samjax.inference.volumes import segmenter_of_run
        from samjax.runs.folder import WEIGHTS, find_run, read_config
        from samjax.strategies import find_strategy

        folder = find_run(Path(folder))
        config = read_config(folder)
        if find_strategy(config.options.strategy).family == "pictures":
            raise UserError(f"{folder}: was trained on pictures and left {WEIGHTS} there; open that with from_weights")
        segmenter = segmenter_of_run(folder, weights, None, 1, average=True)
        return cls(segmenter, PromptMix.parse(config.options.prompt).kinds, config.native, slices)

    @classmethod
    def from_weights(
        cls,
        weights: str | Path = "tiny",
        image_size: int | None = None,
        channels: str = "flair,t1gd,t2",
        slices: int = SLICES,
    ) -> "Predictor":
        """Base weights as they are, by name or file.

        Args:
            image_size: side of the model's input; None: what the weights were trained at.
            channels: the modalities of a volume that stand in for red, green and blue.

        Raises:
            UserError: the weights cannot be read, or take another number of channels or size.
        """
        from samjax.inference.volumes import zeroshot_segmenter

        segmenter = zeroshot_segmenter(str(weights), "whole-tumor", channels, None, 1, image_size)
        patch = segmenter.model.config.patch_size
        if segmenter.image_size % patch:
            raise UserError(f"image_size {image_size}: expected a multiple of the patch, {patch}")
        return cls(segmenter, BASE_PROMPTS, 0, slices)

    @property
    def channels(self) -> Channels:
        """The input channels that a volume is shown as."""
        return self._segmenter.channels

    def require(self, kind: str) -> None:
        """Refuses, by a `UserError`, a kind of prompt (box, point, mask, none) that the model never saw."""
        if kind not in self.prompts:
            seen = ", ".join(self.prompts)
            raise UserError(
                f"prompt {kind}: {self.name} was trained with {seen} only; ask with one of these or train with it"
            )

    def set_image(self, image: np.ndarray) -> None:
        """Takes a picture (H, W, channels) uint8, RGB or as the model's channels are, in place of the one before.

        It is padded at the right and bottom to a square with background (0), then resized.
        """
        count = self._segmenter.model.config.in_channels
        if self.is_unet:
            raise UserError(f"{self.name}: a U-Net takes no prompts; give it a volume with set_volume")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != count:
            raise UserError(f"picture of {image.dtype} {image.shape}: expected uint8 (rows, columns, {count})")
        self._picture = self._scan(image[None], None, max(image.shape[:2]))

    def predict(
        self,
        points: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        multimask: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Segments one object of the picture.

        Args:
            points: (n, 2) clicks (x, y) in pixels, whole numbers being pixel centres.
            labels: (n,) 1 positive, 0 negative.
            box: (4,) x0, y0, x1, y1 in pixels, inclusive.
            mask: (h, w) logits as a call before returned them.
            multimask: three alternatives instead of the single mask.

        Returns:
            Masks (M, H, W) bool, predicted IoU (M,), and logits (M, h, w) at a quarter of the model's input.
        """
        if self._picture is None:
            raise UserError("no picture is set; call set_image first")
        prompt = _question(points, labels, box)
        kinds = {"point": prompt.clicks, "box": prompt.box, "mask": mask is not None}
        for kind in [kind for kind, given in kinds.items() if given] or ["none"]:
            self.require(kind)
        low, side = None, self._picture.size // 4
        if mask is not None:
            low = np.asarray(mask, np.float32)[None]
            if low.shape != (1, side, side):
                raise UserError(f"mask of shape {low.shape[1:]}: expected logits ({side}, {side}) of a call before")
        logits, iou, masks = self._picture.decode([prompt], low, multimask)
        return masks[0], iou[0], logits[0]

    def set_volume(self, case: "Case | Path | str | np.ndarray") -> None:
        """Takes a volume in place of the one before; nothing of it is encoded yet.

        Args:
            case: a case, or its folder or one of its files (labels are not opened), or an array (slices, rows,
                columns, 4) uint8 of t1, t1gd, t2, flair, oriented as `data.geometry` says.

        Raises:
            UserError: the path holds no case or several, or its files cannot be used.
        """
        self.geometry = None
        if not isinstance(case, np.ndarray):
            case, self.geometry = read_images(case if isinstance(case, Case) else _only_case(Path(case)))
        if case.dtype != np.uint8 or case.ndim != 4 or case.shape[3] != len(MODALITIES):
            raise UserError(
                f"volume of {case.dtype} {case.shape}: expected uint8 (slices, rows, columns, 4), the channels "
                f"{', '.join(MODALITIES)}"
            )
        self._volume = self._scan(case, self.channels, max(self._native, *case.shape[1:3]))

    def segment(
        self,
        boxes: np.ndarray | Sequence = (),
        points: np.ndarray | Sequence = (),
        propagate: bool = False,
    ) -> VolumePrediction:
        """Segments the volume: the slices that are prompted, or all where there are no prompts.

        Args:
            boxes: (n, 6) the first and last voxel (slice, row, column) of each, inclusive; every slice that a box
                spans is prompted with it, and masks are united.
            points: (m, 4) clicks (slice, row, column, label), label 1 positive and 0 negative. All of a slice are one
                prompt.
            propagate: also carry the masks to the neighbouring slices, see `propagation`: by boxes where the model was
                trained with these, else by clicks.

        Raises:
            UserError: a prompt is not of the volume, or of a kind that the model was never trained with.
        """
        if self._volume is None:
            raise UserError("no volume is set; call set_volume first")
        shape = self._volume.images.shape[:3]
        regions = regions_of(boxes, points, shape)
        for kind, given in (("box", len(boxes)), ("point", len(points)), ("none", not regions)):
            if given:
                self.require(kind)
        if propagate and not regions:
            raise UserError("propagation starts from boxes or points; give some")
        if self.is_unet:
            return VolumePrediction(self._volume.classify(), np.full(shape[0], np.nan, np.float32))
        if propagate:
            around = box_around if "box" in self.prompts else click_inside
            answers = propagate_prompts(self.predict_slices, regions, shape[0], around)
        else:
            prompts = [prompt for region in regions for prompt in region.values()]
            answers = self.predict_slices(prompts or [SlicePrompt(z) for z in range(shape[0])])
        mask, iou = np.zeros(shape, bool), np.full(shape[0], np.nan, np.float32)
        for answer in answers:
            mask[answer.slice] |= answer.mask
            iou[answer.slice] = np.fmin(iou[answer.slice], answer.iou)
        return VolumePrediction(mask, iou)

    def predict_slices(self, prompts: Sequence[SlicePrompt]) -> list[SlicePrediction]:
        """Answers prompts about slices of the volume, each by itself."""
        answers: list[SlicePrediction] = []
        self._volume.encode([prompt.slice for prompt in prompts])
        for group, filled in grouped(prompts, self._slices):
            _, iou, masks = self._volume.decode(filled)
            answers += [SlicePrediction(q.slice, m[0], float(i[0])) for q, m, i in zip(group, masks, iou, strict=False)]
        return answers

    def _scan(self, images: np.ndarray, channels: Channels | None, native: int) -> EncodedVolume:
        size, depth = self._segmenter.image_size, self._segmenter.depth
        return EncodedVolume(self._network, images, channels, native, size, depth, self._slices)


def read_images(case: Case) -> "tuple[np.ndarray, Geometry]":
    """A case's images (slices, rows, columns, 4) uint8, prepared as for training; its label is not opened.

    Raises:
        UserError: a file is damaged, or the files' grids differ.
    """
    from samjax.data.cache.cases import open_case

    opened = open_case(replace(case, label=None), None)
    return opened.read(0, opened.shape[0])[0], opened.geometry


def _only_case(path: Path) -> Case:
    from samjax.data.formats.layouts import find_cases

    cases = find_cases(path, read_labels=False)
    if len(cases) > 1:
        raise UserError(f"{path}: holds {len(cases)} cases; name one case's folder")
    return cases[0]


def _question(points: np.ndarray | None, labels: np.ndarray | None, box: np.ndarray | None) -> SlicePrompt:
    points = np.zeros((0, 2)) if points is None else np.asarray(points, float)
    labels = np.zeros(0, int) if labels is None else np.asarray(labels)
    if points.shape != (len(labels), 2) or not np.isin(labels, (0, 1)).all():
        raise UserError(f"points {points.shape}, labels {labels.shape}: expected (n, 2) and n labels, each 0 or 1")
    if box is not None and np.shape(box) != (4,):
        raise UserError(f"box of shape {np.shape(box)}: expected x0, y0, x1, y1")
    clicks = tuple((float(x), float(y), int(label)) for (x, y), label in zip(points, labels, strict=True))
    return SlicePrompt(0, clicks, None if box is None else tuple(map(float, box)))
