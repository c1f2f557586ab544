"""`samjax nnunet`: the patients and the split of a run."""

import json

from samjax.cli.main import dispatch
from samjax.data.formats.layouts import find_cases
from samjax.data.splits import split_cases
from tests.data.trees import example, save_brats
from tests.made_runs import write_run


def test_a_run_is_exported_as_it_was_split(tmp_path, capsys):
    for number in range(5):
        save_brats(tmp_path / "data" / f"BraTS2021_{number}", f"BraTS2021_{number}", example(number))
    splits = split_cases(find_cases(tmp_path / "data", "demo"), 3)
    run = write_run(tmp_path / "my-run", tmp_path, tmp_path / "data", strategy="unet", lora_rank=8)
    (run / "split.json").write_text(json.dumps(splits.to_json()))
    dispatch(["nnunet", str(tmp_path / "out"), "--run", str(run), "--number", "7"])
    raw = tmp_path / "out/nnUNet_raw/Dataset007_my-run"
    assert {case.patient for case in find_cases(raw / "imagesTs")} == set(splits.domains["demo"].test)
    printed = capsys.readouterr().out
    assert f"3 training, 1 validation, 1 test cases: {raw}" in printed
    assert "splits_final.json" in printed
