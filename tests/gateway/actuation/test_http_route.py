"""The plan's shares become weights of an HTTPRoute, and nothing else of it changes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.actuation.http_route import (
    HttpRouteObject,
    RouteFault,
    strangers,
    weight_changes,
    whole,
)


def a_route(*rules: dict[str, int | None]) -> HttpRouteObject:
    """A route with these rules, each of entries with their weights."""
    shaped = [
        {
            "backendRefs": [
                {"name": name} | ({} if weight is None else {"weight": weight})
                for name, weight in rule.items()
            ]
        }
        for rule in rules
    ]
    raw = {"metadata": {"name": "llm", "resourceVersion": "7"}, "spec": {"rules": shaped}}
    return msgspec.convert(raw, HttpRouteObject)


def test_weights_are_changed_by_their_place_name_and_version():
    """Each is guarded by the name that it is for; what is right already stays."""
    route = a_route({"a": None, "b": 400}, {"other": 3})

    assert weight_changes(route, {"a": 0.6, "b": 0.4}, 1000) == [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "test", "path": "/spec/rules/0/backendRefs/0/name", "value": "a"},
        {"op": "add", "path": "/spec/rules/0/backendRefs/0/weight", "value": 600},
    ]
    assert weight_changes(a_route({"a": 600, "b": 400}), {"a": 0.6, "b": 0.4}, 1000) == []


def test_others_keep_their_weights():
    """In the same rule and in others; they are told of, if they get anything."""
    route = a_route({"a": 1, "b": 1, "canary": 50, "off": 0}, {"other": 3})
    steps = weight_changes(route, {"a": 1.0, "b": 0.0}, 100)

    assert [step["value"] for step in steps if step["op"] == "add"] == [100, 0]
    assert strangers(route, ("a", "b")) == {"canary": 50}


def test_each_rule_is_split_by_the_entries_that_it_has():
    """A rule of which no entry has a share stays: with zeros it would answer errors only."""
    route = a_route({"a": 1, "b": 1}, {"b": 5}, {"c": 1}, {"c": 1, "a": 1})
    steps = weight_changes(route, {"a": 0.75, "b": 0.25, "c": 0.0}, 100)
    values = {step["path"]: step["value"] for step in steps if step["op"] == "add"}

    assert values == {
        "/spec/rules/0/backendRefs/0/weight": 75,
        "/spec/rules/0/backendRefs/1/weight": 25,
        "/spec/rules/1/backendRefs/0/weight": 100,
        "/spec/rules/3/backendRefs/0/weight": 0,
        "/spec/rules/3/backendRefs/1/weight": 100,
    }


def test_a_route_that_cannot_have_the_shares_is_told():
    """Where an entry is missing, the others would get its part; of two, neither is meant."""
    with pytest.raises(RouteFault, match="no rule has the backendRef c, which has 25%"):
        weight_changes(a_route({"a": 1, "b": 1}), {"a": 0.75, "c": 0.25}, 100)
    assert weight_changes(a_route({"a": 100}), {"a": 1.0, "c": 0.0}, 100) == []
    twice = msgspec.convert(
        {
            "metadata": {"name": "llm"},
            "spec": {"rules": [{"backendRefs": [{"name": "a"}, {"name": "a"}]}]},
        },
        HttpRouteObject,
    )
    with pytest.raises(RouteFault, match="has the backendRef a twice"):
        weight_changes(twice, {"a": 1.0}, 100)


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(0, 1e6), min_size=1),
    st.integers(1, 1_000_000),
)
def test_whole_numbers_sum_to_the_total(shares, total):
    """And none is off by more than one."""
    counts = whole(shares, total)

    if sum(shares.values()) > 0:
        assert sum(counts.values()) == total
        for name, share in shares.items():
            assert abs(counts[name] - share / sum(shares.values()) * total) < 1 + 1e-6 * total
    else:
        assert counts == {}
