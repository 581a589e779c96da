"""Which backends count."""

from gateway.actuation.launches import Launches
from gateway.actuation.presence import Presence
from gateway.routing.fleet import Fleet
from gateway.routing.membership import FINISHING, changed, draining


def test_what_is_down_counts_for_a_moment_and_comes_back():
    """A probe that fails orders no replacement; a minute of them does."""
    fleet = Fleet.of({"a": ("http://x", "http://y")})
    presence = Presence(fleet, Launches(), 60.0)
    first, _ = fleet.pool("a")
    first.probed(False)
    counts = []
    for at_s in (0.0, 59.0, 60.0):
        presence.look(at_s)
        counts.append(presence.coming("a"))
    first.probed(True)
    presence.look(61.0)

    assert counts == [2, 2, 1]
    assert presence.coming("a") == 2


def test_what_is_drained_or_asleep_does_not_count():
    """Neither gets requests; what was ordered does count, once."""
    fleet, launches = Fleet.of({"a": ("http://x", "http://y", "http://z")}), Launches()
    presence = Presence(fleet, launches, 60.0)
    fleet.apply(draining(fleet.membership, {"a-0": FINISHING}))
    fleet.pool("a")[0].asleep = True
    presence.look(0.0)
    launches.look("a", presence.sights("a"), 0.0)
    launches.order("a", 2, 0.0)

    assert [backend.name for backend in presence.there("a")] == ["a-2"]
    assert presence.counts(("a", "gone")) == {"a": 3, "gone": 0}


def test_a_launch_is_awaited_for_longer_than_others_may_be_down():
    """Its engine loads for minutes after its URL was found; once it is given up it is lost."""
    fleet, launches = Fleet.of({"a": ()}), Launches()
    presence = Presence(fleet, launches, 60.0)
    launches.look("a", [], 0.0)
    launches.order("a", 1, 0.0)
    fleet.apply(changed(fleet.membership, {"a": ("http://x",)}))
    counts = []
    for at_s in (10.0, 500.0):
        presence.look(at_s)
        launches.look("a", presence.sights("a"), at_s)
        counts.append(presence.coming("a"))
    launches.overdue("a", 400.0, 500.0)

    assert counts == [1, 1]
    assert presence.coming("a") == 0
