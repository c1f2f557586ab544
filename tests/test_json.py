"""JSON is read strictly: what Python would pass over in silence is refused."""

import pytest

from samjax.files import parse_json


def test_objects_are_read_as_they_are():
    assert parse_json('{"a": [1, {"b": null}], "c": "d"}') == {"a": [1, {"b": None}], "c": "d"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "'a' is listed twice"),
        ('[{"x": {"y": 1, "y": 2}}]', "'y' is listed twice"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("{'a': 1}", "Expecting property name"),
    ],
)
def test_what_python_would_accept_or_choke_on_is_a_value_error(text, message):
    with pytest.raises(ValueError, match=message):
        parse_json(text)
