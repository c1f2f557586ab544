"""What `--help` says about defaults against what the table of strategies holds."""

import re
from dataclasses import fields
from typing import Any, get_type_hints

import pytest
import tyro

from samjax.options import TrainOptions
from samjax.strategies import COMMON, STRATEGIES, Strategy, describe_default

DEPENDENT = sorted({name for row in STRATEGIES.values() for name in row.defaults})


@pytest.fixture
def help_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What `samjax train --help` prints, as one line; wide enough that no value is broken."""
    monkeypatch.setenv("COLUMNS", "2000")
    with pytest.raises(SystemExit):
        tyro.cli(TrainOptions, args=["--help"])
    return re.sub(r"[│\s]+", " ", capsys.readouterr().out)


def described(text: str, strategy: str) -> str:
    """What a text such as "1; 3 for pretrain" says about one strategy."""
    usual = None
    for part in text.split("; "):
        value, _, names = part.partition(" for ")
        if strategy in re.split(", | and ", names):
            return value
        usual = usual if names else value
    assert usual is not None, text
    return usual


def same(text: str, value: Any) -> bool:
    return text == "none" if value is None else type(value)(text) == value


@pytest.mark.parametrize("option", DEPENDENT)
def test_help_gives_every_strategys_own_default(option, help_text):
    """Read back from the help, the defaults are those of the table; the text before them speaks of none."""
    (found,) = re.findall(rf"--{option.replace('_', '-')} {{None(.*?)\(default: ([^()]*)\)", help_text)
    text, shown = found
    assert "default" not in text.lower()
    for name, row in STRATEGIES.items():
        assert same(described(shown, name), row.defaults.get(option)), (option, name, shown)


@pytest.mark.parametrize("option", DEPENDENT)
def test_an_option_that_depends_on_the_strategy_is_none_until_it_is_given(option):
    assert {field.name: field.default for field in fields(TrainOptions)}[option] is None
    assert "Annotated" in str(get_type_hints(TrainOptions, include_extras=True)[option])


def test_help_names_every_strategy_and_its_source(help_text):
    (text,) = re.findall(r"--strategy STR (.*?)\(default: lora4ch\)", help_text)
    for name, row in STRATEGIES.items():
        assert f"{name} ({row.source})" in text


def test_a_new_row_changes_the_description(monkeypatch):
    row = Strategy("other", "nowhere", ((".*",),), {"clicks": 7, "lr": 1e-4, "clip_norm": 0.5})
    before = describe_default("lr")
    monkeypatch.setitem(STRATEGIES, "other", row)
    assert describe_default("clicks") == f"{COMMON['clicks']}; 3 for pretrain; 7 for other"
    assert describe_default("lr") == before
    assert describe_default("clip_norm") == "none; 1 for generated and pretrain; 0.5 for other"
