"""Labelled cases in memory, made of their labels alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.cases import MODALITIES, Case, Source
from samjax.data.imaging.geometry import Geometry
from samjax.data.imaging.volumes import Box, Volume
from samjax.evaluation.case_scores import score_job
from samjax.evaluation.collected import Collected
from samjax.evaluation.prompted import PromptedModel
from samjax.evaluation.scoring import SliceRule
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.model import SegmentationModel
from samjax.inference.predictions import PromptRounds, VolumePrediction, not_run


def made_case(labels: np.ndarray, name: str = "case", domain: str = "demo", patient: str | None = None) -> CachedCase:
    """A case of canonical codes (Z, rows, columns) uint8 over noise, voxels of 1 mm."""
    images = np.random.default_rng(0).integers(0, 256, (*labels.shape, 4), np.uint8)
    counts = np.stack([(labels == code).sum((1, 2)) for code in range(4)], axis=1).astype(np.int32)
    rows = tuple(tuple(row) for row in np.eye(4).tolist())
    geometry = Geometry(labels.shape, rows, (0, 1, 2), (False, False, False))
    box = Box((0, 0, 0), labels.shape)
    sources = {name: Source(Path("absent.nii.gz"), None) for name in MODALITIES}
    case = Case(name, patient or name, domain, sources, Path("absent.nii.gz"), "brats2023", "brats")
    return CachedCase(case, counts, box, geometry, memory=Volume(images, labels, counts, box, geometry))


def square(shape: tuple[int, int, int], slices: slice, rows: slice, columns: slice, code: int = 1) -> np.ndarray:
    """Background with one cuboid of a code, uint8."""
    labels = np.zeros(shape, np.uint8)
    labels[slices, rows, columns] = code
    return labels


def made_model(
    name: str = "one", prompt: str = "point", rois: tuple[str, ...] = ("whole-tumor",), clicks: int = 1
) -> PromptedModel:
    """A model that is only talked about: it has no weights."""
    model = SegmentationModel(name, None, (), rois, None, image_size=64)
    return PromptedModel(model, GroundTruthPrompts(prompt, clicks))


def no_rounds(slices: int, rounds: int) -> PromptRounds:
    """Rounds of prompts in which no slice was prompted yet, to be filled in."""
    return PromptRounds(
        np.zeros(slices, bool),
        np.zeros((rounds, slices), np.float32),
        np.zeros((rounds, slices, 3), np.int32),
        np.zeros((slices, 2), np.float32),
    )


def predicted(mask: np.ndarray, rounds: PromptRounds | None = None) -> VolumePrediction:
    """A prediction with or without rounds of prompts from ground truth."""
    return replace(not_run(mask), rounds=rounds)


def collect_one(found: Collected, case: CachedCase, prediction: VolumePrediction, rule: SliceRule, area: float) -> None:
    """Collects a case as `collect` does, scored in this process."""
    found.see(case, prediction)
    found.add(score_job(found.job(case, prediction, rule, area)))
