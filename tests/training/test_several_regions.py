"""One SAM that learns several regions: its losses, its counts, any number of devices, and whole runs of it."""

import json
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from samjax.data.on_device.augment import Augmentation
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import Stopped, UserError
from samjax.inference.loading import model_of_run
from samjax.models.adapt import adapt, random_sam
from samjax.models.config import Adaptation, ComputeConfig
from samjax.models.flat import to_flat
from samjax.models.prompt_encoder import Prompts
from samjax.models.sam import Sam
from samjax.options import TrainOptions
from samjax.runs.trained import load_trained
from samjax.strategies import trainable_filter
from samjax.training import loop
from samjax.training.loop import train
from samjax.training.metrics_log import MetricsLog
from samjax.training.progress import parameter_counts
from samjax.training.step import initial_state, make_train_step, replicate, unreplicate
from samjax.training.tasks.losses import slice_loss
from samjax.training.tasks.objective import SliceResults, slice_results
from samjax.weights.base import save_weights
from tests.training import small
from tests.training.test_run_options import one_line, resolved

SHORT = replace(small.CONFIG, depth=1, global_attn_indexes=(0,), decoder_depth=1, iou_head_depth=2)
EMPTY_INNER = ((0, 0), (1, 1))
"""The (sample, slice) pairs whose tumour is edema alone."""


def joint() -> Sam:
    """A small model of three regions."""
    flat = to_flat(nnx.state(random_sam(SHORT, seed=3)), SHORT.block_spans)
    adaptation = Adaptation(lora_rank=2, slices=small.DEPTH, inner_regions=2)
    return adapt(SHORT, flat, adaptation, ComputeConfig(), patch_channels=4, seed=4)


def batch(samples: int, empty: tuple[tuple[int, int], ...] = ()) -> dict[str, np.ndarray]:
    """Squares of edema with non-enhancing and enhancing tumour inside, except where `EMPTY_INNER` says."""
    found = small.batch(samples, empty=empty)
    for place in np.ndindex(found["labels"].shape[:2]):
        label = found["labels"][place]
        label[label > 0] = 1
        rows, columns = (np.flatnonzero((label > 0).any(axis)) for axis in (1, 0))
        if rows.size and place not in EMPTY_INNER:
            label[rows[0] : rows[-1], columns[0] : columns[-1]] = 2
            label[rows[0] + 1, columns[0] + 1] = 3
    return found


