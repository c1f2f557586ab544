"""What does an epoch of the `decoder` strategy take, with the encoder's embeddings cached and without?

All slices with tumour of one generated case, one a step, box prompt, no augmentation. Cached: embeddings come from the
disk, which they were written to before (that pass costs about one epoch without the backward pass). PyTorch runs Meta's
encoder on every slice, as does ours without the cache. Both sides read slices through our pipeline: it is `pipeline`
that measures reading.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.options import Setting
from benchmarks.random_weights import INPUT_SIZE, architecture, weights_path, write_weights
from benchmarks.scans import generated_cohort
from benchmarks.sides import meta_side, our_side
from benchmarks.work import Benchmark, Comparison, Work

if TYPE_CHECKING:
    from samjax.training.session import Session

SLICES = 12
NATIVE = 240
SMALL_NATIVE = 64
CHANNELS = "flair,t1gd,t2"
LR = 1e-4


def cohort(setting: Setting) -> Path:
    """One case of few and thick slices, small where the model's input is."""
    side = NATIVE if setting.side(INPUT_SIZE) >= NATIVE else SMALL_NATIVE
    return generated_cohort(setting, 1, (side, side, SLICES))


def write_files(setting: Setting) -> None:
    """The weights, the case and its embeddings."""
    from samjax.training.precompute import compute_embeddings
    from samjax.training.stop import StopRequest

    write_weights(setting)
    compute_embeddings(_session(setting, embeddings=True), StopRequest())


def _session(setting: Setting, embeddings: bool) -> "Session":
    """A run as `train.py --strategy decoder --overfit CASE` would begin it."""
    from samjax.options import TrainOptions
    from samjax.training.session import new_session

    (case,) = (path.name for path in cohort(setting).iterdir() if path.is_dir())
    options = TrainOptions(
        strategy="decoder",
        data=(f"bench={cohort(setting)}",),
        weights=str(weights_path(setting)),
        run=Path("run").absolute(),
        overfit=case,
        channels=CHANNELS,
        image_size=setting.side(INPUT_SIZE),
        cache_dir=setting.folder / "cache",
        cache_embeddings=1 if embeddings else None,
    )
    return new_session(options)


def _ours(setting: Setting, embeddings: bool) -> Work:
    from benchmarks.our_training import OurTraining
    from samjax.data.on_device.prompts import PromptMix
    from samjax.runs.model import build_model
    from samjax.training.tasks.objective import Objective
    from samjax.training.tasks.segmentation import window_data

    session = _session(setting, embeddings)
    data = window_data(session)
    objective = Objective("whole-tumor", session.channels, PromptMix.parse("box"), session.options.image_size)
    model = build_model(session.config, session.base)
    training = OurTraining(model, "decoder", objective, LR, data.get(0, 0))
    batches = data.to_iter()

    def epoch() -> None:
        for _ in range(data.length(0)):
            training.step(next(batches))

    return Work(
        epoch,
        warm_up=lambda: training.step(data.get(0, 0)),
        answer=np.asarray,
        compile_seconds=training.compile_seconds,
    )


def cached(setting: Setting) -> Work:
    return _ours(setting, embeddings=True)


def uncached(setting: Setting) -> Work:
    return _ours(setting, embeddings=False)


def meta(setting: Setting) -> Work:
    from benchmarks.meta_sam import meta_sam
    from benchmarks.torch_training import TorchTraining
    from samjax.data.cohort import list_cases, prepare
    from samjax.data.on_device.channels import parse_channels
    from samjax.data.samples import TrainingWindows, largest_square, training_set

    sam = meta_sam(architecture(setting), weights_path(setting))
    training = TorchTraining(sam, sam.mask_decoder.parameters(), setting.side(INPUT_SIZE), LR, encoder_trains=False)
    cases = tuple(prepare(list_cases({"bench": cohort(setting)}, None, None, None), setting.folder / "cache", 1))
    windows = TrainingWindows(cases, depth=1, roi="whole-tumor", min_pixels=1, empty_share=0.0, seed=0)
    data, channels = training_set(windows, largest_square(cases), 1), parse_channels(CHANNELS)
    batches = data.to_iter()

    def step(batch: dict[str, np.ndarray]) -> np.ndarray:
        return training.step(channels(batch["images"])[0, 0], batch["labels"][0, 0] > 0)

    def epoch() -> None:
        for _ in range(data.length(0)):
            step(next(batches))

    return Work(epoch, warm_up=lambda: step(data.get(0, 0)), answer=np.asarray)


BENCHMARK = Benchmark(
    {"cached": our_side(cached), "uncached": our_side(uncached), "meta": meta_side(meta)},
    (
        # The cached embeddings are float16.
        Comparison("epoch/cached", "cached", "meta", tolerance=1e-2),
        Comparison("epoch/uncached", "uncached", "meta", tolerance=1e-3),
        Comparison("epoch/cached_to_uncached", "cached", "uncached", tolerance=1e-2),
    ),
    write_files,
)
