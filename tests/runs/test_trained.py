"""What a run has trained, from its file: exactly that, unharmed, or one line that names the file and the tensor."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.models.config import PRESETS
from samjax.models.flat import flat_shapes, to_flat
from samjax.options import TrainOptions
from samjax.runs.config import RunConfig
from samjax.runs.folder import FINAL, read_config
from samjax.runs.model import abstract_model, build_model, trained_shapes
from samjax.runs.trained import load_stage, load_trained, save_final, save_stage
from samjax.strategies import STRATEGIES
from samjax.weights.base import load_weights
from samjax.weights.safetensors_file import read_safetensors, write_safetensors
from tests.commands import refusal
from tests.made_runs import write_base, write_run

TOKEN = "mask_decoder/iou_token/embedding"
LORA = "image_encoder/blocks/1/attn/lora/q/b"

Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Base weights, two cases, and a finished run of single slices that trains LoRA and more."""
    place = tmp_path_factory.mktemp("runs")
    write_cohort(place / "data", "adult", 2, seed=5, options=PhantomOptions((32, 32, 6)))
    base = write_base(place / "base.safetensors")
    write_run(place / "run", base, place / "data", depth=1, prompt="mixed", labels="brats2023")
    return place


@pytest.fixture
def run(place, tmp_path) -> Path:
    """A copy of the run, to be damaged."""
    return shutil.copytree(place / "run", tmp_path / "run")


def contents(run: Path) -> tuple[Tensors, dict[str, str]]:
    return read_safetensors(run / FINAL)


def rewrite(run: Path, change: Callable[[Tensors], Tensors], *, checksums: bool = True) -> None:
    """Writes final.safetensors anew with other tensors, with the checksums of the former ones or as before these."""
    tensors, metadata = contents(run)
    kept = {key: value for key, value in metadata.items() if checksums or key not in ("tensors", "checksum")}
    write_safetensors(run / FINAL, change({name: np.array(x) for name, x in tensors.items()}), kept)


def refused(run: Path, *parts: str) -> str:
    with pytest.raises(UserError) as caught:
        load_trained(run)
    line = str(caught.value)
    assert line.startswith(f"{run / FINAL}: ")
    assert "\n" not in line
    for part in parts:
        assert part in line
    return line


def flip(path: Path, wanted: bytes) -> None:
    """Turns one bit in the first byte of `wanted`, which the file holds once."""
    data = bytearray(path.read_bytes())
    assert data.count(wanted) == 1
    data[data.index(wanted)] ^= 1
    path.write_bytes(data)


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {other: x for other, x in tensors.items() if other != f"last/{name}"}


def filled(name: str, value: float) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        tensors[f"last/{name}"].flat[-1] = value
        return tensors

    return change


CHANGES: dict[str, tuple[Callable[[Tensors], Tensors], tuple[str, ...]]] = {
    "empty": (lambda tensors: {}, ("142 missing (last/image_encoder/", "that lora4ch trains")),
    "partial": (without(TOKEN), (f"1 missing (last/{TOKEN})",)),
    "extra": (
        lambda tensors: tensors | {"last/image_encoder/pos_embed": np.zeros((1, 4, 4, 24), np.float32)},
        ("1 unused (last/image_encoder/pos_embed)",),
    ),
    "another group": (lambda tensors: tensors | {"best/x": np.zeros(2, np.float32)}, ("1 unused (best/x)",)),
    "renamed": (
        lambda tensors: without(LORA)(tensors) | {f"last/{LORA}2": tensors[f"last/{LORA}"]},
        (f"1 unused (last/{LORA}2)", f"1 missing (last/{LORA})"),
    ),
    "wrongly shaped": (
        lambda tensors: tensors | {f"last/{TOKEN}": np.zeros((2, 16), np.float32)},
        (f"1 of another shape (last/{TOKEN} is (2, 16), expected (1, 16))",),
    ),
    "half an average": (
        lambda tensors: tensors | {f"average/{TOKEN}": tensors[f"last/{TOKEN}"]},
        ("missing (average/",),
    ),
    "nan": (filled(TOKEN, np.nan), (f"last/{TOKEN} holds nan",)),
    "infinite": (filled(LORA, -np.inf), (f"last/{LORA} holds -inf",)),
    "too large": (
        lambda tensors: tensors | {f"last/{TOKEN}": np.full((1, 16), 1e300)},
        (f"last/{TOKEN} holds 1e+300 (16 of 16 values)",),
    ),
    "integers": (
        lambda tensors: tensors | {f"last/{TOKEN}": np.zeros((1, 16), np.int64)},
        (f"last/{TOKEN} is of type int64",),
    ),
}


@pytest.mark.parametrize("checksums", [True, False], ids=["with checksums", "without"])
@pytest.mark.parametrize("name", CHANGES)
def test_other_tensors_are_refused_by_name(run, name, checksums):
    change, parts = CHANGES[name]
    rewrite(run, change, checksums=checksums)
    refused(run, *parts)


