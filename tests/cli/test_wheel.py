"""The wheel, installed into an environment of its own: the commands run from a folder that knows no repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from samjax import __version__
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from tests.made_runs import write_base

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")


def succeeded(*command: object, where: Path, **settings: str) -> str:
    """The output of a command that sees nothing of the repository."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings
    done = subprocess.run(
        [*map(str, command)], cwd=where, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments: object, where: Path) -> None:
    settings = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    succeeded(sys.executable, "-m", "pip", *arguments, where=where, **settings)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that nothing is left in the repository or taken from an earlier build.

    Where SAMJAX_DIST names the folder of a distribution (`make package`), its wheel is taken.
    """
    if "SAMJAX_DIST" in os.environ:
        (found,) = Path(os.environ["SAMJAX_DIST"]).glob("*.whl")
        return found
    place = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copy(ROOT / name, place / name)
    shutil.copytree(ROOT / "samjax", place / "samjax", ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place / "dist", place, where=place)
    (found,) = (place / "dist").iterdir()
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that holds the wheel; what samjax needs is taken from this one's."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    paths = {name: sysconfig.get_path(name, "venv", vars={"base": place}) for name in ("purelib", "scripts")}
    python = Path(paths["scripts"]) / "python"
    pip("--python", python, "install", "--no-deps", wheel, where=place)
    # Only now: pip must not find the samjax that these tests import. Lines of a .pth file are no sites of their
    # own, so an editable install of the repository has no effect there.
    needed = sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})
    (Path(paths["purelib"]) / "needed.pth").write_text("\n".join(needed) + "\n")
    where = succeeded(python, "-c", "import samjax; print(samjax.__file__)", where=place).strip()
    assert Path(where).is_relative_to(paths["purelib"])
    return Path(paths["scripts"])


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"samjax", f"samjax-{__version__}.dist-info"}
    packed = {name for name in names if name.startswith("samjax/")}
    files = (path for path in (ROOT / "samjax").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert packed == {path.relative_to(ROOT).as_posix() for path in files}
    assert {"samjax/py.typed", "samjax/weights/tiny.safetensors"} <= packed


def test_train_eval_predict_and_check_from_another_folder(environment: Path, tmp_path: Path):
    settings = {"PYTHONWARNINGS": "error", "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # and one device
    settings["HOME"] = str(tmp_path)  # packed runs are opened below it

    def samjax(*arguments: object) -> str:
        return succeeded(environment / "samjax", *arguments, where=tmp_path, **settings)

    cohort = tmp_path / "small-2023"
    write_cohort(cohort, "adult", 5, options=PhantomOptions((32, 32, 8)))
    base = write_base(tmp_path / "small.safetensors")
    cache = ("--cache-dir", "cache")

    assert samjax("--version") == f"samjax {__version__}\n"
    assert "5 cases, 5 of them with a label: all can be used." in samjax("check", cohort)

    quick = ("--strategy", "decoder", "--prompt", "none", "--max-steps", "3", "--no-augment", "--no-swa")
    out = samjax("train", *quick, "--data", cohort, "--weights", base, "--run", "runs/first", *cache)
    steps = [row for row in (tmp_path / "runs/first/metrics.jsonl").read_text().splitlines() if '"train"' in row]
    assert len(steps) == 3
    assert out.rstrip().endswith("score it on its test patients: samjax eval --run runs/first")

    samjax("eval", "--run", "runs/first", *cache, "--workers", "0")
    assert "samjax eval --run runs/first" in (tmp_path / "runs/first/eval/report.html").read_text()

    out = samjax("predict", "--input", cohort, "--output", "masks", *cache)
    assert "predictions: masks (5 written)" in out
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 5

    samjax("pack", "runs/first", "first.safetensors")
    out = samjax("predict", "--run", "first.safetensors", "--input", next(cohort.iterdir()), "--output", "one", *cache)
    assert "predictions: one (1 written)" in out

    out = samjax("convert", base, "small.pth")  # needs neither PyTorch nor the repository
    assert (tmp_path / "small.pth").is_file()
    assert "for Meta's code" in out


def test_the_shipped_weights_are_found(environment: Path, tmp_path: Path):
    program = "from samjax.weights.base import load_base; print(len(load_base('tiny').flat))"
    assert int(succeeded(environment / "python", "-c", program, where=tmp_path)) > 100
