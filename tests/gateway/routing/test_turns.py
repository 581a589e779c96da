"""Who waits is served in an order that is fair to all callers, in tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.estimate import Estimate
from gateway.routing.ticket import Ticket
from gateway.routing.turns import WINDOW_S, Drain, Served, Turns


def ticket(caller="a", tokens=100, until_s=9.0):
    size = Estimate(model="m", input_tokens=tokens // 2, output_tokens=tokens - tokens // 2,
                    output_p90=tokens)  # fmt: skip
    return Ticket(
        estimate=size, bucket=0, caller=caller, ready=lambda: None, due_s=9.0, until_s=until_s
    )


def waiting(*tickets):
    turns = Turns(0)
    for each in tickets:
        turns.add(each)
    return turns


def order(turns, served=None, now_s=0.0):
    return [each for _, each in turns.order(served or Served({}), now_s)]


def test_one_callers_requests_keep_their_order():
    """First come, first served, in the requests of one caller."""
    tickets = [ticket() for _ in range(5)]

    assert order(waiting(*tickets)) == tickets


def test_callers_take_turns_by_tokens():
    """A caller of large requests has fewer turns than one of small ones."""
    large, small = [ticket("l", 300) for _ in range(3)], [ticket("s", 100) for _ in range(3)]

    turns = order(waiting(*large, *small))

    assert [each.caller for each in turns] == ["l", "s", "s", "s", "l", "l"]


def test_who_was_given_least_goes_first():
    """What a caller had in the last seconds counts, and then is forgotten."""
    served = Served({})
    served.add("a", 1000, 1.0)
    turns = waiting(ticket("a"), ticket("b"))

    assert [each.caller for each in order(turns, served, 2.0)] == ["b", "a"]
    assert [each.caller for each in order(turns, served, 1.0 + 2 * WINDOW_S)] == ["a", "b"]


def test_a_weight_is_a_part():
    """Of twice the weight, twice the tokens, in the long run."""
    served = Served({"gold": 2.0})
    turns = waiting(*(ticket(c) for c in ("gold", "plain") for _ in range(30)))

    first = [each.caller for each in order(turns, served)][:30]

    assert first.count("gold") == 20


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 500)), min_size=1, max_size=30))
def test_nobody_is_left_out_or_doubled(rows):
    """Every request has one turn, and the counts of tokens agree with those that wait."""
    tickets = [ticket(caller, tokens) for caller, tokens in rows]
    turns = waiting(*tickets)

    assert sorted(map(id, order(turns))) == sorted(map(id, tickets))
    assert turns.tokens == sum(tokens for _, tokens in rows)
    for each in tickets:
        turns.remove(each)
    assert (turns.tokens, len(turns), order(turns)) == (0, 0, [])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 500)), max_size=30))
def test_ahead_is_what_the_order_says(rows):
    """The tokens ahead of a new request are those of the requests that the order puts before it, up
    to the last one of each caller."""
    served = Served({})
    served.add("b", 700, 0.0)
    turns = waiting(*(ticket(caller, tokens) for caller, tokens in rows))
    ahead = turns.ahead("a", 100, served, 0.0)
    newcomer = ticket("a", 100)
    turns.add(newcomer)
    before = order(turns, served)

    really = sum(each.tokens for each in before[: before.index(newcomer)])
    assert ahead == pytest.approx(really, abs=3 * 500)


def test_the_late_are_told():
    """Those whose time is over, and no others."""
    early, late = ticket(until_s=1.0), ticket(until_s=3.0)

    assert waiting(early, late).late(1.0) == [early]


def test_the_greediest_is_the_last_in_order():
    """The newest request of the caller that would be served last."""
    tickets = [ticket("a"), ticket("b"), ticket("b"), ticket("b")]

    assert waiting(*tickets).greediest(Served({}), 0.0) is tickets[-1]
    assert Turns(0).greediest(Served({}), 0.0) is None


def test_only_who_had_more_than_the_mean_is_over():
    """A lone caller never is; of two the one with the larger part."""
    served = Served({})
    served.add("a", 100, 0.0)
    alone = served.over("a", 0.0)
    served.add("b", 50, 0.0)

    assert not alone
    assert served.over("a", 0.0)
    assert not served.over("b", 0.0)
    assert not served.over("new", 0.0)


def test_a_drain_is_measured_while_requests_wait():
    """Its rate is that of the busy time; before enough of it, it is not known."""
    drain = Drain()
    drain.note(0, 100.0, waiting=False)
    unknown = drain.wait_s(100)
    for step in range(1, 41):
        drain.note(50, 100.0 + step / 10, waiting=True)
    drain.note(0, 500.0, waiting=False)

    assert unknown is None
    assert drain.wait_s(1000) == pytest.approx(2.0, rel=0.1)


def test_a_queue_that_does_not_move_has_no_end():
    """Without a turn for a while the wait is endless, sooner for those that can wait less."""
    drain = Drain()
    drain.note(0, 0.0, waiting=False)
    drain.note(0, 1.0, waiting=True)

    assert drain.wait_s(1, 2.0) == float("inf")
    assert drain.wait_s(1, 30.0) is None
