"""Which cases are scored: a run's patients are found wherever their scans are and whatever these are called."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from samjax.data.splits import Member, Split, Splits
from samjax.errors import UserError
from samjax.evaluation.selection import Selection, select_cases
from samjax.options import EvalOptions
from samjax.runs.folder import read_splits
from tests.data.trees import example, save_brats
from tests.made_runs import write_base, write_run

IDS = [f"BraTS-GLI-{number:05d}-000" for number in range(5)]
PATIENTS = [name[:-4] for name in IDS]
PARTS = Split(tuple(PATIENTS[:2]), (PATIENTS[2],), tuple(PATIENTS[3:]))


def write_cohort(folder: Path, names: dict[str, int], suffix: str = ".nii.gz") -> Path:
    """Cases by name, each the example of a number."""
    for name, number in names.items():
        save_brats(folder / name, name, example(number), "brats2023", suffix)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("selection")


@pytest.fixture(scope="module")
def cohort(place: Path) -> Path:
    return write_cohort(place / "cohort", {name: number for number, name in enumerate(IDS)})


@pytest.fixture(scope="module")
def fingerprints(cohort: Path) -> dict[str, str]:
    found = select_cases(EvalOptions(data=(f"x={cohort}",), labels="brats2023", cache=False), [])
    return {case.case.id: case.fingerprint for case in found.cases}


@pytest.fixture(scope="module")
def base(place: Path) -> Path:
    return write_base(place / "base.safetensors")


def write_split(run: Path, members: dict[str, str], domain: str = "demo", parts: Split = PARTS) -> Path:
    noted = {domain: {name: Member(name[:-4], print_) for name, print_ in members.items()}} if members else {}
    (run / "split.json").write_text(json.dumps(Splits(0, None, {domain: parts}, noted).to_json()))
    return run


@pytest.fixture(scope="module")
def run(place: Path, base: Path, cohort: Path, fingerprints: dict[str, str]) -> Path:
    return write_split(write_run(place / "run", base, cohort, depth=2, labels="brats2023"), fingerprints)


@pytest.fixture(scope="module")
def old_run(place: Path, base: Path, cohort: Path) -> Path:
    """A run that noted no fingerprints."""
    return write_split(write_run(place / "old", base, cohort, depth=2, labels="brats2023"), {})


@pytest.fixture
def select(run: Path) -> Callable[..., list[str]]:
    def select(*data: str, runs: tuple[Path, ...] = (run,), **options: object) -> list[str]:
        found = select_cases(EvalOptions(data=data, labels="brats2023", cache=False, **options), list(runs))
        assert isinstance(found, Selection)
        return [f"{case.case.domain}:{case.case.id}" for case in found.cases]

    return select


def ids(domain: str, *numbers: int) -> list[str]:
    return [f"{domain}:{IDS[number]}" for number in numbers]


def test_a_run_is_scored_on_its_test_part(select, cohort):
    assert select() == ids("demo", 3, 4)
    assert select(f"renamed={cohort}") == ids("renamed", 3, 4)
    assert select(f"demo={cohort}", split=("train",)) == ids("demo", 0, 1)
    assert select(f"demo={cohort}", limit=1) == ids("demo", 3)


def test_moved_data_are_known_by_their_ids(select, run, old_run, cohort, tmp_path, capsys):
    moved = shutil.copytree(cohort, tmp_path / "elsewhere")
    for one in (run, old_run):
        assert select(f"demo={moved}", runs=(one,)) == ids("demo", 3, 4)
        assert select(f"other={moved}", runs=(one,)) == ids("other", 3, 4)
        said = capsys.readouterr().err
        assert f"note: other: 5 of 5 labelled cases are of patients that {one} was divided with" in said
    assert select(f"other={moved}", split=("all",)) == ids("other", 0, 1, 2, 3, 4)
    assert "warning: 2 of the 5 cases scored are of patients that were trained on" in capsys.readouterr().err


def test_other_spellings_of_an_id_are_the_same_patient(select, old_run, tmp_path):
    spelled = write_cohort(tmp_path / "x", {name.replace("-", "_").upper(): 9 + n for n, name in enumerate(IDS)})
    assert select(f"x={spelled}", runs=(old_run,)) == [f"x:{IDS[n].replace('-', '_').upper()}" for n in (3, 4)]


def test_renamed_scans_are_known_by_their_content(select, run, tmp_path):
    names = {f"patient_{(number * 3) % 5}": number for number in range(5)}
    renamed = write_cohort(tmp_path / "renamed", names, ".nii")
    kept = sorted(name for name, number in names.items() if number in (3, 4))
    assert select(f"x={renamed}") == [f"x:{name}" for name in kept]
    found = select_cases(EvalOptions(data=(f"x={renamed}",), labels="brats2023", cache=False), [run])
    assert sorted(case.case.patient for case in found.cases) == PATIENTS[3:], "as the run knows them"


def test_exchanged_ids_are_seen_through(select, tmp_path):
    """The training patient's scan under the test patient's name, and the other way about."""
    exchanged = write_cohort(tmp_path / "x", dict(zip(IDS, (3, 4, 2, 0, 1), strict=True)))
    assert select(f"demo={exchanged}") == ids("demo", 0, 1)


def test_training_patients_alone_are_refused(select, run, tmp_path):
    only = write_cohort(tmp_path / "x", {"p1": 0, "p2": 1})
    with pytest.raises(UserError, match=r"--data x: all 2 cases that .*run knows are of patients that it was trained"):
        select(f"x={only}")
    assert select(f"x={only}", split=("x=all",)) == ["x:p1", "x:p2"]
    assert select(f"x={only}", split=("train",)) == ["x:p1", "x:p2"]


def test_data_that_no_run_knows_are_scored_whole(select, tmp_path):
    foreign = write_cohort(tmp_path / "x", {"p1": 20, "p2": 21, "p3": 22})
    assert select(f"x={foreign}") == ["x:p1", "x:p2", "x:p3"]
    assert len(select(f"x={foreign}", split=("test",))) == 1


def test_new_cases_beside_known_ones_are_named_and_not_scored(select, tmp_path, capsys):
    mixed = write_cohort(tmp_path / "x", {IDS[0]: 0, IDS[3]: 3, "new": 20})
    assert select(f"x={mixed}") == ids("x", 3)
    assert "note: x: 1 cases that" in capsys.readouterr().err
    assert select(f"x={mixed}", split=("all",)) == [*ids("x", 0, 3), "x:new"]


def test_a_split_without_a_test_part_is_scored_on_its_validation_part(select, place, base, cohort):
    run = write_run(place / "folds", base, cohort, depth=2, labels="brats2023")
    write_split(run, {}, parts=Split(tuple(PATIENTS[:3]), tuple(PATIENTS[3:]), ()))
    assert select(runs=(run,)) == ids("demo", 3, 4)


def test_a_patient_of_two_domains_counts_as_trained_on(select, place, base, cohort, tmp_path):
    run = write_run(place / "domains", base, cohort, depth=2, labels="brats2023")
    both = {"demo": PARTS, "two": Split((PATIENTS[3],), (), (PATIENTS[0],))}
    (run / "split.json").write_text(json.dumps(Splits(0, None, both).to_json()))
    moved = shutil.copytree(cohort, tmp_path / "elsewhere")
    assert select(f"other={moved}", runs=(run,)) == ids("other", 4)
    assert select(f"two={moved}", runs=(run,)) == ids("two", 0, 4), "its own domain comes first"


def test_a_split_file_divides_what_no_run_divided(select, run, cohort, tmp_path, capsys):
    folds = tmp_path / "splits_final.json"
    folds.write_text(json.dumps([{"train": IDS[2:], "val": IDS[:2]}, {"train": IDS[:3], "val": IDS[3:]}]))
    given = {"split_file": folds, "fold": 1}
    assert select(f"x={cohort}", runs=(), **given) == ids("x", 3, 4)
    assert select(f"x={cohort}", runs=(), split=("train",), **given) == ids("x", 0, 1, 2)
    assert select(f"x={cohort}", **given) == ids("x", 3, 4)
    with pytest.raises(UserError, match=f"{IDS[0]} is of a patient that .*run was trained or validated on"):
        select(f"x={cohort}", **given | {"fold": 0})
    assert select(f"x={cohort}", split=("val",), **given | {"fold": 0}) == ids("x", 0, 1)
    assert "warning: 2 of the 2 cases scored" in capsys.readouterr().err


def test_a_list_of_patients_joins_follow_ups(select, run, cohort, tmp_path):
    who = tmp_path / "who.csv"
    who.write_text("case,patient\n" + "".join(f"{name},{PATIENTS[number % 3]}\n" for number, name in enumerate(IDS)))
    with pytest.raises(UserError, match="trained or validated on"):
        select(f"x={cohort}", patients=who, runs=(write_split(shutil.copytree(run, tmp_path / "run"), {}),))
    found = select_cases(EvalOptions(data=(f"x={cohort}",), labels="brats2023", cache=False, patients=who), [])
    assert [case.case.patient for case in found.cases] == [PATIENTS[n] for n in (0, 1, 2, 0, 1)]


def test_what_is_left_out_is_counted(run, cohort, tmp_path):
    data = shutil.copytree(cohort, tmp_path / "x")
    twice = next((data / IDS[0]).glob("*t1c*"))
    shutil.copy(twice, twice.with_suffix(""))
    cut = next((data / IDS[3]).glob("*t2f*"))
    cut.write_bytes(cut.read_bytes()[:-200])
    options = EvalOptions(data=(f"x={data}",), labels="brats2023", cache=False)
    found = select_cases(options, [run])
    assert [case.case.id for case in found.cases] == [IDS[4]]
    assert found.left_out == 2
    assert select_cases(EvalOptions(labels="brats2023", cache=False), [run]).left_out == 0


def test_data_that_are_gone_are_named_with_the_remedy(place, base, tmp_path):
    run = write_split(write_run(tmp_path / "run", base, tmp_path / "gone", depth=2), {})
    with pytest.raises(
        UserError, match=r"gone: the data of .*run are not there; say where they are with --data demo=DIR"
    ):
        select_cases(EvalOptions(), [run])


def test_a_run_of_training_notes_what_is_needed(run, fingerprints):
    assert {name: member.fingerprint for name, member in read_splits(run).members["demo"].items()} == fingerprints


def test_training_data_that_cannot_be_read_by_now_do_not_stop_the_scoring(place, base, cohort, tmp_path):
    trained_on = write_cohort(tmp_path / "trained", {IDS[0]: 0})
    run = write_split(write_run(tmp_path / "run", base, trained_on, depth=2), {})
    (trained_on / IDS[0] / f"{IDS[0]}-t1n.nii.gz").write_bytes(b"")
    options = EvalOptions(data=(f"other={cohort}",), labels="brats2023", cache=False, split=("all",))
    assert len(select_cases(options, [run]).cases) == len(IDS)
