"""What a run's model begins with, and which prompts a run says that it saw."""

from dataclasses import replace

import numpy as np
import pytest
from flax import nnx

from samjax.models.adapt import PATCH_KERNEL, random_sam
from samjax.models.flat import to_flat
from samjax.options import TrainOptions
from samjax.runs.config import RunConfig
from samjax.runs.model import build_model
from samjax.strategies import STRATEGIES
from tests.training import small

CONFIG = replace(small.CONFIG, depth=1, global_attn_indexes=(0,))


def config(strategy: str, **options: object) -> RunConfig:
    defaults = {name: value for name, value in STRATEGIES[strategy].defaults.items() if name != "weights"}
    return RunConfig(TrainOptions(strategy=strategy, **defaults | options), {}, "", "", CONFIG, 32)


@pytest.mark.parametrize(
    ("strategy", "channels", "kept"),
    [
        ("full", "t1,t2,flair", True),
        ("full", "t1gd", True),
        ("full", "pca2d", True),
        ("full", "all", False),
        ("lora4ch", "t1,t2,flair", False),
        ("lora", "t1,t2,flair", True),
        ("pretrain", "rgb", True),
    ],
)
def test_the_rgb_patch_embedding_is_kept_where_all_trains_and_it_fits(strategy, channels, kept):
    base = to_flat(nnx.state(random_sam(CONFIG, seed=3)), CONFIG.block_spans)
    found = to_flat(nnx.state(build_model(config(strategy, channels=channels), base)), CONFIG.block_spans)
    assert (found[PATCH_KERNEL].shape == base[PATCH_KERNEL].shape) == (channels != "all")
    assert np.array_equal(found[PATCH_KERNEL], base[PATCH_KERNEL]) == kept


@pytest.mark.parametrize(
    ("strategy", "options", "seen"),
    [
        ("lora4ch", {}, ("point", "none")),
        ("lora4ch", {"clicks": 3}, ("point", "none", "mask")),
        ("lora4ch", {"prompt": "point", "clicks": 2}, ("point", "mask")),
        ("decoder", {"clicks": 3}, ("box",)),  # no click follows a box
        ("pretrain", {}, ("point", "box", "mask")),
        ("pretrain", {"prompt": "box"}, ("box", "mask")),
        ("pretrain", {"clicks": 1}, ("point", "box")),
    ],
)
def test_a_run_says_whether_it_saw_masks(strategy, options, seen):
    assert config(strategy, **options).prompts_seen == seen
