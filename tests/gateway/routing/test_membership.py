"""All processes agree on which backends there are, on their names and their rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.routing.membership import FINISHING, LEAVING, changed, draining, first, lacking

POOLS = ("a", "b")
URLS = st.lists(st.sampled_from([f"http://x:{n}" for n in range(8)]), unique=True)


def named(membership):
    return {member.name: member.url for member in membership.members}


def test_backends_are_named_by_pool_and_number():
    """In the order of the configuration, and a trailing slash does not count."""
    membership = first({"a": ("http://x/", "http://y"), "b": (), "c": ("http://z",)})

    assert named(membership) == {"a-0": "http://x", "a-1": "http://y", "c-0": "http://z"}
    assert membership.urls() == {"a": ("http://x", "http://y"), "b": (), "c": ("http://z",)}
    assert [member.row for member in membership.members] == [0, 1, 2]
    assert membership.version == 0


def test_a_name_is_never_used_again():
    """What stays keeps name and row; what comes back is another backend, under another name."""
    before = first({"a": ("http://x", "http://y")})
    without = changed(before, {"a": ("http://y",)})
    back = changed(without, {"a": ("http://x", "http://y")})

    assert named(without) == {"a-1": "http://y"}
    assert named(back) == {"a-2": "http://x", "a-1": "http://y"}
    assert (without.version, back.version) == (1, 2)


def test_rows_in_use_are_not_given_away():
    """A row that some process may still write to is no place for a new backend."""
    before = first({"a": ("http://x", "http://y")})
    reused = changed(before, {"a": ("http://y", "http://z")})
    kept = changed(
        changed(before, {"a": ("http://y",)}), {"a": ("http://y", "http://z")}, in_use={0}
    )

    assert {m.url: m.row for m in reused.members} == {"http://y": 1, "http://z": 2}
    assert {m.url: m.row for m in kept.members} == {"http://y": 1, "http://z": 2}
    freed = changed(changed(before, {"a": ("http://y",)}), {"a": ("http://y", "http://z")})
    assert {m.url: m.row for m in freed.members} == {"http://y": 1, "http://z": 0}


def test_pools_come_and_go():
    """In the new order; one that comes back gives no backend the name of an earlier one."""
    before = first({"a": ("http://x",), "b": ("http://y",)})
    both = changed(before, {"c": ("http://z",)}, pools=("c", "a", "b"))
    without = changed(both, {}, pools=("c", "b"))
    back = changed(without, {"a": ("http://x",)}, pools=("c", "b", "a"))

    assert list(both.urls()) == ["c", "a", "b"]
    assert named(without) == {"c-0": "http://z", "b-0": "http://y"}
    assert named(back)["a-1"] == "http://x"
    with pytest.raises(ConfigError, match="no such pool"):
        changed(without, {"a": ("http://x",)})


@given(st.lists(URLS, min_size=1, max_size=6))
def test_every_change_keeps_names_and_rows_apart(steps):
    """Whatever comes and goes: no two backends share a name or a row, and what stays is the same
    member."""
    membership = first({"a": steps[0], "b": ()})
    used = dict(named(membership))
    for urls in steps[1:]:
        before = {member.url: member for member in membership.members}
        membership = changed(membership, {"a": urls, "b": ()})
        rows = [member.row for member in membership.members]
        assert len(set(rows)) == len(rows)
        assert membership.rows == max(rows, default=-1) + 1
        for member in membership.members:
            assert before.get(member.url, member) == member
            assert used.setdefault(member.name, member.url) == member.url


def test_one_engine_may_be_in_two_pools():
    """An engine that serves two models is a backend of a pool of each."""
    membership = first({"a": ("http://x",), "b": ("http://x",)})

    assert [(m.name, m.url, m.row) for m in membership.members] == [
        ("a-0", "http://x", 0), ("b-0", "http://x", 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("urls", "problem"),
    [
        ({"a": ("http://x", "http://x/")}, "pools.a: http://x is listed twice"),
        ({"c": ()}, "pools.c: there is no such pool"),
    ],
)
def test_what_cannot_be_is_refused_whole(urls, problem):
    """One line that names pool and URL; nothing of the change is taken."""
    with pytest.raises(ConfigError) as refused:
        changed(first({"a": (), "b": ()}), urls)

    assert len(refused.value.problems) == 1
    assert refused.value.problems[0].startswith(problem)


def test_a_pool_that_is_not_named_keeps_its_backends():
    """A source of backends knows its own pools only; an empty list takes them all away."""
    before = first({"a": ("http://x",), "b": ("http://y",)})

    assert named(changed(before, {"a": ("http://z",)})) == {"a-1": "http://z", "b-0": "http://y"}
    assert named(changed(before, {})) == named(before)
    assert named(changed(before, {"a": ()})) == {"b-0": "http://y"}


def test_what_a_backend_lacks_stays_with_it():
    """Over other changes, until it is said otherwise; what changes nothing is no new membership."""
    before = first({"a": ("http://x", "http://y")})
    without = lacking(before, {"a-0": ("sql",), "gone": ("sql",)})
    more = changed(without, {"a": ("http://x", "http://z")})

    assert [m.lacks for m in without.members] == [("sql",), ()]
    assert [m.lacks for m in more.members] == [("sql",), ()]
    assert [m.lacks for m in lacking(more, {}).members] == [(), ()]
    assert lacking(without, {"a-0": ("sql",)}) is without
    assert without.version == before.version + 1


def test_a_backend_stays_drained_while_its_url_is_there():
    """Whatever else changes; one that left and came back is another one, which is not drained."""
    before = first({"a": ("http://x", "http://y"), "b": ("http://z",)})
    drained = draining(before, {"a-0": LEAVING, "b-0": FINISHING})
    grown = changed(drained, {"a": ("http://x", "http://y", "http://w")})
    back = changed(changed(grown, {"a": ("http://y",)}), {"a": ("http://x", "http://y")})

    assert draining(drained, {"a-0": LEAVING, "b-0": FINISHING}) is drained
    assert grown.counts(("a", "b")) == (2, 0)
    assert grown.urls()["b"] == ("http://z",)
    assert back.counts(("a", "b")) == (2, 0)
    assert draining(back, {}).counts(("a", "b")) == (2, 1)
