"""A packed run: one file that gives the run's masks elsewhere, knows no names, and says what is wrong with it."""

import json
import shutil
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest

from samjax import Predictor
from samjax.cli.main import dispatch
from samjax.data.splits import Member, Split, Splits
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.evaluation.known import TrainedRun
from samjax.inference.loading import model_of_run
from samjax.inference.pack import anonymous, pack
from samjax.inference.postprocess_choice import PostprocessChoice, load_choice
from samjax.runs.folder import FINAL, GLIOMA, find_model, read_config
from samjax.runs.trained import load_start, load_trained, save_final
from samjax.weights.safetensors_file import read_safetensors, write_safetensors
from tests.made_runs import write_base, write_run

STEP = 7


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("secret-place")
    write_cohort(place / "data", "adult", 2, seed=5, options=PhantomOptions((32, 32, 6)))
    write_base(place / "base.safetensors")
    return place


def made(place: Path, folder: Path, **options: object) -> Path:
    return write_run(folder, place / "base.safetensors", place / "data", **({"labels": "brats2021"} | options))


def values(run: Path | str) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(model_of_run(run).states)]


def average_and_rule(run: Path) -> None:
    """Gives the run an average of other values than its last ones, and a rule that was chosen for it."""
    last = load_trained(run)[1].trained
    save_final(run, {"last": last, "average": {path: x * 1.01 for path, x in last.items()}}, read_config(run), STEP)
    PostprocessChoice("min=20", "made up", "whole-tumor", "average", STEP, 1, 1, 1).save(run)


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 2},
        {"strategy": "full"},
        {"strategy": "decoder", "prompt": "none", "roi": "all"},
        {"strategy": "unet", "lora_rank": 8},
    ],
    ids=str,
)
def test_every_parameter_is_that_of_the_run(place, tmp_path, options):
    run = made(place, tmp_path / "run", **options)
    average_and_rule(run)
    expected = values(run)
    pack(run, tmp_path / "elsewhere" / "tumours.safetensors")
    shutil.rmtree(run)
    found = values(tmp_path / "elsewhere" / "tumours.safetensors")
    assert len(found) == len(expected)
    assert all(np.array_equal(x, y) for x, y in zip(found, expected, strict=True))


def test_the_commands_and_python_take_the_file_alone(place, tmp_path, capsys, monkeypatch):
    """Bit-equal masks without the run, its base weights and its data; results do not go beside the opened file."""
    root = tmp_path / "secret-place"
    shutil.copytree(place, root)
    run = made(root, root / "run", depth=2, prompt="none")
    average_and_rule(run)
    case = next((place / "data").glob("BraTS-*"))
    cache = ("--cache-dir", str(tmp_path / "cache"))

    def predict(of: Path, out: str) -> np.ndarray:
        dispatch(["predict", "--run", str(of), "--input", str(case), "--output", str(tmp_path / out), *cache])
        return np.asarray(nib.load(tmp_path / out / f"{case.name}.nii.gz").dataobj)

    def segmented(of: Path) -> np.ndarray:
        predictor = Predictor.from_run(of)
        predictor.set_volume(case)
        return predictor.segment().mask

    expected, mask = predict(run, "before"), segmented(run)
    assert mask.any()
    file = tmp_path / "tumours.safetensors"
    dispatch(["pack", str(run), str(file)])
    assert f"use it: samjax predict --run {file} --input CASE --output OUT" in capsys.readouterr().out
    shutil.rmtree(root)
    assert np.array_equal(predict(file, "after"), expected)
    assert np.array_equal(segmented(file), mask)

    monkeypatch.chdir(tmp_path)
    scored = ("--cache-dir", str(tmp_path / "cache"), "--workers", "0")
    dispatch(["eval", "--run", str(file), "--data", str(place / "data"), *scored])
    (name,) = json.loads((tmp_path / "runs/tumours/summary.json").read_text())["runs"]
    assert name == "tumours+min=20"
    with pytest.raises(UserError, match="tumours: a packed run, which does not say where its scans are; name some"):
        dispatch(["eval", "--run", str(file), *scored])
    dispatch(["export", str(tmp_path / "out"), "--run", str(file), "--platforms", "cpu"])
    assert json.loads((tmp_path / "out/deployment.json").read_text())["model"] == "tumours"
    assert load_start(str(file)).sight.channels == "t1,t1gd,t2,flair"


def test_nothing_of_the_machine_is_in_the_file(place, tmp_path):
    run = made(place, tmp_path / "run", weights=str(place / "base.safetensors"), run=tmp_path / "run")
    patients = sorted(path.name for path in (place / "data").glob("BraTS-*"))
    pack(run, tmp_path / "packed.safetensors")
    content = (tmp_path / "packed.safetensors").read_bytes()
    for secret in ("secret-place", str(tmp_path), *patients, patients[0].rsplit("-", 1)[0]):
        assert secret.encode() not in content
    config = read_config(find_model(tmp_path / "packed.safetensors"))
    assert (config.base_path, config.options.weights, config.data) == ("base.safetensors", "base.safetensors", {})


