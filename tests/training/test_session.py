"""A run's folder and what is in it: data, split, and --overfit."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from samjax.data.imaging.doubts import ranges_of, read_ranges
from samjax.data.splits import Member
from samjax.data.synthetic.phantom import PhantomOptions, write_cohort
from samjax.errors import UserError
from samjax.options import TrainOptions
from samjax.runs.folder import new_run_folder, read_splits
from samjax.training.session import Session, new_session, resumed_session
from samjax.training.tasks.segmentation import window_data, window_names
from tests.training.test_run_options import one_line


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort") / "small-2023"
    write_cohort(root, "adult", 4, options=PhantomOptions((32, 32, 8)))
    return root


@pytest.fixture
def start(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    """Starts a run of the U-Net, which needs no weights."""
    monkeypatch.chdir(tmp_path)
    common = {"strategy": "unet", "data": (f"demo={cohort}",), "cache": False, "run": tmp_path / "run"}
    return lambda **given: new_session(TrainOptions(**common | given))


class TestNewSession:
    def test_patients_are_divided(self, start):
        session = start()
        parts = [{case.case.patient for case in part} for part in (session.train, session.val)]
        assert [len(part) for part in parts] == [2, 1]
        assert not parts[0] & parts[1]
        assert len(read_splits(session.folder).domains["demo"].test) == 1

    def test_overfitting_puts_the_one_case_into_every_part(self, start, cohort):
        name = sorted(path.name for path in cohort.iterdir() if path.is_dir())[2]
        session = start(overfit=name)
        assert [case.case.id for case in session.train] == [case.case.id for case in session.val] == [name]
        assert not session.options.augment
        split = read_splits(session.folder).domains["demo"]
        assert split.train == split.val == split.test == (session.train[0].case.patient,)

    def test_what_was_trained_on_is_noted(self, start):
        session = start()
        splits = read_splits(session.folder)
        for case in session.train:
            expected = Member(case.case.patient, case.fingerprint, case.label_digest)
            assert splits.members["demo"][case.case.id] == expected
            assert all((expected.fingerprint, expected.label))
        assert len(splits.members["demo"]) == 4
        geometries = [case.geometry for case in session.train]
        assert read_ranges(session.folder) == ranges_of(geometries)

    def test_a_case_is_left_out_only_for_modalities_that_the_run_looks_at(self, start, cohort, tmp_path, capsys):
        data = shutil.copytree(cohort, tmp_path / "lacking-2023")
        lacking = sorted(path for path in data.iterdir() if path.is_dir())[1]
        next(lacking.glob("*-t1n.nii.gz")).unlink()

        def cases(name: str, **given: object) -> tuple[set[str], str]:
            session = start(data=(f"demo={data}",), run=tmp_path / name, **given)
            named = {case.case.id for case in (*session.train, *session.val, *session.test)}
            return named, capsys.readouterr().err

        found, said = cases("needy")
        assert lacking.name not in found
        assert f"left out: {lacking}: case {lacking.name}: no t1 (has t1gd, t2, flair), which --channels t1," in said
        found, said = cases("three", channels="flair,t1gd,t2")
        assert (lacking.name in found, "lack modalities" in said) == (True, False)
        found, said = cases("dropout", modality_dropout=0.3)
        assert lacking.name in found
        assert "note: 1 of 4 cases lack modalities (1 have no t1) and are taken without them" in said
        resumed = resumed_session(TrainOptions(run=tmp_path / "dropout", resume=True, cache=False))
        assert resumed.options.modality_dropout == 0.3

    def test_a_split_file_is_followed_and_said_where_it_leaves_cases_out(self, start, cohort, tmp_path, capsys):
        names = sorted(path.name for path in cohort.iterdir() if path.is_dir())
        file = tmp_path / "splits_final.json"
        file.write_text(json.dumps([{"train": names[2:], "val": names[:1]}, {"train": names[:1], "val": names[1:]}]))
        session = start(split_file=file, fold="0")
        assert [case.case.id for case in session.train] == names[2:]
        assert [case.case.id for case in session.val] == names[:1]
        assert read_splits(session.folder).domains["demo"].test == ()
        assert "1 (BraTS-GLI-90001) of demo are in none of its parts" in capsys.readouterr().err

    def test_a_list_of_patients_is_kept_by_a_run(self, start, cohort, tmp_path):
        names = sorted(path.name for path in cohort.iterdir() if path.is_dir())
        who = tmp_path / "who.csv"
        who.write_text("case,patient\n" + "".join(f"{name},{'abca'[n]}\n" for n, name in enumerate(names)))
        session = start(patients=who)
        split = read_splits(session.folder).domains["demo"]
        assert sorted(split.train + split.val + split.test) == ["a", "b", "c"]
        trained = [case.case.id for case in session.train]
        assert (names[0] in trained) == (names[3] in trained)
        who.unlink()
        resumed = resumed_session(TrainOptions(run=session.folder, resume=True))
        assert [case.case.id for case in resumed.train] == trained

    def test_domains_that_share_patients_are_named(self, start, cohort, tmp_path, capsys):
        copied = tmp_path / "copied-2023"
        copied.mkdir()
        for path in [path for path in cohort.iterdir() if path.is_dir()]:
            other = copied / path.name.replace("BraTS-GLI-9", "BraTS-GLI-1")
            other.mkdir()
            for file in path.iterdir():
                shutil.copy(file, other / file.name.replace("BraTS-GLI-9", "BraTS-GLI-1"))
        start(data=(f"one={cohort}", f"two={copied}"), labels="brats2023")
        (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert "the domains one and two share patients (4 scans are in both, such as BraTS-GLI-90000-000" in warning

    def test_an_unknown_case_is_refused_with_the_names_of_some(self, start, cohort, tmp_path):
        names = sorted(path.name for path in cohort.iterdir() if path.is_dir())
        with pytest.raises(UserError) as caught:
            start(overfit="nobody")
        one_line(caught, "--overfit nobody", "4", *names[:3])
        assert names[3] not in str(caught.value)
        assert not (tmp_path / "run").exists()

    def test_weights_for_the_unet_are_refused(self, start, tmp_path):
        with pytest.raises(UserError) as caught:
            start(weights="tiny")
        one_line(caught, "--weights tiny", "U-Net")
        assert not (tmp_path / "run").exists()

    def test_a_folder_that_holds_a_run_is_refused(self, start, tmp_path):
        start()
        before = (tmp_path / "run" / "config.json").read_bytes()
        with pytest.raises(UserError) as caught:
            start(seed=5)
        one_line(caught, "--run", "--resume")
        assert (tmp_path / "run" / "config.json").read_bytes() == before


class TestFolder:
    def test_runs_of_the_same_second_get_different_names(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("samjax.runs.folder.time.strftime", lambda _: "20260101-120000")
        with ThreadPoolExecutor(8) as pool:
            folders = list(pool.map(lambda _: new_run_folder(None, "unet"), range(8)))
        names = {folder.name for folder in folders}
        assert names == {"20260101-120000-unet", *(f"20260101-120000-unet-{number}" for number in range(2, 9))}
        assert all(folder.is_dir() for folder in folders)

    def test_where_the_link_cannot_be_written_the_run_begins_all_the_same(self, start, tmp_path, capsys):
        (tmp_path / "runs").write_text("in the way")
        session = start()
        assert (session.folder / "config.json").exists()
        said = [line for line in capsys.readouterr().err.splitlines() if ": labels: " not in line]
        assert len(said) == 1
        assert said[0].startswith("runs/latest does not point at")

    def test_where_no_folder_can_be_created_that_is_said_in_one_line(self, start, tmp_path):
        (tmp_path / "runs").write_text("in the way")
        with pytest.raises(UserError) as caught:
            start(run=None)
        one_line(caught, "--run", str(tmp_path / "runs"), "cannot be created", "name a folder")
        with pytest.raises(UserError) as caught:
            start(run=tmp_path / "runs" / "mine")
        one_line(caught, "--run", "runs/mine", "cannot be created")

    @pytest.mark.parametrize(
        "given", [{"lr": float("inf")}, {"seed": -1}, {"workers": -1}, {"lora_rank": 8}, {"min_pixels": 10**6}]
    )
    def test_nothing_is_created_by_what_is_refused(self, start, tmp_path, given):
        with pytest.raises(UserError):
            start(**given)
        assert not (tmp_path / "run").exists()
        assert not (tmp_path / "runs").exists()

    def test_a_check_that_fails_leaves_nothing(self, cohort, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

        def check(session: Session) -> None:
            assert session.train
            raise UserError("no room")

        options = TrainOptions(strategy="unet", data=(f"demo={cohort}",), cache=False, run=tmp_path / "run")
        with pytest.raises(UserError, match="no room"):
            new_session(options, check=check)
        assert not (tmp_path / "run").exists()


class TestPlanes:
    def test_every_training_case_is_seen_in_every_plane_on_a_cubic_grid(self, tmp_path, monkeypatch):
        """Voxels of 6 mm, of which the grid says so too: scans with thicker slices are then resampled."""
        monkeypatch.chdir(tmp_path)
        write_cohort(tmp_path / "cubes-2023", "adult", 3, options=PhantomOptions((32, 32, 24)))
        options = TrainOptions(
            strategy="unet", data=(f"demo={tmp_path / 'cubes-2023'}",), cache=False, planes="sagittal,axial"
        )
        session = new_session(options)
        assert (session.options.planes, session.options.spacing) == ("axial,sagittal", "6,6,6")
        assert [view.shape for view in session.views] == [(24, 32, 32), (32, 24, 32)]
        data = window_data(session)
        batches = [data.get(0, number) for number in range(data.length(0))]
        assert {tuple(x) for batch in batches for x in batch["extent"].tolist()} == {(32, 32), (24, 32)}
        names = [name for batch in batches for name in window_names(session.views, batch)]
        assert {" (sagittal) from slice" in name for name in names} == {True, False}
        assert all(case.origin is None for case in session.train)

    def test_voxels_that_are_not_cubic_are_refused_with_what_to_do(self, start, tmp_path):
        with pytest.raises(UserError) as caught:
            start(planes="axial,coronal")
        one_line(caught, "--planes axial,coronal", "18 x 6 x 6 mm", "--spacing 6,6,6")
        assert not (tmp_path / "run").exists()
        session = start(planes="axial,coronal", spacing="6,6,6")
        assert {case.shape for case in session.train} == {(24, 32, 32)}