@pytest.mark.parametrize("name", [TOKEN, LORA, "image_encoder/patch_embed/proj/kernel"])
def test_a_changed_value_is_noticed(run, name):
    """Another finite value: only the checksum can tell."""
    rewrite(run, filled(name, 0.125))
    refused(run, f"last/{name} is not what was written (checksum)", "copy it again")


def test_a_flipped_bit_in_a_tensor_is_noticed(run):
    tensors, _ = contents(run)
    flip(run / FINAL, tensors[f"last/{TOKEN}"].tobytes())
    refused(run, f"last/{TOKEN} is not what was written")


@pytest.mark.parametrize("wanted", [b"point,none", b"whole-tumor", b'"samjax-run"'])
def test_a_flipped_bit_in_the_metadata_is_noticed(place, run, wanted):
    data = (run / FINAL).read_bytes()
    at = data.index(b'"prompts":"') + 11 if wanted == b"point,none" else data.index(wanted) + 1
    (run / FINAL).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    refused(run, "its metadata are not what was written (checksum)")


@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_truncated(run, kept):
    (run / FINAL).write_bytes((run / FINAL).read_bytes()[:kept])
    refused(run, "truncated or damaged")


def test_the_file_of_another_run_is_refused(place, run):
    for options, part in (
        ({"roi": "tumor-core"}, "was written by a run with roi tumor-core, but config.json beside it has whole-tumor"),
        ({"channels": "flair,t2,t1,t1gd"}, "with channels flair,t2,t1,t1gd, but"),
        ({"strategy": "full"}, "its tensors are not those that lora4ch trains"),
    ):
        other = write_run(run.parent / "other", place / "base.safetensors", place / "data", depth=1, **options)
        shutil.copy(other / FINAL, run / FINAL)
        refused(run, part)
        shutil.rmtree(other)


def test_a_file_that_another_program_wrote_is_refused(run):
    tensors, _ = contents(run)
    write_safetensors(run / FINAL, tensors, {})
    refused(run, "its metadata do not say which prompts the run saw")


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_s_own_file_is_read(place, tmp_path, name):
    """What is expected is what training's own filter chooses, and it is read bitwise."""
    options = {"lora_rank": 2, "depth": 2} if STRATEGIES[name].lora or name == "full" else {}
    if name == "pretrain":
        options = {"channels": "rgb", "clicks": 3}
    run = write_run(tmp_path / "run", place / "base.safetensors", place / "data", strategy=name, **options)
    found = load_trained(run)[1]
    stored, _ = contents(run)
    assert {f"last/{path}" for path in found.trained} == stored.keys()
    assert all(np.array_equal(x, stored[f"last/{path}"]) for path, x in found.trained.items())
    rewrite(run, lambda tensors: dict(list(tensors.items())[1:]))
    refused(run, f"that {name} trains: 1 missing")


LORA4CH_PARTS = ("mask_decoder/", "/lora/", "/cross_slice/", "/patch_embed/")


@pytest.mark.parametrize(
    ("name", "parts", "values"),
    [
        ("decoder", ("mask_decoder/",), 4_058_340),
        ("lora", ("mask_decoder/", "/lora/", "/cross_slice/"), 4_058_340 + 589_824 + 3_551_472),
        ("lora4ch", LORA4CH_PARTS, 8_986_836),
        ("lora4ch-2step", LORA4CH_PARTS, 8_986_836),
        ("full", ("",), 93_735_472 + 196_608 + 3_551_472),
        ("pretrain", ("",), 93_735_472),
        ("unet", ("",), None),
    ],
)
def test_what_a_strategy_trains(name, parts, values):
    """In ViT-B the numbers of the papers and of Meta's model, and never the frequencies of positions, a buffer."""
    channels, depth = ("rgb", 1) if name == "pretrain" else ("all", 1 if name == "decoder" else 4)
    options = TrainOptions(strategy=name, channels=channels, depth=depth)
    config = RunConfig(options, {}, "", "", None if name == "unet" else PRESETS["vit_b"], 240)
    model = abstract_model(config)
    everything = flat_shapes(model)
    chosen = {path for path in everything if any(part in path for part in parts)}
    shapes = trained_shapes(config, model)
    assert shapes == {path: everything[path] for path in chosen if not path.endswith("gaussian_matrix")}
    assert values in (None, sum(map(math.prod, shapes.values())))


def test_the_average_is_matched_and_read(run):
    config = read_config(run)
    last = load_trained(run)[1].trained
    average = {path: x + 1 for path, x in last.items()}
    save_final(run, {"last": last, "average": average}, config)
    for chosen, expected in ((True, average), (False, last)):
        found = load_trained(run, average=chosen)[1].trained
        assert all(np.array_equal(found[path], x) for path, x in expected.items())
    rewrite(run, lambda tensors: {name: x for name, x in tensors.items() if name != f"average/{TOKEN}"})
    refused(run, f"1 missing (average/{TOKEN})")


def test_an_average_that_was_left_out_is_noticed(run):
    tensors, _ = contents(run)
    trained = {"last": {name.removeprefix("last/"): x for name, x in tensors.items()}}
    save_final(run, trained | {"average": trained["last"]}, read_config(run))
    rewrite(run, lambda tensors: {name: x for name, x in tensors.items() if name.startswith("last/")})
    refused(run, f"lacks {len(tensors)} tensors (average/")


