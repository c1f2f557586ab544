"""The model that comes with samjax: small, whole, found by name, and able to find a tumour that it has never seen."""

from pathlib import Path

import numpy as np
import pytest

from samjax import Predictor
from samjax.data.labels import to_canonical
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.inference.batch import predict
from samjax.metrics.overlap import dice
from samjax.options import PredictOptions
from samjax.runs.folder import GLIOMA, find_model, read_config
from samjax.runs.trained import load_trained

FOLDER = find_model(Path(GLIOMA))
LARGEST = 20_000_000
"""Bytes that the package may grow by."""


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated patient of 2 mm voxels that no run was trained on."""
    root = tmp_path_factory.mktemp("phantom") / "brats2023"
    return write_cohort(root, "adult", 1, seed=3000, options=PhantomOptions((96, 96, 36)))[0]


def test_it_is_small_whole_and_knows_no_path_of_the_machine_that_trained_it():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < LARGEST
    config, found = load_trained(FOLDER)
    assert (config.base_path, config.rois) == ("tiny", ("whole-tumor", "tumor-core", "enhancing"))
    assert config.data == {}
    assert {"none", "point", "box", "mask"} <= set(found.prompts)
    assert "/tmp" not in (FOLDER / "config.json").read_text()
    assert "never seen a real scan" in (FOLDER / "README.md").read_text().replace("\n", " ")
    assert read_config(FOLDER).options.run is None


def test_it_finds_a_tumour_without_prompts_and_with_a_click(case: Path):
    import nibabel as nib

    predictor = Predictor.from_run(GLIOMA)
    predictor.set_volume(case)
    label = nib.as_closest_canonical(nib.load(next(case.glob("*-seg.nii.gz"))))
    label = np.asarray(label.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]
    truth = to_canonical(label.astype(np.uint8), "brats2023", case) > 0
    found = predictor.segment()
    assert dice(found.mask > 0, truth) > 0.6
    z = int(truth.sum((1, 2)).argmax())
    row, column = np.argwhere(truth[z]).mean(0).round().astype(int)
    clicked = predictor.segment(points=[(z, row, column, 1)])
    assert dice(clicked.mask[z] > 0, truth[z]) > 0.6


def test_predict_takes_it_by_itself_and_says_so(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    outcome = predict(PredictOptions((case,), tmp_path / "out"))
    assert outcome.written == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("model: ")]
    assert line.startswith("model: glioma, trained on generated scans alone")
    assert line.endswith("--run latest takes your newest run")
    assert (tmp_path / "out" / f"{case.name}.nii.gz").is_file()
