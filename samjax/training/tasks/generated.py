"""SAM on generated patients: heads of the bank with fresh tumours; the compiled step draws their appearance."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from samjax.command_lines import command
from samjax.data.cases import MODALITIES
from samjax.data.loading.pipeline import MapDataset
from samjax.data.on_device.appearance import Appearance, appear
from samjax.data.on_device.keys import sample_keys
from samjax.data.on_device.prompts import PromptMix
from samjax.data.synthetic.head_bank import bank_folder, build_heads, missing_heads
from samjax.data.synthetic.windows import DrawWindow, held_out_windows, training_windows
from samjax.errors import Stopped
from samjax.figures.first_validation import draw_first_validation
from samjax.models.sam import Sam
from samjax.training.distributed import barrier, is_writer
from samjax.training.session import Session
from samjax.training.step import ScoringStep, States, make_scoring_step, shard
from samjax.training.stop import StopRequest
from samjax.training.tasks.objective import MASK_SHARE, Batch, Objective, SliceResults, slice_results
from samjax.training.tasks.task import HostBatch, Scores, Task

HEADS = 120
"""Heads in the bank; the last `HELD_OUT_HEADS` are for validation."""
HELD_OUT_HEADS = 20
WINDOWS_PER_EPOCH = 500
HELD_OUT = 64
"""Windows that a validation scores."""
SCORING_SEED = 1
_HELD_OUT_STREAM = 1
_TISSUES = ("head", "tumour", "volumes", "stripped", "step")


def generated_task(session: Session, graphdef: nnx.GraphDef) -> Task:
    """Prompts, loss and scores of training on generated patients."""
    options = session.options
    prompts = PromptMix.parse(options.prompt, options.box_jitter)
    objective = Objective(
        options.roi, session.channels, prompts, options.image_size, options.clicks, mask_share=MASK_SHARE,
        modality_dropout=options.modality_dropout, learns_absence=options.empty_share > 0,
    )  # fmt: skip
    train, held_out = head_numbers(options.limit)
    batch = options.batch_size * jax.local_device_count()
    first = PromptMix.parse("none" if "none" in prompts.kinds else prompts.kinds[0])
    alone = replace(objective, prompts=first, modality_dropout=0.0)
    scorer = WindowScorer(
        make_scoring_step(graphdef, partial(generated_results, objective=alone), SCORING_SEED),
        held_out_windows(_draw(session, held_out, _HELD_OUT_STREAM), HELD_OUT, batch),
        alone.prompts.kinds[0],
    )
    return Task(
        results=partial(generated_results, objective=objective),
        validate=scorer.score,
        describe=(
            f"{WINDOWS_PER_EPOCH} new windows an epoch of {len(train)} generated heads, scored on {HELD_OUT} windows "
            f"of {len(held_out)} others; {options.roi}, channels {options.channels}, {options.depth} slices a sample, "
            f"{options.empty_share:.0%} without tumour, prompt {prompts}, input {options.image_size} x "
            f"{options.image_size}"
        ),
        names=window_numbers,
    )


def generated_data(session: Session) -> MapDataset:
    """Batches of new windows for this host."""
    host = jax.process_index(), jax.process_count()
    batch = session.config.samples // jax.process_count()
    train, _ = head_numbers(session.options.limit)
    return training_windows(_draw(session, train), WINDOWS_PER_EPOCH, batch, host)


def prepare_heads(session: Session, stop: StopRequest) -> None:
    """Makes the heads that the bank lacks.

    Raises:
        Stopped: a signal asked for the end; finished heads are kept.
    """
    folder = bank_folder(session.options.cache_dir)
    count = session.options.limit or HEADS
    missing = missing_heads(folder, count)
    if missing and is_writer():
        print(
            f"generating {len(missing)} heads in {folder}, once for all runs: a few seconds of a core each", flush=True
        )
        build_heads(folder, count, done=partial(_go_on, session.folder, stop))
    barrier("heads")


def head_numbers(limit: int | None) -> tuple[range, range]:
    """The heads that are trained on and those held out, of the first `limit` heads."""
    count = limit or HEADS
    held_out = max(1, count * HELD_OUT_HEADS // HEADS)
    first = max(count - held_out, 1)  # a single head is for both
    return range(first), range(min(first, count - 1), count)


def generated_results(model: Sam, batch: Batch, key: jax.Array, objective: Objective) -> SliceResults:
    """Draws the appearance of a batch of tissues, and scores it as a batch of scans."""
    return slice_results(model, with_images(batch, key), key, objective)


def with_images(batch: Batch, key: jax.Array, options: Appearance | None = None) -> Batch:
    """The batch with `images` in place of its tissues; what is drawn depends on `key` and each sample's identity."""
    keys = sample_keys(key, batch).augment
    draw = jax.vmap(partial(appear, options=options or Appearance()))
    rest = {name: x for name, x in batch.items() if name not in _TISSUES}
    images = draw(keys, *(batch[name] for name in _TISSUES))
    return {**rest, "images": images, "present": jnp.ones((len(images), len(MODALITIES)), bool)}


