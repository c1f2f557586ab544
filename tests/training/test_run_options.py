"""Options of a run: defaults of each strategy, what is refused, and what a resumed run may change."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from samjax.data.on_device.prompts import PromptMix
from samjax.errors import UserError
from samjax.limits import LIMITS
from samjax.models.config import PRESETS
from samjax.options import TrainOptions
from samjax.runs.config import RunConfig
from samjax.strategies import STRATEGIES
from samjax.training.optimizers import make_transform
from samjax.training.run_options import BOUND, FREE, MOVED, PHANTOM_STEPS, check_given, continued_options, resolve

TINY = PRESETS["tiny"]
OTHER: dict[str, Any] = {
    "weights": "other.safetensors",
    "depth": 3,
    "epochs": 7,
    "batch_size": 5,
    "lr": 0.03,
    "optimizer": "adamw",
    "schedule": "cosine",
    "clicks": 9,
    "box_jitter": 0.25,
    "empty_share": 0.4,
    "modality_dropout": 0.2,
    "channels": "t2,t1gd,t1",
    "prompt": "box:0.25,point:0.75",
    "clip_norm": 3.5,
}
"""For each option that strategies give defaults, a value that is none of them."""


def resolved(strategy: str, **given: Any) -> TrainOptions:
    row = STRATEGIES[strategy]
    return resolve(TrainOptions(strategy=strategy, **given), row, None if row.family == "unet" else TINY)


def one_line(error: pytest.ExceptionInfo[UserError], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


class TestResolve:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_a_strategy_gives_its_defaults(self, strategy):
        options = resolved(strategy)
        for name, value in STRATEGIES[strategy].defaults.items():
            found = getattr(options, name)
            if name == "prompt":
                found, value = (PromptMix.parse(text).shares for text in (found, value))
            assert found == value, name
        assert options.image_size == (None if strategy == "unet" else 256)

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_what_is_given_is_kept(self, strategy):
        fixed = {
            "decoder": ("clicks",),
            "unet": ("weights", "depth", "prompt", "clicks"),
            "pretrain": ("channels", "depth", "modality_dropout"),
        }
        for name in STRATEGIES[strategy].defaults:
            if name not in fixed.get(strategy, ()):
                assert getattr(resolved(strategy, **{name: OTHER[name]}), name) == OTHER[name]

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_nothing_is_left_to_resolve(self, strategy):
        """What is resolved stays as it is, so that a run can check its own options again."""
        row, options = STRATEGIES[strategy], resolved(strategy)
        assert resolve(options, row, None if row.family == "unet" else TINY) == options

    def test_only_the_phantom_has_a_limit_of_its_own(self):
        assert resolved("lora4ch").max_steps == PHANTOM_STEPS
        assert resolved("lora4ch", max_steps=7).max_steps == 7
        assert resolved("lora4ch", data=("scans",)).max_steps is None
        assert resolved("pretrain").max_steps is None

    def test_the_input_is_as_large_as_the_weights_were_trained_at(self):
        assert resolved("lora").image_size == 256
        assert resolved("lora", image_size=128).image_size == 128

    def test_overfitting_is_without_augmentation(self):
        assert resolved("lora").augment
        assert not resolved("lora", overfit="case").augment
        assert not resolved("lora", augment=False).augment

    @pytest.mark.parametrize(
        ("strategy", "given", "words"),
        [
            ("lora", {"depth": 0}, ["--depth 0"]),
            ("lora", {"max_steps": 0}, ["--max-steps 0", "at least 1"]),
            ("lora", {"batch_size": -1}, ["--batch-size -1"]),
            ("lora", {"checkpoint_every": 0}, ["--checkpoint-every 0"]),
            ("lora", {"lr_finder_every": 0}, ["--lr-finder-every 0"]),
            ("lora", {"image_size": 100}, ["--image-size 100", "16"]),
            ("unet", {"empty_share": 1.0}, ["--empty-share 1"]),
            ("lora", {"empty_share": -0.1}, ["--empty-share -0.1"]),
            ("lora", {"swa_start": 1.5}, ["--swa-start 1.5"]),
            ("lora", {"lr": 0.0}, ["--lr 0.0", "auto"]),
            ("lora", {"lr": float("nan")}, ["--lr nan"]),
            ("lora", {"lr": float("inf")}, ["--lr inf", "above 0"]),
            ("lora", {"seed": -1}, ["--seed -1", "at least 0"]),
            ("lora", {"seed": 2**32}, ["--seed 4294967296", "at most 4294967295"]),
            ("lora", {"clip_norm": -1.0}, ["--clip-norm -1", "above 0"]),
            ("lora", {"elastic_alpha": float("nan")}, ["--elastic-alpha nan", "at least 0"]),
            ("lora", {"elastic_sigma": 0.0}, ["--elastic-sigma 0", "above 0"]),
            ("lora", {"rotation": float("inf")}, ["--rotation inf"]),
            ("lora", {"workers": -1}, ["--workers -1", "at least 0"]),
            ("lora", {"swa_cycle": -3}, ["--swa-cycle -3"]),
            ("lora", {"swa_lr": float("nan")}, ["--swa-lr nan"]),
            ("lora", {"warmup_steps": -1}, ["--warmup-steps -1"]),
            ("lora", {"weight_decay": -0.1}, ["--weight-decay -0.1"]),
            ("lora", {"lora_alpha": 0.0}, ["--lora-alpha 0"]),
            ("lora", {"box_jitter": 1.5}, ["--box-jitter 1.5", "at most 1"]),
            ("decoder", {"embeddings_budget": float("nan")}, ["--embeddings-budget nan"]),
            ("lora", {"lora_targets": "q,x"}, ["--lora-targets", "'x'"]),
            ("lora", {"spacing": "1 mm"}, ["--spacing 1 mm", "such as 1", "0.8,0.8,3"]),
            ("lora", {"roi": "liver"}, ["--roi", "liver", "whole-tumor"]),
            ("lora", {"prompt": "scribble"}, ["--prompt", "scribble"]),
            ("lora4ch", {"channels": "rgb"}, ["--channels rgb", "flair"]),
            ("lora4ch", {"channels": "t1,ct,t2"}, ["--channels t1,ct,t2"]),
            ("unet", {"depth": 4}, ["--strategy unet", "--depth"]),
            ("unet", {"image_size": 256}, ["--strategy unet", "--image-size"]),
            ("unet", {"prompt": "box"}, ["--strategy unet", "--prompt"]),
            ("lora4ch", {"modality_dropout": 1.0}, ["--modality-dropout 1", "below 1"]),
            ("lora4ch", {"modality_dropout": -0.1}, ["--modality-dropout -0.1"]),
            ("lora", {"modality_dropout": 0.3, "channels": "t1gd"}, ["--modality-dropout 0.3", "t1gd is one modality"]),
            ("lora", {"modality_dropout": 0.3, "channels": "pca2d"}, ["--modality-dropout 0.3", "pca2d"]),
            ("pretrain", {"modality_dropout": 0.3}, ["--modality-dropout 0.3", "--strategy pretrain"]),
            ("decoder", {"modality_dropout": 0.3, "cache_embeddings": 2}, ["leave out --cache-embeddings"]),
            ("unet", {"planes": "axial,frontal"}, ["--planes axial,frontal", "coronal, sagittal"]),
            ("unet", {"planes": "coronal"}, ["--planes coronal", "expected axial among them"]),
            ("unet", {"planes": "axial,coronal", "spacing": "1"}, ["--planes axial,coronal", "--spacing 1,1,1"]),
            ("unet", {"planes": "axial,coronal", "spacing": "1,1,3"}, ["3 x 1 x 1 mm", "--spacing 1,1,1"]),
            ("lora", {"planes": "axial,coronal", "channels": "pca2d"}, ["--planes axial,coronal", "pca2d"]),
            ("decoder", {"planes": "axial,coronal", "cache_embeddings": 2}, ["leave out --cache-embeddings"]),
            ("pretrain", {"planes": "axial,coronal"}, ["--planes axial,coronal", "--strategy pretrain"]),
            ("pretrain", {"data": ("scans",)}, ["--strategy pretrain", "--data"]),
            ("pretrain", {"channels": "all"}, ["--strategy pretrain", "--channels"]),
            ("pretrain", {"depth": 4}, ["--strategy pretrain", "--depth"]),
            ("pretrain", {"overfit": "case"}, ["--strategy pretrain"]),
            ("pretrain", {"prompt": "point,none"}, ["--prompt point", "--strategy pretrain"]),
        ],
    )
    def test_what_cannot_be_is_refused_in_one_line(self, strategy, given, words):
        with pytest.raises(UserError) as caught:
            resolved(strategy, **given)
        one_line(caught, *words)

    @pytest.mark.parametrize(
        ("strategy", "channels"), [("decoder", "flair,t1gd,t2"), ("lora4ch", "all"), ("unet", "t2,flair,t1")]
    )
    def test_modalities_may_be_hidden_where_there_are_several(self, strategy, channels):
        assert resolved(strategy, channels=channels, modality_dropout=0.3).modality_dropout == 0.3

    @pytest.mark.parametrize(("strategy", "channels"), [("lora", "t1gd"), ("lora4ch", "t1,t2,flair"), ("unet", "t2")])
    def test_other_channels_are_fine_where_the_model_takes_as_many(self, strategy, channels):
        assert resolved(strategy, channels=channels).channels == channels


NUMBERS = {"depth", "clicks", "min_pixels", "seed", "lr", "workers", "swa_start", "embeddings_budget", "rotation"}


def test_every_number_has_a_limit():
    """So that a new option cannot be forgotten."""
    named_elsewhere = {"processes", "process_index"}
    numeric = {
        option.name for option in fields(TrainOptions) if {"int", "float"} & set(re.findall(r"\w+", str(option.type)))
    }
    assert numeric > NUMBERS
    assert numeric - named_elsewhere == LIMITS.keys() & {option.name for option in fields(TrainOptions)}


@pytest.mark.parametrize(
    ("strategy", "given", "words"),
    [
        ("decoder", {"lora_rank": 4}, ["--lora-rank", "decoder", "no LoRA"]),
        ("full", {"lora_alpha": 2.0}, ["--lora-alpha", "full"]),
        ("unet", {"lora_targets": "q,v"}, ["--lora-targets", "unet"]),
        ("pretrain", {"lora_rank": 8}, ["--lora-rank", "pretrain"]),
        ("unet", {"spacing": "1,1,100"}, ["--spacing 1,1,100", "from 0.1 to 20"]),
        ("pretrain", {"spacing": "1"}, ["--spacing 1", "pretrain", "pictures"]),
        ("generated", {"rotation": 5.0}, ["--rotation", "generated"]),
        ("lora", {"patch_embedding": "inflate"}, ["--patch-embedding", "lora"]),
        ("full", {"patch_embedding": "random", "channels": "t1,t2,flair"}, ["--patch-embedding", "t1,t2,flair"]),
    ],
)
def test_options_that_a_strategy_has_no_use_for_are_refused(strategy, given, words):
    with pytest.raises(UserError) as caught:
        check_given(given.keys(), resolved(strategy, **given), STRATEGIES[strategy])
    one_line(caught, *words)


@pytest.mark.parametrize("given", [{"data": ("scans",)}, {"overfit": "case"}, {"channels": "pca2d"}])
def test_training_on_generated_patients_takes_no_scans(given):
    with pytest.raises(UserError) as caught:
        resolved("generated", **given)
    one_line(caught, "generated", "no --data")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_options_that_were_not_given_are_not_refused(strategy):
    check_given((), resolved(strategy), STRATEGIES[strategy])
    if STRATEGIES[strategy].lora:
        check_given(("lora_rank", "lora_alpha"), resolved(strategy), STRATEGIES[strategy])


STARTED = resolved("lora4ch", data=("demo=/scans",), epochs=10, lr=1e-3, seed=3, workers=2, batch_size=2, spacing="1")
CHANGED: dict[str, Any] = {
    "workers": 5, "cache": False, "cache_dir": Path("/elsewhere"), "checkpoint_every": 11,
    "embeddings_budget": 9.5, "profile": 3, "track": "mlflow", "strategy": "lora",
    "data": ("demo=/others",), "weights": "random", "overfit": "case", "roi": "edema", "channels": "t1,t2,flair",
    "depth": 2, "image_size": 128, "lora_rank": 8, "lora_alpha": 8.0, "lora_targets": "q,v",
    "patch_embedding": "inflate", "seed": 4, "limit": 2, "fold": "1/5", "layout": "msd", "labels": "ped2024",
    "optimizer": "adamw", "accumulate": 2, "clip_norm": 1.0, "epochs": 20, "max_steps": 50, "lr": 1e-5,
    "schedule": "cosine", "swa_start": 0.5, "augment": False, "batch_size": 4, "prompt": "box", "dtype": "bfloat16",
    "modality_dropout": 0.3, "lr_finder_every": 5, "planes": "axial,coronal", "remat": True,
    "patients": Path("who.csv"), "split_file": Path("split.json"), "spacing": "0.8,0.8,3",
}  # fmt: skip
REST = sorted(CHANGED.keys() - {*FREE, *BOUND, *MOVED})


def given(*names: str, allow_changes: bool = False) -> TrainOptions:
    """What a user types besides --resume."""
    changes = {name: CHANGED[name] for name in names}
    return TrainOptions(resume=True, run=Path("run"), allow_changes=allow_changes, **changes)


def go_on(*names: str, allow_changes: bool = False) -> TrainOptions:
    return continued_options(STARTED, given(*names, allow_changes=allow_changes), Path("run"))


class TestContinuedOptions:
    def test_the_kinds_of_options_are_known_and_apart(self):
        known = {field.name for field in fields(TrainOptions)}
        assert {*FREE, *BOUND, *MOVED} <= CHANGED.keys() <= known
        assert len({*FREE, *BOUND, *MOVED}) == len([*FREE, *BOUND, *MOVED])
        assert len(REST) > 8

    @pytest.mark.parametrize("name", REST)
    def test_what_may_change_leaves_the_form_of_the_checkpoints(self, name):
        """The optimiser's state, and what is added to the model."""

        def form(options: TrainOptions) -> tuple:
            transform = make_transform(options)
            state = jax.eval_shape(lambda: transform.init({"kernel": np.zeros(3)}))
            config = RunConfig(options, {}, "", "", TINY, 240)
            return jax.tree.structure(state), config.adaptation, config.block_spans

        assert form(replace(STARTED, **{name: CHANGED[name]})) == form(STARTED)

    def test_without_further_options_the_run_goes_on_as_it_started(self):
        assert go_on() == STARTED
        assert go_on(allow_changes=True) == STARTED

    @pytest.mark.parametrize("name", FREE)
    @pytest.mark.parametrize("allow_changes", [False, True])
    def test_how_it_is_computed_may_change(self, name, allow_changes):
        assert go_on(name, allow_changes=allow_changes) == replace(STARTED, **{name: CHANGED[name]})

    @pytest.mark.parametrize("name", BOUND)
    @pytest.mark.parametrize("allow_changes", [False, True])
    def test_the_model_and_the_data_may_not(self, name, allow_changes):
        with pytest.raises(UserError) as caught:
            go_on(name, allow_changes=allow_changes)
        flag = f"--{name.replace('_', '-')}"
        one_line(caught, "--run run", f"{flag} {CHANGED[name]}", f"has {getattr(STARTED, name)})", "start a new run")

    @pytest.mark.parametrize("name", REST)
    def test_the_rest_may_if_it_is_allowed(self, name):
        with pytest.raises(UserError) as caught:
            go_on(name)
        one_line(caught, f"--{name.replace('_', '-')} {CHANGED[name]}", "--allow-changes")
        assert go_on(name, allow_changes=True) == replace(STARTED, **{name: CHANGED[name]})

    @pytest.mark.parametrize(
        ("option", "spelling"),
        [
            ("channels", "T1, t1gd,t2w,FLAIR"),
            ("channels", "all"),
            ("prompt", "point:3, none:1"),
            ("lora_targets", "mlp, q,k,v"),
            ("lr", 0.001),
            ("batch_size", 2),
            ("spacing", "1.0, 1"),
            ("planes", " axial"),
        ],
    )
    def test_another_spelling_of_what_the_run_has_is_no_change(self, option, spelling):
        options = TrainOptions(resume=True, **{option: spelling})
        assert continued_options(STARTED, options, Path("run")) == STARTED

    def test_the_fold_is_compared_as_numbers(self):
        started = replace(STARTED, fold="1/5")
        assert continued_options(started, TrainOptions(fold="01/5"), Path("run")) == started
        with pytest.raises(UserError, match="--fold 2/5"):
            continued_options(started, TrainOptions(fold="2/5"), Path("run"))

    @pytest.mark.parametrize(("name", "value"), [("seed", 0), ("swa_start", 0.75), ("roi", "whole-tumor")])
    def test_a_given_option_counts_also_where_it_equals_the_default(self, name, value):
        started = replace(STARTED, seed=3, swa_start=0.5, roi="edema")
        assert getattr(TrainOptions(), name) == value
        assert continued_options(started, TrainOptions(), Path("run"), given=()) == started
        with pytest.raises(UserError) as caught:
            continued_options(started, TrainOptions(), Path("run"), given=(name,))
        one_line(caught, f"--{name.replace('_', '-')} {value}", str(getattr(started, name)))

    def test_every_change_is_named_at_once(self):
        with pytest.raises(UserError) as caught:
            go_on("epochs", "workers", "roi", "lr")
        one_line(caught, "--epochs 20", "--roi edema", "--lr 1e-05", "start a new run")
        assert "--workers" not in str(caught.value)

    def test_naming_what_the_run_has_is_no_change(self):
        same = TrainOptions(resume=True, epochs=10, lr=1e-3, seed=3, data=("demo=/scans",), depth=4)
        assert continued_options(STARTED, same, Path("run")) == STARTED