def test_a_stage_holds_what_it_trained(place, tmp_path):
    options = {"strategy": "lora4ch-2step", "depth": 2}
    run = write_run(tmp_path / "run", place / "base.safetensors", place / "data", **options)
    everything = load_trained(run)[1].trained
    patch = {path: x for path, x in everything.items() if "/patch_embed/" in path}
    save_stage(run, 1, {"last": patch})
    found = load_stage(run, 1)["last"]
    assert found.keys() == patch.keys() == {f"image_encoder/patch_embed/proj/{word}" for word in ("kernel", "bias")}
    assert all(np.array_equal(found[path], x) for path, x in patch.items())
    assert load_stage(run, 0) == {}
    for wrong, part in ((everything, "unused (last/"), ({}, "2 missing (last/image_encoder/patch_embed/proj/")):
        save_stage(run, 1, {"last": wrong})
        with pytest.raises(
            UserError, match=r"stage1\.safetensors: its tensors are not those that lora4ch-2step"
        ) as caught:
            load_stage(run, 1)
        assert part in str(caught.value)
    (run / "stage1.safetensors").unlink()
    with pytest.raises(UserError, match=r"stage1\.safetensors: no such file"):
        load_stage(run, 1)


def test_files_from_before_the_checksums_are_read(place, run):
    """Also those that hold the whole model; half of it is refused."""
    expected = load_trained(run)[1].trained
    shutil.copytree(run, run.parent / "new")
    rewrite(run, lambda tensors: tensors, checksums=False)
    assert "checksum" not in contents(run)[1]
    found = load_trained(run)[1].trained
    assert all(np.array_equal(found[path], x) for path, x in expected.items())

    config = read_config(run)
    model = build_model(config, load_weights(place / "base.safetensors").flat)
    whole = {f"last/{path}": x for path, x in to_flat(nnx.state(model), config.block_spans).items()}
    rewrite(run, lambda tensors: whole, checksums=False)
    assert {f"last/{path}" for path in load_trained(run)[1].trained} == whole.keys()
    rewrite(run, lambda tensors: dict(list(whole.items())[:-1]), checksums=False)
    refused(run, "unused (last/image_encoder/")
    rewrite(run.parent / "new", lambda tensors: whole)
    refused(run.parent / "new", f"{len(whole) - len(expected)} unused (last/image_encoder/")


def test_pretrained_weights_stay_finite(place, tmp_path):
    """A value that half precision cannot hold is kept in full."""
    options = {"strategy": "pretrain", "channels": "rgb", "clicks": 3}
    run = write_run(tmp_path / "run", place / "base.safetensors", place / "data", **options)
    trained = {path: np.array(x) for path, x in load_trained(run)[1].trained.items()}
    trained[TOKEN][0, 0] = 70_000
    save_final(run, {"last": trained}, read_config(run))
    stored, _ = read_safetensors(run / "weights.safetensors")
    assert stored[TOKEN].dtype == np.float32
    assert stored["mask_decoder/mask_tokens/embedding"].dtype == np.float16
    assert load_weights(run / "weights.safetensors").flat[TOKEN][0, 0] == 70_000


def damage(run: Path, kind: str) -> str:
    """Harms a run's weights and returns what must be said of it."""
    if kind == "empty":
        rewrite(run, lambda tensors: {})
        return "142 missing (last/"
    if kind == "partial":
        rewrite(run, without(TOKEN))
        return f"1 missing (last/{TOKEN})"
    if kind == "nan":
        rewrite(run, filled(TOKEN, np.nan))
        return f"last/{TOKEN} holds nan"
    if kind == "flipped":
        flip(run / FINAL, contents(run)[0][f"last/{TOKEN}"].tobytes())
        return f"last/{TOKEN} is not what was written"
    (run / FINAL).write_bytes((run / FINAL).read_bytes()[:-3])
    return "truncated or damaged"


COMMANDS = {
    "eval.py": ("--run RUN --output OUT --no-cache --workers 0 --cache-dir CACHE", ("partial", "nan")),
    "predict.py": ("--run RUN --input DATA --output OUT --cache-dir CACHE", ("flipped", "truncated")),
    "convert/flax_to_torch.py": ("RUN OUT.pth", ("empty", "partial", "nan", "flipped", "truncated")),
}


@pytest.mark.parametrize(("command", "kind"), [(name, kind) for name, (_, kinds) in COMMANDS.items() for kind in kinds])
def test_each_command_says_it_in_one_line(place, run, command, kind, capsys):
    out = run.parent / "out"
    words = {"RUN": run, "DATA": place / "data", "OUT": out, "OUT.pth": f"{out}.pth", "CACHE": run.parent / "cache"}
    part = damage(run, kind)
    line = refusal(capsys, command, *(words.get(word, word) for word in COMMANDS[command][0].split()))
    assert line.startswith(f"{run / FINAL}: ")
    assert part in line
    assert not list(run.parent.glob("out*"))
