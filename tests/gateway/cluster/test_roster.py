"""A gateway counts for as long as it tells something new."""

from gateway.cluster.roster import FRESH_S, KNOWN_S, Roster


def test_the_same_word_again_is_no_sign_of_life():
    """What Redis keeps of a dead gateway is the same at each look."""
    roster = Roster()
    roster.heard("a", 1, 0.0)
    roster.heard("a", 1, FRESH_S)
    roster.heard("b", 5, FRESH_S)

    assert not roster.fresh("a", FRESH_S)
    assert roster.present(FRESH_S) == ("b",)
    assert roster.age_s("a", FRESH_S) == FRESH_S
    roster.heard("a", 2, FRESH_S)
    assert roster.fresh("a", FRESH_S)


def test_the_share_that_is_seen_counts_the_silent_and_the_strange():
    """Requests of a gateway that is silent, or of another configuration, are not in the demand."""
    roster = Roster()
    assert roster.seen(0.0) == 1.0
    for name, usable in (("a", True), ("b", False), ("c", True)):
        roster.heard(name, 1, 0.0, usable=usable)
    assert roster.seen(0.0) == 3 / 4
    roster.heard("a", 2, FRESH_S)
    assert roster.seen(FRESH_S) == 2 / 4


def test_one_that_left_is_forgotten_and_one_that_died_later():
    """It takes its word away when it ends; a dead one's is taken away by the others."""
    roster = Roster()
    roster.heard("a", 1, 0.0)
    roster.heard("b", 1, 0.0)
    roster.keep(["b"])

    assert roster.names == ("b",)
    assert roster.left(KNOWN_S - 1) == []
    assert roster.left(KNOWN_S) == ["b"]
