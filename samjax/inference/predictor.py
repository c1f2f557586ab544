"""Interactive segmentation of a picture or a volume by prompts; its image embeddings are computed once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from samjax.data.cases import MODALITIES, Case
from samjax.data.labels import COMPARTMENTS, roi_codes
from samjax.data.on_device.channels import Channels
from samjax.errors import UserError
from samjax.inference.encoded import SLICES, EncodedVolume
from samjax.inference.given import modalities_of, picture_of, picture_prompt, spacing_of, volume_of
from samjax.inference.history import History
from samjax.inference.model import SegmentationModel
from samjax.inference.postprocess import NONE, RAW, Postprocess
from samjax.inference.predictions import SlicePrediction, VolumePrediction
from samjax.inference.prompts import Region, SlicePrompt, regions_of, require_content, slots_of
from samjax.inference.source import SourceVolume

if TYPE_CHECKING:  # what reads files is imported where it is used: `from samjax import Predictor` stays quick
    from ipyniivue import NiiVue

    from samjax.data.imaging.geometry import Geometry
    from samjax.inference.spaces import Space


class Predictor:
    """A model that encodes a picture or a volume once and then segments it by any prompts.

    Attributes:
        name: the run's folder, or "zeroshot".
        rois: the regions it predicts: one, or several at once; a SAM is prompted for the first.
        prompts: kinds of prompts that it was trained with; others are refused.
        is_unet: whether it is a U-Net, which takes no prompts and predicts all regions at once.
        geometry: geometry of the volume if it came from files; converts between its voxel indices and the source's.
        case: the volume's case if it came from files.
        missing: the modalities that the model looks at and that the volume lacks.
        doubts: signs that the volume's files are not what the model was trained on, a sentence each; see
            `data.imaging.doubts`. None of an array.
    """

    def __init__(self, model: SegmentationModel, slices: int = SLICES, run: Path | None = None):
        """
        Args:
            model: the model that segments.
            slices: number of slices that go through the model together on each device.
            run: the folder of the model's run, which knows what it was trained on; None: base weights.
        """
        self.model = model
        self.name, self.rois, self.prompts, self.is_unet = model.name, model.rois, model.prompts, model.is_unet
        self.geometry: Geometry | None = None
        self.case: Case | None = None
        self._history = History()
        self.missing: tuple[str, ...] = ()
        self.doubts: tuple[str, ...] = ()
        self._slices, self._run = slices, run
        self._picture: EncodedVolume | None = None
        self._volume: SourceVolume | None = None
        self._spacing: Sequence[float] | None = None

    @classmethod
    def from_run(
        cls,
        folder: Path | str,
        weights: str | None = None,
        slices: int = SLICES,
        nested: bool = False,
        planes: str | None = None,
    ) -> "Predictor":
        """The model of a finished run, with averaged weights if the run has them.

        Args:
            folder: the run's folder, "latest" for the newest one, or "glioma", the model that comes with samjax.
            weights: new place of the base weights, if they have moved.
            nested: for a run of several regions: whether what an inner region has outside an outer one is left out,
                instead of making the outer one larger.
            planes: planes whose mean probability decides prompt-free masks, such as "axial"; None: all that the run
                was trained on. Prompts are axial in any case.

        Raises:
            UserError: the run is not finished, was trained on pictures or on other planes, or its base weights are
                missing or changed.
        """
        from samjax.inference.loading import model_of_run
        from samjax.runs.folder import find_model

        run = find_model(Path(folder))
        return cls(model_of_run(run, weights, nested=nested, planes=planes), slices, run)

    @classmethod
    def from_weights(
        cls,
        weights: str | Path = "tiny",
        image_size: int | None = None,
        channels: str = "flair,t1gd,t2",
        slices: int = SLICES,
    ) -> "Predictor":
        """Base weights without fine-tuning, by name or file.

        Args:
            image_size: side of the model's input; None: the side that the weights were trained at.
            channels: the modalities of a volume that stand in for red, green and blue.

        Raises:
            UserError: the weights cannot be read, or take another number of channels or size.
        """
        from samjax.inference.loading import model_of_weights

        return cls(model_of_weights(weights, "whole-tumor", channels, image_size), slices)

    @property
    def channels(self) -> Channels:
        """The input channels made from a volume."""
        return self.model.channels

    def require(self, kind: str) -> None:
        """Raises a `UserError` for a kind of prompt (box, point, mask, none) that the model was not trained with."""
        self.model.require(kind)

    def set_image(self, image: Any) -> None:
        """Takes a picture (H, W, channels) uint8, RGB or as the model's channels are, in place of the one before.

        It is copied, padded at the right and bottom to a square with background (0), then resized.

        Args:
            image: an array, a PIL image, or lists of whole numbers from 0 to 255.

        Raises:
            UserError: the picture is of another shape or type, or empty.
        """
        if self.is_unet:
            raise UserError(f"{self.name}: a U-Net takes no prompts; give it a volume with set_volume")
        self._picture = EncodedVolume(
            self.model, picture_of(image, self.channels.count)[None], self._slices, picture=True
        )

    def predict(
        self,
        points: np.ndarray | Sequence | None = None,
        labels: np.ndarray | Sequence | None = None,
        box: np.ndarray | Sequence | None = None,
        mask: np.ndarray | Sequence | None = None,
        multimask: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Segments one object of the picture.

        Args:
            points: (n, 2) clicks (x, y) in pixels, whole numbers being pixel centres.
            labels: (n,) 1 positive, 0 negative.
            box: (4,) x0, y0, x1, y1 in pixels, inclusive.
            mask: (h, w) logits that an earlier call returned, of several regions the first.
            multimask: whether to return SAM's three alternatives instead of the mask of each region.

        Returns:
            Masks (M, H, W) bool, predicted IoU (M,), and logits (M, h, w) at a quarter of the model's input: one for
            each of `rois`, or the three alternatives.

        Raises:
            UserError: no picture is set, or a prompt is not of it, not finite, or of a kind that the model never saw.
        """
        if self._picture is None or self.model.image_size is None:
            raise UserError("no picture is set; call set_image first")
        prompt = picture_prompt(points, labels, box, self._picture.shape[1:])
        kinds = {"point": prompt.clicks, "box": prompt.box, "mask": mask is not None}
        for kind in [kind for kind, given in kinds.items() if given] or ["none"]:
            self.require(kind)
        low, side = None, self.model.image_size // 4
        if mask is not None:
            low = np.asarray(mask, np.float32)[None]
            if low.shape != (1, side, side):
                raise UserError(f"mask of shape {low.shape[1:]}: expected logits ({side}, {side}) of a call before")
            if not np.isfinite(low).all():
                raise UserError("mask: holds values that are not finite; expected the logits of a call before")
        rows, columns = self._picture.shape[1:]
        logits, iou, masks = jax.device_get(self._picture.decode([0], slots_of([prompt]), low, multimask))
        return masks[0, :, :rows, :columns], iou[0], logits[0]

    def set_volume(
        self, case: "Case | Path | str | np.ndarray | Sequence", spacing: Sequence[float] | None = None
    ) -> None:
        """Takes a volume in place of the one before; nothing of it is encoded yet.

        If it is not on the grid of the run, it is resampled to it. Prompts and masks are on the volume's own grid in
        any case: for files, on that of their voxels.

        Args:
            case: a case, or its folder or one of its files (labels are not opened), or an array (slices, rows,
                columns, 4) uint8 (or lists) of t1, t1gd, t2, flair, oriented as in `data.imaging.geometry`; it is
                copied. A modality that is 0 everywhere is missing.
            spacing: mm between the slices, rows and columns of an array; None: those of the run's grid. Files have
                their own.

        Raises:
            UserError: the path holds no case or several, its files cannot be used, or the model needs a modality that
                is missing.
        """
        if isinstance(case, Case | Path | str):
            found = case if isinstance(case, Case) else _only_case(Path(case))
            images, geometry = read_images(found)
            spacing, doubts = geometry.spacing, self._doubts(found, images, geometry)
        else:
            images, geometry, found, doubts = volume_of(case), None, None, ()
            spacing = None if spacing is None else spacing_of(spacing)
        shown = modalities_of(images)
        self._spacing = spacing
        self._volume = SourceVolume(self.model, images, spacing, self._slices, modalities=shown)
        self.geometry, self.case, self.missing = geometry, found, self.model.needs.lacking(shown)
        self.doubts, self._history = doubts, History()

    def _doubts(self, case: Case, images: np.ndarray, geometry: "Geometry") -> tuple[str, ...]:
        from samjax.data.imaging.doubts import case_doubts, read_ranges

        ranges = None if self._run is None else read_ranges(self._run)
        return tuple(case_doubts(case, images, geometry, ranges, self.model.grid))

    def segment(
        self,
        boxes: np.ndarray | Sequence = (),
        points: np.ndarray | Sequence = (),
        propagate: bool = False,
        initial: "np.ndarray | VolumePrediction | None" = None,
        space: "Space" = "volume",
        logits: bool = False,
        postprocess: str = NONE,
    ) -> VolumePrediction:
        """Segments the volume: the slices that are prompted, or all where there are no prompts.

        Args:
            boxes: (n, 6) the first and last voxel (slice, row, column) of each, inclusive; every slice that a box
                spans is prompted with it, and masks are united.
            points: (m, 4) clicks (slice, row, column, label), label 1 positive and 0 negative. All clicks on a
                slice are one prompt, together with the box that spans the slice or, of several boxes, holds the click.
            propagate: whether to propagate the masks to the neighbouring slices, see `propagation`: by boxes if
                the model was trained with them, else by clicks. Of several regions, the first one's mask is followed.
            initial: a mask (slices, rows, columns) bool to be corrected, of several regions canonical codes, or an
                earlier prediction. Its prompted region is part of the prompt on the slices that are prompted, whose new
                masks take its place; its other slices stay as they are. With it, negative clicks alone are enough.
            space: the coordinates of boxes and points and the axes of `initial`: `volume` as above; `source`, voxels
                (i, j, k) of the file; or `ras`, millimetres (and an initial mask on the file's axes).
            logits: whether the prediction has the logits of its regions.
            postprocess: how the masks are cleaned, as for the command predict: `none`, `auto` (what the run chose, of
                prompt-free masks alone), or a rule such as `fit,share=0.05`.

        Raises:
            UserError: a prompt lies outside the volume or on slices that show nothing but background, or is of a kind
                that the model was not trained with; the initial mask is of another shape, or without any prompt; or
                masks of an array whose spacing is not known are to be cleaned.
        """
        volume = self._opened()
        rule = self._rule(postprocess, prompt_free=not (len(boxes) or len(points)))
        asked = logits or rule.fit
        shape = volume.shape
        if space != "volume":
            boxes, points, initial = self._in_volume(boxes, points, initial, space)
        start = None if initial is None else self._initial(initial)
        prompted = None if start is None else VolumePrediction(start, np.empty(0)).region(self.rois[0])
        try:
            regions = regions_of(boxes, points, shape, prompted)
            require_content(regions, volume.images)
        except UserError as error:
            given = "" if space == "volume" else f" (given as {space}; here as (slice, row, column) of the volume)"
            raise UserError(f"{error}{given}") from None
        for kind in dict.fromkeys(kind for prompt in _prompts_of(regions) for kind in prompt.kinds):
            self.require(kind)
        if not regions:
            found = self._without_prompts(propagate, start, asked)
        else:
            found = volume.segment_regions(regions, propagate, start, asked)
        if rule != RAW:
            from samjax.inference.fitting.predictions import postprocessed

            assert self._spacing is not None  # else `_rule` has refused
            found = postprocessed(found, volume.images, self._spacing, self.model, rule)
            found = found if logits else replace(found, logits=None)
        self._history.add(found)
        return found

    def _opened(self) -> SourceVolume:
        if self._volume is None:
            raise UserError("no volume is set; call set_volume first")
        return self._volume

    def _rule(self, text: str, prompt_free: bool) -> Postprocess:
        from samjax.inference.postprocess_choice import rule_for

        rule, _ = rule_for(text, NONE if prompt_free else "prompted", self._run)
        if rule != RAW and self._spacing is None:
            raise UserError(f'postprocess "{text}": needs the spacing of the array in mm; give it to set_volume')
        return rule

    def _without_prompts(self, propagate: bool, start: np.ndarray | None, logits: bool) -> VolumePrediction:
        if start is not None:
            raise UserError("an initial mask is corrected by clicks or boxes; give some")
        self.require("none")
        if propagate:
            raise UserError("propagation starts from boxes or points; give some")
        return self._opened().segment(logits)

    def _in_volume(self, boxes: Any, points: Any, initial: Any, space: "Space") -> tuple[Any, Any, Any]:
        """Boxes, points and an initial mask of another space in ours; an earlier prediction is in ours already."""
        from samjax.inference.spaces import boxes_in_volume, clicks_in_volume, mask_in_volume

        if not isinstance(initial, VolumePrediction | None):
            initial = mask_in_volume(np.asarray(initial), space, self.geometry)
        return boxes_in_volume(boxes, space, self.geometry), clicks_in_volume(points, space, self.geometry), initial

    def _initial(self, initial: np.ndarray | VolumePrediction) -> np.ndarray:
        """The mask to be corrected, (slices, rows, columns) bool, or uint8 canonical codes of several regions."""
        self.require("mask")
        mask = initial.mask if isinstance(initial, VolumePrediction) else np.asarray(initial)
        several, shape = len(self.rois) > 1, self._opened().shape
        allowed = np.arange(len(COMPARTMENTS) + 1) if several else np.arange(2)
        if mask.shape != shape or not np.isin(mask, allowed).all() or (several and mask.dtype == bool):
            expected = "canonical codes, uint8" if several else "one region, bool"
            raise UserError(
                f"initial mask of {mask.dtype} {mask.shape}: expected {expected} {shape} (slices, rows, columns)"
            )
        return mask.astype(np.uint8 if several else bool)

    @property
    def prediction(self) -> VolumePrediction | None:
        """The newest prediction of the volume that has not been taken back; None if there is none."""
        return self._history.newest

    def undo(self) -> VolumePrediction | None:
        """Takes back the newest prediction of the volume.

        Returns:
            The one before, which is the newest again; None if there is none.

        Raises:
            UserError: nothing is left to take back; the last 100 predictions of a volume are kept.
        """
        if not len(self._history):
            raise UserError("there is no prediction to take back")
        self._history.drop()
        return self._history.newest

    def show(self, modality: str | None = None) -> "NiiVue":
        """A widget for notebooks: the volume, and the newest prediction over it. Needs the package ipyniivue.

        A predictor that is a cell's last expression shows it by itself.

        Args:
            modality: the one in front, such as t1gd; None: FLAIR, or else the first that the volume has. The others
                are layers that cannot be seen through it.

        Raises:
            UserError: no volume is set, it lacks the modality, or ipyniivue is not installed.
        """
        from samjax.inference.notebook import draw

        if self._volume is None:
            raise UserError("no volume is set; call set_volume first")
        images, found = self._volume.images, self._history.newest
        names = modalities_of(images)
        front = modality or ("flair" if "flair" in names else names[0])
        if front not in names:
            raise UserError(f"modality {front}: the volume has {', '.join(names)}")
        scans = {name: images[..., MODALITIES.index(name)] for name in (front, *(n for n in names if n != front))}
        codes = None if found is None else self._codes(found.mask)
        return draw(scans, codes, self.geometry, self._spacing)

    def _codes(self, mask: np.ndarray) -> np.ndarray:
        """A predicted mask as canonical codes: of one region, bool, those of its outermost compartment."""
        return mask.astype(np.uint8) * roi_codes(self.rois[0])[0] if mask.dtype == bool else mask

    def __repr__(self) -> str:
        if self._volume is None:
            return f"<Predictor {self.name}, no volume>"
        voxels = " x ".join(map(str, self._volume.shape))
        predicted = "no prediction" if self._history.newest is None else "predicted"
        return f"<Predictor {self.name}, volume of {voxels} voxels, {predicted}>"

    def _repr_mimebundle_(self, **asked: Any) -> dict[str, Any]:
        """What a notebook shows of a predictor: the widget, or words where there is no volume or no ipyniivue."""
        from samjax.inference.notebook import HINT, can_draw

        if self._volume is None or not can_draw():
            return {"text/plain": f"{self!r}" + ("" if self._volume is None else f"; {HINT}")}
        return self.show()._repr_mimebundle_(**asked)

    def save(self, path: Path | str, labels: str | None = None) -> None:
        """Writes the newest prediction as NIfTI, in the space of the scan's files.

        Args:
            path: a file .nii or .nii.gz, which is replaced if it exists.
            labels: the label scheme of the values, such as brats2023. None, as for the command predict: that of the
                case's names or else of the run's training data; of base weights, which have none, 1 is the region.

        Raises:
            UserError: there is no prediction, the volume came from an array, the name is not of a NIfTI file, neither
                the case nor the run tells the scheme, or the file cannot be written.
        """
        from samjax.data.imaging.volumes import write_labels
        from samjax.inference.inputs import training_scheme

        path, found = Path(path), self._history.newest
        if found is None:
            raise UserError("there is no prediction to save; call segment first")
        if self.case is None or self.geometry is None:
            raise UserError("the volume came from an array, which has no place in space; set it from files to save")
        if not path.name.endswith((".nii", ".nii.gz")):
            raise UserError(f"{path}: expected a name that ends in .nii or .nii.gz")
        scheme = labels or self.case.scheme or (None if self._run is None else training_scheme(self._run))
        values = found.mask.astype(np.uint8) if scheme is None else self.model.label_map(found.mask, scheme)
        try:
            write_labels(path, values, replace(self.case, label=None), self.geometry)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error

    def predict_slices(self, prompts: Sequence[SlicePrompt]) -> list[SlicePrediction]:
        """Segments slices of the volume, each by its own prompt.

        Raises:
            UserError: no volume is set.
        """
        return self._opened().predict_slices(prompts)


def _prompts_of(regions: Sequence[Region]) -> list[SlicePrompt]:
    """The prompts of all slices of all regions."""
    return [prompt for region in regions for prompt in region.values()]


def read_images(case: Case) -> "tuple[np.ndarray, Geometry]":
    """A case's images (slices, rows, columns, 4) uint8, prepared as for training; its label is not opened.

    Raises:
        UserError: a file is damaged, or the files' grids differ.
    """
    from samjax.data.cache.cases import open_case

    opened = open_case(replace(case, label=None), None)
    return opened.read(0, opened.shape[0])[0], opened.geometry


def _only_case(path: Path) -> Case:
    from samjax.data.formats.layouts import all_usable, survey

    found = survey(path, read_labels=False)
    cases = {case.id for case in found.cases} | {problem.case for problem in found.unusable}
    if len(cases) > 1:
        raise UserError(f"{path}: holds {len(cases)} cases; name one case's folder")
    return all_usable(found, path)[0]
