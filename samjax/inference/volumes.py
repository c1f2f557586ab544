"""Segments whole volumes, prompt-free or prompted from their labels."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.cache.embeddings import EmbeddingStore
from samjax.inference.encoded import SLICES
from samjax.inference.ground_truth import GroundTruthPrompts
from samjax.inference.model import SegmentationModel
from samjax.inference.predictions import VolumePrediction
from samjax.inference.reading import read_ahead
from samjax.inference.source import SourceVolume


def segment_cases(
    model: SegmentationModel,
    cases: Sequence[CachedCase],
    prompts: GroundTruthPrompts,
    *,
    slices: int = SLICES,
    workers: int = 0,
    embeddings: EmbeddingStore | None = None,
    logits: bool = False,
) -> Iterator[tuple[CachedCase, VolumePrediction]]:
    """Segments prepared cases one by one, in order; no case depends on the others.

    Each is resampled to the model's grid if it is on another, and its prediction is on the case's own.

    Args:
        prompts: with boxes or points, slices without the region stay background.
        slices: number of slices that go through the model together on each device.
        workers: threads that read the next cases.
        embeddings: stored embeddings of all slices that are run, used instead of encoding; for models of depth 1.
        logits: whether predictions have logits.
    """

    def read(case: CachedCase) -> tuple[np.ndarray, np.ndarray]:
        return case.read(0, case.shape[0])

    for case, (images, labels) in read_ahead(cases, read, workers):
        stored = None if embeddings is None else partial(embeddings.read, case, 0)
        volume = SourceVolume(model, images, case.geometry.spacing, slices, modalities=case.modalities, stored=stored)
        if prompts.kind == "none":
            yield case, volume.segment(logits)
        else:
            yield case, volume.segment_by_truth(labels, prompts, case.case.identity, logits)
