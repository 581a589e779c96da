"""Where an answer is that a later request goes on from."""

from gateway.proxy.answer_homes import AnswerHomes
from gateway.routing.fleet import Fleet


def test_the_answers_used_last_are_remembered():
    """Others are forgotten: a bound for each process."""
    first, second = Fleet.of({"p": ("http://a:1", "http://b:1")}).backends
    homes = AnswerHomes(most=2)
    homes.note("a", first)
    homes.note("b", second)
    assert homes.home("a") == first.name
    homes.note("c", second)

    assert [homes.home(name) for name in "abc"] == [first.name, None, second.name]
