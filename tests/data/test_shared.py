"""Patients that two collections or two domains share."""

from samjax.data.cases import Case
from samjax.data.shared import overlapping_domains, shared_patients


def case(name: str, domain: str = "demo", scheme: str = "brats2023", patient: str | None = None) -> Case:
    return Case(name, patient or name, domain, {}, None, scheme, "brats")


MSD, OLD = [case("BRATS_001", scheme="msd")], [case("Brats18_2013_20_1", scheme="brats2021")]
NEW, MEN = [case("BraTS-GLI-00001-000")], [case("BraTS-MEN-00001-000")]
LATER = [case("BraTS-GLI-00001-000", scheme="gli2024")]
PHANTOM = [case(f"BraTS-GLI-{90000 + number}-000") for number in range(3)]


def test_patients_shared_between_collections():
    assert "Decathlon Task01 (training) and BraTS 2018 (evaluation)" in shared_patients(MSD, OLD)
    assert "BraTS-GLI 2023" in shared_patients(MSD, MEN + NEW)
    assert shared_patients(MSD, MSD) is None
    assert shared_patients(MSD, MEN + LATER) is None
    assert shared_patients(MEN, OLD) is None


def test_generated_patients_are_shared_with_nobody():
    assert shared_patients(PHANTOM, OLD) is None
    assert shared_patients(OLD, PHANTOM) is None


def both(first: list[Case], second: list[Case], prints: dict[str, str] | None = None) -> list[str]:
    """The warnings of two domains; fingerprints by case id."""
    placed = [
        case(one.id, name, one.scheme, one.patient)
        for name, cases in (("one", first), ("two", second))
        for one in cases
    ]
    return overlapping_domains(placed, {(one.domain, one.id): (prints or {}).get(one.id, "") for one in placed})


def test_domains_of_one_pool_are_named():
    (warning,) = both(MSD, OLD)
    assert "the domains one and two share patients (Decathlon Task01 and BraTS 2018 hold many" in warning
    assert both(MEN, OLD) == both(PHANTOM, OLD) == both(NEW, LATER[:0]) == []


def test_domains_with_the_same_patients_are_named():
    assert "1 have the same name in both, such as BraTS-GLI-00001-000" in both(NEW, LATER + MEN)[0]


def test_domains_with_the_same_scans_are_named():
    prints = {"x": "a-b-c-d", "y": "q-b-r-s", "z": "1-2-3-4"}
    (warning,) = both([case("x")], [case("z"), case("y")], prints)
    assert "1 scans are in both, such as x and y" in warning
    assert both([case("x")], [case("z")], prints) == []


def test_a_scan_under_two_names_in_one_domain_is_named():
    prints = {"x": "a-b-c-d", "y": "a-b-c-d", "z": "1-2-3-4"}
    (warning,) = both([case("x"), case("y"), case("z")], [], prints)
    assert "domain one: x and y are one scan under two names" in warning
    assert both([case("x", patient="p"), case("y", patient="p")], [], prints) == []
