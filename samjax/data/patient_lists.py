"""Lists of the patient of each case (`--patients`), for cases whose names do not give the patient."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from samjax.data.cases import Case
from samjax.errors import UserError

COLUMNS = ("case", "patient")


def read_patients(path: Path) -> dict[str, str]:
    """The patient of each case, from a CSV file with the columns case and patient; other columns are passed over.

    Raises:
      UserError: the file cannot be read, lacks a column or a value, or gives a case two patients.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
        # Spreadsheets write commas, semicolons or tabs, by the country.
        rows = list(csv.reader(lines, delimiter=max(",;\t", key=lines[0].count) if lines else ","))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--patients {path}: cannot be read as CSV ({error})") from None
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if any(header.count(name) != 1 for name in COLUMNS):
        raise UserError(f"--patients {path}: its first line is {', '.join(header) or 'empty'}; expected case,patient")
    places = [header.index(name) for name in COLUMNS]
    patients: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        case, patient = (row[place].strip() if place < len(row) else "" for place in places)
        if not case or not patient:
            raise UserError(f"--patients {path}: line {number} has no {'patient' if case else 'case'}")
        if patients.setdefault(case, patient) != patient:
            raise UserError(f"--patients {path}: line {number}: {case} is of {patient} here, {patients[case]} above")
    return patients


def with_patients(cases: Sequence[Case], patients: Mapping[str, str], path: Path) -> tuple[list[Case], str | None]:
    """The cases with the patients of a list, and a note on cases that it does not name, which keep their own.

    Raises:
      UserError: the list names none of the cases.
    """
    absent = [case.id for case in cases if case.id not in patients]
    if len(absent) == len(cases):
        raise UserError(f"--patients {path}: names none of the {len(cases)} cases (such as {cases[0].id})")
    named = [replace(case, patient=patients.get(case.id, case.patient)) for case in cases]
    if not absent:
        return named, None
    more = ", ..." if len(absent) > 3 else ""
    return named, (
        f"--patients {path}: does not name {len(absent)} of {len(cases)} cases ({', '.join(absent[:3])}{more}); "
        "their patients go by their names"
    )
