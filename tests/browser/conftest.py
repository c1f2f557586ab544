"""A browser, a server with small generated cases, and windows with the page."""

import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from tests.browser.serving import Server
from tests.browser.window import Window

GRID = PhantomOptions((96, 96, 16))
SEED = 7
NAMES = ("BraTS-GLI-90000-000", "BraTS-GLI-90001-000", "BraTS-GLI-90002-000")
FLAGS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 720}


def lacking(what: str) -> None:
    """Skips the test, or fails it where it was asked for (make test-browser)."""
    if os.environ.get("SAMJAX_NEEDS_BROWSER"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a screen; WebGL by SwiftShader."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("Playwright is not installed: pip install -e '.[browser]'")
    executable = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        lacking(f"no {' or '.join(BROWSERS)} on PATH; CHROMIUM may name it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case; one acquired in oblique sagittal slices, without T2; one whose FLAIR breaks off in the middle."""
    folder = tmp_path_factory.mktemp("cases")
    write_cohort(folder, "adult", 3, SEED, GRID)
    next(folder.rglob(f"{NAMES[1]}-t2w.nii.gz")).unlink()
    for path in folder.rglob(f"{NAMES[1]}-*.nii.gz"):
        turned(nib.load(path)).to_filename(path)
    broken = next(folder.rglob(f"{NAMES[2]}-t2f.nii.gz"))
    content = gzip.decompress(broken.read_bytes())
    broken.write_bytes(gzip.compress(content[: len(content) // 2]))
    return folder


def turned(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """The same head, tilted, in an array whose axes run to the front, up and to the right."""
    oriented = nib.as_closest_canonical(image)
    array, affine = np.asarray(oriented.dataobj).transpose(1, 2, 0), oriented.affine[:, [1, 2, 0, 3]]
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("xyz", [25, 10, 15], degrees=True).as_matrix()
    return nib.Nifti1Image(array, tilt @ affine)


@pytest.fixture(scope="session")
def truth(cases: Path) -> np.ndarray:
    """The whole tumour of the first case in samjax's axes, (slices, rows, columns) bool."""
    label = nib.load(next(cases.rglob(f"{NAMES[0]}-seg.nii.gz"))).get_fdata()
    return label.transpose(2, 1, 0) > 0  # the files' axes run to the left, posterior and superior, as samjax's do


@pytest.fixture(scope="session")
def tumour(truth: np.ndarray) -> tuple[int, int, int]:
    """The voxel deepest inside the largest slice of the tumour."""
    slice_ = int(truth.sum(axis=(1, 2)).argmax())
    row, column = np.unravel_index(ndimage.distance_transform_edt(truth[slice_]).argmax(), truth.shape[1:])
    return slice_, int(row), int(column)


@pytest.fixture(scope="module")
def server(browser: Any, cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own for each file of tests."""
    server = Server(cases, tmp_path_factory.mktemp("served") / "out")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def new_window(browser: Any) -> Iterator[Callable[[], Window]]:
    """Makes windows that are closed after the test."""
    contexts = []

    def make() -> Window:
        contexts.append(browser.new_context(viewport=SIZE))
        return Window(contexts[-1].new_page())

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def window(new_window: Callable[[], Window], server: Server) -> Iterator[Window]:
    """The page with the first case, without masks and prompts; nothing may go wrong in it."""
    window = new_window()
    window.open(f"{server.address}/#{NAMES[0]}")
    window.edit(lambda: window.press("Shift+Delete"))
    yield window
    assert window.problems == []