class Levels:
    """In place of a model: each region has a level of its own everywhere; the prompts and masks are kept."""

    def __init__(self, *levels: float):
        self.levels = np.float32(levels)
        self.rounds: list[Prompts] = []
        self.masks: list[jax.Array] = []

    def encode(self, images: jax.Array, slices: jax.Array, present: jax.Array | None) -> jax.Array:
        return np.zeros((*images.shape[:2], 4, 4, 16), np.float32)

    def decode(
        self, embeddings: jax.Array, prompts: Prompts, masks: jax.Array | None = None, has_mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        self.rounds.append(prompts)
        if masks is not None:
            self.masks.append(masks)
        logits = np.broadcast_to(self.levels[:, None, None], (len(embeddings), 1, len(self.levels), 16, 16))
        return logits, np.broadcast_to(self.levels / 10, logits.shape[:3])


def scored(
    model: Levels, data: dict[str, np.ndarray], prompt: str = "point", roi: str = "all", **options: object
) -> SliceResults:
    objective = replace(small.objective(prompt, **options), roi=roi)
    return slice_results(model, data, jax.random.key(0), objective)


@pytest.mark.parametrize(
    ("prompt", "learns_absence", "counts_absent"),
    [("point", False, False), ("none", False, False), ("point", True, False), ("none", True, True)],
)
def test_a_region_weighs_a_third_in_each_slice_that_shows_it_or_where_it_is_learnt_as_absent(
    prompt: str, learns_absence: bool, counts_absent: bool
):
    data, levels = batch(2), (3.0, -2.0, 1.0)
    found = jax.jit(lambda data: scored(Levels(*levels), data, prompt, learns_absence=learns_absence))(data)
    assert found.counted.all(), "each slice shows the whole tumour"
    targets = np.stack([data["labels"] > 0, data["labels"] > 1, data["labels"] == 3])
    assert all(not targets[2][place].any() for place in EMPTY_INNER)

    @jax.jit
    def of_each(targets: jax.Array) -> jax.Array:
        level, pixels = np.float32(levels)[:, None, None], np.ones(data["labels"].shape, bool)
        logits = np.broadcast_to(level[..., None, None], targets.shape)
        return slice_loss(logits, np.broadcast_to(level / 10, targets.shape[:3]), targets, pixels)

    losses = np.asarray(of_each(targets))
    shown = targets.any((-2, -1)) | counts_absent
    np.testing.assert_allclose(found.loss, (losses * shown).sum(axis=0) / 3, rtol=1e-5)
    assert (np.ptp(losses, axis=0) > 0.1).all(), "no region's loss is the mean by itself"


def test_prompts_clicks_masks_and_counts_are_of_the_whole_tumour():
    data = batch(2)
    model = Levels(-9.0, 9.0, 9.0)
    found = scored(model, data, clicks=2, mask_share=1.0)
    np.testing.assert_array_equal(found.overlap["true"], (data["labels"] > 0).sum((2, 3)))
    assert not found.overlap["pred"].any()
    assert all((np.asarray(masks) == -9).all() for masks in model.masks)
    assert len(model.masks) == 1
    pixels = np.floor(np.asarray(model.rounds[-1].coords[:, 0, :2]) * small.NATIVE / small.CONFIG.image_size).astype(
        int
    )
    assert (np.asarray(model.rounds[-1].labels[:, 0, :2]) == 1).all(), "the whole tumour was missed: all are positive"
    for mask, clicks in zip(data["labels"].reshape(-1, small.NATIVE, small.NATIVE) > 0, pixels, strict=True):
        assert all(mask[y, x] for x, y in clicks)
    whole = Levels(-9.0)
    scored(whole, data, clicks=2, mask_share=1.0, roi="whole-tumor")
    for one, other in zip(model.rounds, whole.rounds, strict=True):
        np.testing.assert_array_equal(one.coords, other.coords)


def test_four_devices_make_the_update_of_one_in_parts():
    data = batch(8, empty=((2, 0), (2, 1), (5, 1)))
    objective = replace(small.objective("point:0.7,none:0.3", augmentation=Augmentation()), roi="all")
    updated = []
    for devices, parts in ((1, 2), (4, 1)):
        graphdef, trainable, frozen = nnx.split(joint(), trainable_filter(small.strategy()), ...)
        step = make_train_step(
            graphdef, partial(slice_results, objective=objective), optax.identity(), seed=7, micro_batches=parts
        )
        state = replicate(initial_state(trainable, optax.identity()), devices)
        scalars = np.full(devices, 1, np.float32), np.full(devices, False)
        state, metrics = step(state, replicate(frozen, devices), small.on_devices(data, devices), *scalars)
        updated.append((float(metrics["loss"][0]), to_flat(unreplicate(state).trainable.tree(), SHORT.block_spans)))
    (loss, one), (other_loss, four) = updated
    assert loss == pytest.approx(other_loss, rel=1e-5)
    before = to_flat(trainable, SHORT.block_spans)
    still = {path for path in before if np.array_equal(before[path], one[path])}
    # The networks of the alternatives are all of the decoder that no region's loss reaches.
    decoder = {path for path in still if path.startswith("mask_decoder/")}
    assert all("mask_decoder/output_hypernetworks_mlps/" in path and "mlps/0/" not in path for path in decoder)
    for path, value in one.items():
        np.testing.assert_allclose(four[path], value, rtol=1e-4, atol=2e-5, err_msg=path)


def test_the_parameters_of_inner_regions_are_counted_by_themselves():
    counts = parameter_counts(nnx.split(joint(), trainable_filter(small.strategy()), ...)[1])
    dim = SHORT.out_dim
    region = dim + 2 * (dim * dim + dim) + dim * dim // 8 + dim // 8 + SHORT.iou_head_dim * 4 + 4
    assert counts["inner_regions"] == 2 * region


def test_what_has_no_regions_to_learn_together_is_refused():
    assert resolved("lora", roi="all").roi == "all"
    for strategy, words in (("unet", "learns all regions as it is"), ("pretrain", "has no regions")):
        with pytest.raises(UserError) as caught:
            resolved(strategy, roi="all")
        one_line(caught, f"--roi all: --strategy {strategy}", words)
    with pytest.raises(
        UserError, match=r"--roi core: expected one of .*whole-tumor, or all for whole-tumor, tumor-core"
    ):
        resolved("lora", roi="core")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("several")
    write_cohort(root / "small-2023", "adult", 5, options=PhantomOptions((40, 40, 8)))
    save_weights(root / "small.safetensors", to_flat(nnx.state(random_sam(SHORT, seed=3)), SHORT.block_spans), SHORT)
    return root


def options_of(place: Path, name: str, **changes: object) -> TrainOptions:
    given = {
        "strategy": "decoder", "roi": "all", "data": (f"demo={place / 'small-2023'}",), "image_size": 64, "workers": 0,
        "weights": str(place / "small.safetensors"), "run": place / name, "cache_dir": place / "cache", "max_steps": 4,
        "lr": 1e-2, "swa_start": 0.5, "augment": False, "cache_embeddings": 1,
    }  # fmt: skip
    return TrainOptions(**given | changes)


def test_a_run_on_stored_embeddings_that_is_stopped_ends_as_one_that_is_not(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(place)
    monkeypatch.setattr(loop, "draw_curves", lambda *_: None)
    whole = train(options_of(place, "whole"))
    said = capsys.readouterr().out
    assert "whole-tumor, tumor-core and enhancing together, prompted by whole-tumor" in said
    assert "inner_regions" in said
    with monkeypatch.context() as patch:
        write = MetricsLog.write

        def written(log: MetricsLog, kind: str, at: int, *given: object, **values: object) -> None:
            write(log, kind, at, *given, **values)
            if (kind, at) == ("train", 1):
                signal.raise_signal(signal.SIGTERM)

        patch.setattr(MetricsLog, "write", written)
        with pytest.raises(Stopped, match="after step 2 of 4"):
            train(options_of(place, "stopped"))
    resumed = train(TrainOptions(resume=True, run=place / "stopped", cache_dir=place / "cache", workers=0))
    trained, again = (load_trained(folder)[1].trained for folder in (whole, resumed))
    assert any("/inner_regions/1/" in path for path in trained)
    for path, value in trained.items():
        np.testing.assert_array_equal(again[path], value, err_msg=path)
    assert model_of_run(whole).rois == ("whole-tumor", "tumor-core", "enhancing")
    scores = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    for row in [row for row in scores if row["kind"] == "validation"]:
        each = [row[f"dice_{roi}"] for roi in ("whole-tumor", "tumor-core", "enhancing")]
        assert row["dice"] == pytest.approx(np.mean(each))
        assert len(set(each)) > 1
    with pytest.raises(UserError, match=r"changed --roi tumor-core \(the run has all\)"):
        train(TrainOptions(resume=True, run=whole, roi="tumor-core"))