def window_numbers(batch: HostBatch) -> list[str]:
    """The number of each window."""
    return [f"generated window {number}" for number in batch["identity"][batch["valid"]]]


@dataclass(frozen=True)
class WindowScorer:
    """Scores held-out windows: the Dice of each with a tumour, and how many of the others stay empty."""

    step: ScoringStep
    windows: MapDataset
    kind: str
    """The kind of prompt."""

    def score(self, states: States) -> Scores:
        """Scores a model given as replicated states."""
        dice, empty = [], []
        for host in self.windows.to_iter(epochs=1):
            results = jax.device_get(self.step(states, shard(host)))
            both, pred, true = (
                np.where(results.counted, results.overlap[name], 0).sum(-1).reshape(-1)[host["valid"]]
                for name in ("both", "pred", "true")
            )
            dice += (2 * both / np.maximum(pred + true, 1))[true > 0].tolist()
            empty += (pred == 0)[true == 0].tolist()
        mean = float(np.mean(dice))
        quiet = float(np.mean(empty)) if empty else 1.0
        return Scores(
            values={
                "dice": mean, "windows": len(dice), "empty_right": quiet, "empty_windows": len(empty),
                "prompt": self.kind, "prompt_source": "none" if self.kind == "none" else "ground truth",
            },
            text=(
                f"validation Dice {mean:.3f} (n = {len(dice)} generated windows, prompt {self.kind}); "
                f"{quiet:.0%} of {len(empty)} windows without tumour left empty"
            ),
            best=mean,
            draw=partial(save_window, windows=self.windows),
        )  # fmt: skip


def save_window(path: Path, windows: MapDataset) -> None:
    """Draws the modalities and the label of the held-out window whose middle slice shows most of a tumour."""
    host = windows.get(0, 0)
    best, middle = int((host["labels"] > 0).sum((1, 2, 3)).argmax()), host["labels"].shape[1] // 2
    images = np.asarray(jax.jit(with_images)({**host}, jax.random.key(SCORING_SEED))["images"])
    label = host["labels"][best, middle] > 0
    title = f"generated window {host['identity'][best]}"
    draw_first_validation(path, title, images[best, middle], ("t1", "t1gd", "t2", "flair"), label, label)


def _draw(session: Session, heads: range, stream: int = 0) -> DrawWindow:
    options = session.options
    seed = 0 if stream else options.seed  # held-out windows are the same for all runs
    return DrawWindow(
        bank_folder(options.cache_dir), (heads[0], heads[-1]), options.depth, session.config.native, seed,
        options.empty_share, stream=stream,
    )  # fmt: skip


def _go_on(folder: Path, stop: StopRequest) -> None:
    """Raises `Stopped` if a signal asked for the end."""
    if stop.signal is not None:
        raise Stopped(
            f"{folder} while generating heads, finished ones are kept; go on with "
            + command("train", "--resume", "--run", folder),
            stop.signal,
        )
