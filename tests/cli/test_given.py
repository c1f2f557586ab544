"""Which options a command line names."""

import pytest

from samjax.cli.given import named_options


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("", set()),
        ("--seed 0 --max-steps 5", {"seed", "max_steps"}),
        ("--seed=0 --max_steps=5", {"seed", "max_steps"}),
        ("--no-swa --augment", {"swa", "augment"}),
        ("--lr -1 --data a=b --data c", {"lr", "data"}),
    ],
)
def test_options_are_known_by_their_fields(line, names):
    assert named_options(line.split()) == names