def test_the_rule_is_that_of_the_packed_weights(place, tmp_path):
    run = made(place, tmp_path / "run")
    average_and_rule(run)
    pack(run, tmp_path / "packed.safetensors")
    choice = load_choice(find_model(tmp_path / "packed.safetensors"))
    assert (choice.chosen, choice.weights, choice.step) == ("min=20", "last", STEP)
    PostprocessChoice("min=20", "of another end", "whole-tumor", "last", STEP + 1, 1, 1, 1).save(run)
    pack(run, tmp_path / "second.safetensors")
    assert load_choice(find_model(tmp_path / "second.safetensors")) is None


def test_scans_are_known_by_their_content_alone(tmp_path):
    splits = Splits(
        3,
        "1/5",
        {"men": Split(("Ann",), ("Bob",), ("Cy", "Dee"))},
        {"men": {"Ann-1": Member("Ann", "aa-bb--", "x"), "Cy-1": Member("Cy", "cc-dd--", "y")}},
    )
    found = anonymous(splits)
    assert not any(name in json.dumps(found.to_json()) for name in ("Ann", "Bob", "Cy", "Dee"))
    run = TrainedRun(tmp_path, {}, found)
    assert run.by_fingerprint("aa-bb--").part == "train"
    assert run.by_fingerprint("cc-xx--").part == "test"
    assert run.by_fingerprint("ee-ff--") is None
    assert [len(getattr(found.domains["men"], part)) for part in ("train", "val", "test")] == [1, 1, 2]


def test_the_shipped_model_is_packed_like_a_run(tmp_path):
    pack(Path(GLIOMA), tmp_path / "packed.safetensors")
    folder = find_model(tmp_path / "packed.safetensors")
    assert (folder / "README.md").read_text() == (find_model(Path(GLIOMA)) / "README.md").read_text()
    assert load_trained(folder)[1].prompts == load_trained(find_model(Path(GLIOMA)))[1].prompts


@pytest.fixture
def packed(place, tmp_path) -> Path:
    pack(made(place, tmp_path / "run", depth=1), tmp_path / "packed.safetensors")
    return tmp_path / "packed.safetensors"


def refused(file: Path, part: str) -> None:
    with pytest.raises(UserError, match=part) as caught:
        load_trained(find_model(file))
    assert file.name in str(caught.value) or FINAL in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("group", ["base/", "last/", "files/"])
@pytest.mark.parametrize("kind", ["changed", "left out"])
def test_damage_is_noticed(packed, group, kind):
    tensors, metadata = read_safetensors(packed)
    tensors = {name: np.array(x) for name, x in tensors.items()}
    name = next(name for name in tensors if name.startswith(group))
    if kind == "changed":
        tensors[name].reshape(-1).view(np.uint8)[0] ^= 1
    else:
        del tensors[name]
    write_safetensors(packed, tensors, metadata)
    refused(packed, "was damaged or changed, so copy it again|1 missing")


def test_other_files_are_refused_by_name(packed, place, tmp_path):
    tensors, metadata = read_safetensors(packed)
    base = place / "base.safetensors"
    refused(base, "holds weights without a run; give them by --weights")
    refused(tmp_path / "run" / FINAL, "a run's trained parameters alone; give the run's folder")
    (tmp_path / "some.txt").write_text("text")
    refused(tmp_path / "some.txt", "neither a PyTorch checkpoint nor a safetensors file")
    write_safetensors(tmp_path / "newer.safetensors", tensors, metadata | {"packed": "2"})
    refused(tmp_path / "newer.safetensors", "packed in version 2 of the format; this samjax reads 1, so update it")
    write_safetensors(tmp_path / "other.safetensors", tensors, metadata | {"prompts": "box"})
    refused(tmp_path / "other.safetensors", r"its metadata are not what was written \(checksum\)")
    short = tmp_path / "short.safetensors"
    short.write_bytes(packed.read_bytes()[:-5])
    refused(short, "truncated or damaged")
    write_safetensors(tmp_path / "evil.safetensors", {"files/../../x": np.zeros(3, np.uint8)}, metadata)
    with pytest.raises(UserError, match=r"holds a file '\.\./\.\./x', which no run has"):
        find_model(tmp_path / "evil.safetensors")


def test_refusals(place, packed, tmp_path):
    with pytest.raises(UserError, match=r"packed\.safetensors: exists; name a new file"):
        pack(tmp_path / "run", packed)
    with pytest.raises(UserError, match=r"x\.bin: expected a name that ends in \.safetensors"):
        pack(tmp_path / "run", tmp_path / "x.bin")
    pictures = made(place, tmp_path / "pictures", strategy="pretrain", channels="rgb", clicks=3)
    with pytest.raises(UserError, match=r"pictures: was trained on pictures; its weights\.safetensors is one file"):
        pack(pictures, tmp_path / "x.safetensors")


def test_an_unknown_label_scheme_is_asked_for(place, tmp_path):
    run = made(tmp_path / "nowhere", tmp_path / "run", labels=None, strategy="unet", lora_rank=8)
    with pytest.raises(UserError, match="name the scheme with --labels"):
        pack(run, tmp_path / "packed.safetensors")
    assert not (tmp_path / "packed.safetensors").exists()
    pack(run, tmp_path / "packed.safetensors", labels="ped2024")
    assert read_config(find_model(tmp_path / "packed.safetensors")).options.labels == "ped2024"


def test_a_place_that_cannot_be_written_is_named(packed, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    refused(packed, "cannot be opened, since .* cannot be written")
