"""Variables in the values of a configuration."""

import pytest

from gateway.config.variables import expanded


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a${B}c", "abc"), ("${B}${B}", "bb"), ("${B:-x}", "b"), ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""), ("${NONE:-}", ""), ("${NONE:-http://a:1}", "http://a:1"),
        ("$${B}", "${B}"), ("$B", "$B"), ("100$", "100$"), ("$$", "$$"),
    ],
)  # fmt: skip
def test_a_variable_is_replaced(text, value):
    """By its value or its default; what is no variable stays."""
    assert expanded({"k": [text]}, {"B": "b", "EMPTY": ""}) == ({"k": [value]}, [])


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"a": ["x", "${NONE}"]}, "a[1]: the environment has no variable NONE"),
        ({"a": {"b": "${A-B}"}}, "a.b: a variable is ${NAME} or ${NAME:-default}: ${A-B}"),
        ({"a": "${B"}, "a: a variable is ${NAME} or ${NAME:-default}: ${B"),
        ({"${B}": 1}, "${B}: a name cannot have a variable in it"),
    ],
)
def test_what_cannot_be_replaced_is_named(raw, problem):
    """With the path of its key."""
    assert expanded(raw, {"B": "b"})[1] == [problem]


def test_what_has_no_variable_is_left_alone():
    """Numbers, lists, mappings and text come back as they are."""
    raw = {"a": [1, None, True, 2.5, "b"], 3: {}}

    assert expanded(raw, {}) == (raw, [])
