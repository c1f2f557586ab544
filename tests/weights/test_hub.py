"""Weights and runs by name, against a server of this machine that stands in for the Hub."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.weights.export import save_transformers
from samjax.weights.hub import HubName, choose
from tests.made_runs import write_base, write_run
from tests.models.cases import SMALL, our_weights
from tests.weights.hub_server import TOKEN, FakeHub, serving

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "repo", "file", "revision"),
    [
        ("hf:org/name", "org/name", None, None),
        ("hf:org/na.me_1/deep/file.pth", "org/na.me_1", "deep/file.pth", None),
        ("hf:org/name@v1", "org/name", None, "v1"),
        ("hf:org/name/file.safetensors@refs/pr/1", "org/name", "file.safetensors", "refs/pr/1"),
    ],
)
def test_names_are_parsed_and_written_again(text, repo, file, revision):
    found = HubName.parse(text)
    assert (found.repo, found.file, found.revision, str(found)) == (repo, file, revision, text)


@pytest.mark.parametrize("text", ["hf:name", "hf:", "hf:org/name/../x", "hf:org/na me", "hf:org/name@"])
def test_other_names_are_refused(text):
    with pytest.raises(UserError, match="expected hf:ORG/NAME"):
        HubName.parse(text)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["README.md", "any.pth"], ["any.pth"]),
        (["model.safetensors", "older.safetensors"], ["model.safetensors"]),
        (
            ["config.json", "model.safetensors", "pytorch_model.bin", "preprocessor_config.json", "tf_model.h5"],
            ["config.json", "model.safetensors", "preprocessor_config.json"],
        ),
        (
            ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "x.bin"],
            ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"],
        ),
    ],
)
def test_the_files_of_a_model_are_chosen(names, chosen):
    assert choose(names, "hf:org/name") == chosen


def test_no_file_and_several_are_refused():
    with pytest.raises(UserError, match=r"hf:a/b: holds 2 files of weights \(x\.pth, y\.safetensors\); name one"):
        choose(["y.safetensors", "x.pth"], "hf:a/b")
    with pytest.raises(UserError, match="hf:a/b: holds no file that ends in"):
        choose(["README.md"], "hf:a/b")


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def started(hub: FakeHub, tmp_path: Path):
    """Runs Python with the server as the Hub, an own cache and a token, and returns the finished process."""

    def start(*arguments: object, **settings: str) -> subprocess.CompletedProcess:
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HOME": str(tmp_path / "home"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=environment | settings,
            capture_output=True,
            text=True,
        )
        assert TOKEN not in done.stdout + done.stderr
        return done

    return start


TRY = """
import sys
from samjax.errors import UserError
from samjax.weights.base import load_base
for name in sys.argv[1:]:
    try:
        print(len(load_base(name).flat))
    except UserError as error:
        print(error)
"""


def test_weights_are_fetched_by_name_and_found_without_the_hub(hub, started, tmp_path):
    folder = save_transformers(tmp_path / "model", our_weights(SMALL), SMALL).parent
    base = write_base(tmp_path / "base.safetensors").read_bytes()
    hub.repos["org/transformers"] = {file.name: file.read_bytes() for file in folder.iterdir()}
    hub.repos["org/one"] = {"README.md": b"text", "base.safetensors": base}
    hub.repos["org/two"] = {"a.safetensors": base, "b.safetensors": base}
    names = ("hf:org/transformers", "hf:org/one", "hf:org/two/b.safetensors@main")
    done = started("-c", TRY, *names)
    counts = done.stdout.splitlines()
    assert (done.returncode, len(counts), counts[1]) == (0, 3, counts[2]), done.stderr
    assert all(int(count) > 100 for count in counts)

    hub.asked.clear()
    offline = started("-c", TRY, *names, "hf:org/other", HF_HUB_OFFLINE="1")
    assert offline.stdout.splitlines()[:3] == counts
    assert offline.stdout.splitlines()[3].startswith("hf:org/other: not in the cache, and the Hub cannot be reached")
    assert hub.asked == []

    wrong = ("hf:org/two", "hf:org/none", "hf:org/one/none.pth", "hf:org/one@v9", "hf:org/one/README.md")
    lines = started("-c", TRY, *wrong).stdout.splitlines()
    parts = ("holds 2 files", "no such repository", "no such file in the", "no such revision", "neither a PyTorch")
    assert len(lines) == len(wrong)
    for line, name, part in zip(lines, wrong, parts, strict=True):
        assert part in line, line
        assert line.startswith(name) or part == "neither a PyTorch"

    (gone,) = started("-c", TRY, "hf:org/fresh", HF_ENDPOINT="http://127.0.0.1:9").stdout.splitlines()
    assert gone.startswith("hf:org/fresh: ")
    assert "cannot be reached" in gone


def test_a_run_goes_up_and_comes_back_by_its_name(hub, started, tmp_path):
    write_cohort(tmp_path / "data", "adult", 1, seed=5, options=PhantomOptions((32, 32, 6)))
    base = write_base(tmp_path / "private-place.safetensors")
    run = write_run(tmp_path / "run", base, tmp_path / "data", strategy="decoder", prompt="none", labels="brats2021")
    cell = {"dice": 0.81234, "hd95": 5.5, "n": 7}
    scores = {"prompt": "none", "prompt_source": "none", "data": {"men": {"roi": {"whole-tumor": {"volume": cell}}}}}
    (run / "eval").mkdir()
    (run / "eval/summary.json").write_text(json.dumps({"runs": {"run+fill": scores, "other": scores}}))

    done = started("-m", "samjax", "push", run, "hf:me/tumours", "--license", "apache-2.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{hub.url}/me/tumours/commit/")
    made = hub.created[-1]  # older versions of huggingface_hub say `private`
    assert made.get("visibility") == "private" or made.get("private") is True
    assert set(hub.repos["me/tumours"]) == {"model.safetensors", "README.md"}
    card = hub.repos["me/tumours"]["README.md"].decode()
    assert card.startswith("---\n")
    for part in (
        "license: apache-2.0",
        "library_name: samjax",
        "value: 0.8123",
        "| men | whole-tumor | none (none) | 0.812 |",
    ):
        assert part in card
    assert str(tmp_path) not in card

    case = next((tmp_path / "data").glob("BraTS-*"))
    ask = ("-m", "samjax", "predict", "--input", case, "--cache-dir", tmp_path / "cache", "--run")
    by_folder = started(*ask, run, "--output", tmp_path / "a")
    by_name = started(*ask, "hf:me/tumours", "--output", tmp_path / "b")
    assert (by_folder.returncode, by_name.returncode) == (0, 0), by_name.stderr
    name = f"{case.name}.nii.gz"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    refused = started("-m", "samjax", "push", run, "hf:me/tumours", HF_TOKEN="hf_wrong")
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert "hf:me/tumours: the Hub refuses (HTTP 401)" in line or "needs `hf auth login`" in line
    named = started("-m", "samjax", "push", run, "hf:me/tumours/file")
    assert "hf:me/tumours/file: name the repository alone, hf:me/tumours" in named.stderr


def test_without_the_package_the_command_says_what_to_install(started):
    program = """
import sys
sys.modules["huggingface_hub"] = None
sys.argv = ["samjax", "predict", "--run", "hf:a/b", "--input", "x", "--output", "y"]
from samjax.cli.main import main
main()
"""
    done = started("-c", program)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: hf:a/b: needs huggingface_hub, which is missing: pip install 'samjax[hub]'"
    )
