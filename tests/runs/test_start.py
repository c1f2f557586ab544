"""Runs that start from other runs: the same masks at first, whatever the other run had added to SAM."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from samjax.errors import UserError
from samjax.models.adapt import adapt
from samjax.models.config import Adaptation, ComputeConfig
from samjax.models.flat import from_flat, to_flat
from samjax.models.prompt_encoder import POSITIVE, Prompts
from samjax.options import TrainOptions
from samjax.runs.folder import GLIOMA, LATEST, find_model, point_latest, read_config
from samjax.runs.model import build_model, trained_shapes
from samjax.runs.trained import LAST, load_start, load_trained, save_final
from samjax.strategies import STRATEGIES
from samjax.training.run_options import check_start, resolve
from tests.made_runs import write_base, write_run

SLICES = 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with LoRA, four channels, attention across three slices and three regions."""
    place = tmp_path_factory.mktemp("start")
    base = write_base(place / "base.safetensors")
    return write_run(place / "run", base, place, depth=SLICES, roi="all", channels="t1,t1gd,t2,flair")


def masks(model) -> np.ndarray:
    images = np.random.default_rng(1).uniform(0, 255, (1, SLICES, 64, 64, 4)).astype(np.float32)
    embeddings = jax.jit(lambda x: model.encode(x, np.ones((1, SLICES), bool)))(images)
    click = Prompts(jnp.full((SLICES, 1, 1, 2), 20.0), jnp.full((SLICES, 1, 1), POSITIVE))
    return np.asarray(model.decode(embeddings[0], click)[0])


def predicting(folder):
    config, found = load_trained(folder)
    model = build_model(config, found.base)
    from_flat(model, found.trained)
    return model


def test_a_run_starts_with_the_masks_of_the_run_it_starts_from(run):
    start = load_start(str(run))
    assert start.config.in_channels == 4
    assert start.sight == ("t1,t1gd,t2,flair", 64, 32, False)
    model = adapt(start.config, start.flat, Adaptation(2, slices=SLICES, inner_regions=2), ComputeConfig())
    np.testing.assert_allclose(masks(model), masks(predicting(run)), atol=1e-3)


def test_what_the_new_run_lacks_is_left_out_and_slices_further_apart_start_without_bias(run):
    start = load_start(str(run))
    plain = adapt(start.config, start.flat, Adaptation(), ComputeConfig())
    assert not any("cross_slice" in path for path in map(str, jax.tree_util.tree_leaves_with_path(plain)))
    longer = adapt(start.config, start.flat, Adaptation(slices=5), ComputeConfig())
    bias = np.asarray(longer.image_encoder.blocks[0].cross_slice.bias[...])[0, 0]
    np.testing.assert_array_equal(bias[:, 2:-2], start.flat["image_encoder/blocks/0/cross_slice/bias"])
    assert not bias[:, [0, 1, -2, -1]].any()


def test_a_run_that_started_from_a_run_finds_its_base_again(run, tmp_path):
    config = read_config(run)
    start = load_start(str(run))
    options = replace(config.options, strategy="full", weights=str(run))
    second = replace(config, options=options, base_path=str(run), base_sha256=start.sha256, architecture=start.config)
    (tmp_path / "config.json").write_text(second.to_json())
    model = build_model(second, start.flat)
    assert model.config.in_channels == 4
    save_final(tmp_path, {LAST: {path: start.flat[path] for path in trained_shapes(second, model)}}, second)
    np.testing.assert_allclose(masks(predicting(tmp_path)), masks(predicting(run)), atol=1e-3)


@pytest.mark.parametrize("strategy", ["lora", "decoder"])
def test_a_patch_embedding_of_pictures_takes_three_channels(strategy):
    start = load_start("random")
    options = resolve(TrainOptions(strategy=strategy, channels="t1,t1gd,t2,flair"), STRATEGIES[strategy], start.config)
    with pytest.raises(
        UserError, match=f"4 channels, but --strategy {strategy} keeps the pretrained .*, which takes 3"
    ):
        check_start(options, STRATEGIES[strategy], start)
    check_start(replace(options, channels="t1,t2,flair"), STRATEGIES[strategy], start)


def test_adapters_are_not_left_behind(tmp_path):
    base = write_base(tmp_path / "base.safetensors")
    run = write_run(tmp_path / "run", base, tmp_path, strategy="adapter", depth=1)
    start = load_start(str(run))
    assert any("/adapters/" in path for path in start.flat)
    given = TrainOptions(channels="t1,t1gd,t2,flair", weights=str(run))
    for strategy in ("lora4ch", "full", "decoder", "pretrain"):
        with pytest.raises(UserError, match=f"has adapters, which --strategy {strategy} lacks"):
            check_start(given, STRATEGIES[strategy], start)
    check_start(given, STRATEGIES["adapter"], start)
    second = replace(read_config(run), base_path=str(run), base_sha256=start.sha256, architecture=start.config)
    found = to_flat(nnx.state(build_model(second, start.flat)), start.config.block_spans)
    assert all(np.array_equal(found[path], start.flat[path]) for path in start.flat)


def test_embeddings_of_crops_are_not_stored(run):
    start = load_start(str(run))
    given = TrainOptions(
        strategy="decoder", channels="t1,t1gd,t2,flair", weights="a-run", cache_embeddings=1, augment=False
    )
    options = resolve(given, STRATEGIES["decoder"], start.config)
    check_start(options, STRATEGIES["decoder"], start)
    cropped = start._replace(sight=start.sight._replace(cropped=True))
    with pytest.raises(UserError, match="--cache-embeddings 1: --weights a-run see cropped slices"):
        check_start(options, STRATEGIES["decoder"], cropped)


@pytest.mark.parametrize(
    ("strategy", "channels", "message"),
    [
        ("full", "t1gd,t1,t2,flair", "look at t1,t1gd,t2,flair; give --channels t1,t1gd,t2,flair"),
        ("lora", "t1,t2,flair", "3 channels, but --strategy lora keeps the pretrained patch embedding, which takes t1"),
    ],
)
def test_other_channels_than_those_of_a_kept_patch_embedding_are_refused(run, strategy, channels, message):
    start = load_start(str(run))
    given = TrainOptions(strategy=strategy, channels=channels, weights=str(run))
    options = resolve(given, STRATEGIES[strategy], start.config)
    with pytest.raises(UserError, match=message):
        check_start(options, STRATEGIES[strategy], start)


def test_half_precision_keeps_the_masks_and_the_checksums(run, tmp_path):
    config, found = load_trained(run)
    (tmp_path / "config.json").write_text(config.to_json())
    save_final(tmp_path, {LAST: found.trained}, config, half=True)
    whole, half = ((folder / "final.safetensors").stat().st_size for folder in (run, tmp_path))
    assert half < 0.75 * whole
    np.testing.assert_allclose(masks(predicting(tmp_path)), masks(predicting(run)), atol=0.1)


def test_models_are_found_by_folder_by_name_and_as_the_newest(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = find_model(Path(GLIOMA))
    assert read_config(shipped).data == {}
    with pytest.raises(UserError, match="no run yet"):
        find_model(Path("latest"))
    point_latest(run)
    assert find_model(Path("latest")) == find_model(None) == LATEST.resolve()
    assert find_model(run) == run
    (tmp_path / GLIOMA).symlink_to(run)  # a folder of that name comes first
    assert find_model(Path(GLIOMA)).resolve() == run
    own, named = load_start(str(run)).flat, load_start(GLIOMA).flat
    assert own.keys() == named.keys()
    assert all(np.array_equal(own[path], named[path]) for path in own)
