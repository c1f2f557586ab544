"""State dicts inside what training programs save: wherever one lies, the same weights come out."""

import numpy as np
import pytest

from samjax.errors import UserError
from samjax.weights.base import load_weights
from samjax.weights.pth_writer import write_pth
from samjax.weights.wrappers import state_dict
from tests.weights.checkpoints import expect_line, random_named, same, write_nested

META = random_named("meta")
OTHER = random_named("meta", seed=1)
MOMENTS = {"state": {0: {"step": 3, "exp_avg": np.zeros(4, np.float32)}}, "param_groups": {"lr": 1e-4}}


def prefixed(prefix: str, tensors: dict[str, np.ndarray] = META) -> dict[str, np.ndarray]:
    return {prefix + name: value for name, value in tensors.items()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, np.ndarray]:
    """What the plain file of the same weights gives."""
    path = tmp_path_factory.mktemp("plain") / "a.pth"
    write_pth(path, META)
    return load_weights(path).flat


CONTENTS = {
    **{key: {key: META, "epoch": 3} for key in ("state_dict", "model", "model_state", "model_state_dict", "net", "")},
    "twice": {"checkpoint": {"model_state": META, "epoch": 1}},
    "twice, unusual": {"trainer": {"sam": META}},
    "with an optimiser": {"model": META, "optimizer": MOMENTS, "epoch": 4, "lr": 1e-4, "note": "best", "none": None},
    "beside named moments": {"net": META, "optimizer_state": {"exp_avg": prefixed("", OTHER)}},
    "beside another average": {"model": META, "model_ema": prefixed("module.", OTHER)},
    "beside a nested average": {"model": META, "ema": {"model": OTHER}},
    "beside other tensors": {"model_state": prefixed("sam."), "decoder_state": {"out.weight": np.ones(3, np.float32)}},
    "at the top, with other things": META | {"epoch": 3, "optimizer": MOMENTS, "ema": OTHER},
}


@pytest.mark.parametrize("name", CONTENTS)
def test_wherever_it_lies(tmp_path, plain, name):
    assert same(load_weights(write_nested(tmp_path / "a.pth", CONTENTS[name])).flat, plain)


@pytest.mark.parametrize("prefix", ["module.", "sam.", "model.", "module.sam.", "net.model.image."])
def test_whatever_prefix_its_names_have(tmp_path, plain, prefix):
    for content in (prefixed(prefix), {"model": prefixed(prefix)}, {"a": {"b": prefixed(prefix)}}):
        assert same(load_weights(write_nested(tmp_path / "a.pth", content)).flat, plain)


def test_pixel_statistics_are_no_weights(tmp_path, plain):
    mean, std = (np.float32(x).reshape(3, 1, 1) for x in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    for prefix in ("", "sam."):
        content = prefixed(prefix) | {f"{prefix}pixel_mean": mean, f"{prefix}pixel_std": std}
        assert same(load_weights(write_nested(tmp_path / "a.pth", {"model": content})).flat, plain)
    write_pth(tmp_path / "a.pth", META | {"pixel_mean": mean * 0, "pixel_std": std})
    expect_line(tmp_path / "a.pth", "pixel_mean is (0, 0, 0)", "by (123.675, 116.28, 103.53)")
    write_pth(tmp_path / "a.pth", prefixed("module.") | {"module.pixel_mean": mean, "module.pixel_std": std / 255})
    expect_line(tmp_path / "a.pth", "module.pixel_std is (0.229, 0.224, 0.225)")
    write_pth(tmp_path / "a.pth", META | {"image_encoder.pixel_mean": mean})
    expect_line(tmp_path / "a.pth", "1 unused (image_encoder.pixel_mean)")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"model": META, "state_dict": OTHER}, ["holds 2 SAMs ('model', 'state_dict')", "save the one"]),
        ({"student": META, "teacher": OTHER}, ["holds 2 SAMs ('student', 'teacher')"]),
        (META | {"model": OTHER}, ["holds 2 SAMs (at the top, 'model')"]),
        ({"a": {"b": {"c": META}}}, ["holds no state dict", "its keys are: 'a'"]),
        ({"weights": 3}, ["holds no state dict", "under a key such as state_dict, model, ", "its keys are: 'weights'"]),
        ({}, ["its keys are: none"]),
        ({"optimizer": {"exp_avg": META}}, ["holds no state dict"]),
        ({"net": {"a.weight": np.ones(2, np.float32)}}, ["not a SAM checkpoint", "none of its 1 tensors", "a.weight"]),
        ({"model": prefixed("student.") | prefixed("teacher.", OTHER)}, [f"{len(META)} unused (teacher."]),
    ],
    ids=["two usual", "two unusual", "top and usual", "too deep", "numbers", "empty", "moments", "other", "prefixes"],
)
def test_what_is_no_single_sam_is_refused(tmp_path, content, parts):
    expect_line(write_nested(tmp_path / "a.pth", content), *parts)


def test_a_list_is_no_state_dict():
    with pytest.raises(UserError, match="it: holds a list; expected a state dict"):
        state_dict([1], "it")


def test_one_dict_under_two_keys_is_one():
    assert same(state_dict({"model": META, "state_dict": META}, "it"), META)


def test_a_dict_that_holds_itself_ends():
    content: dict = {"a": {}}
    content["a"] |= {str(index): content["a"] for index in range(1000)}
    with pytest.raises(UserError, match="holds no state dict"):
        state_dict(content, "it")
    assert same(state_dict(content | {"net": META}, "it"), META)
