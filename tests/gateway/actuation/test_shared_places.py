"""Which sleepers have their GPUs for themselves."""

from gateway.actuation.shared_places import alone, places
from gateway.routing.fleet import Fleet

GPUS = {"a": 1, "b": 1, "wide": 2}


def fleet(awake=()):
    """Two hosts with two GPUs each; `a` and `b` have an engine on each GPU, `wide` one on each
    host."""
    made = Fleet.of(
        {
            "a": ("http://x:8001", "http://x:8000", "http://y:8000", "http://y:8001"),
            "b": ("http://x:9000", "http://x:10000", "http://y:9000", "http://y:10000"),
            "wide": ("http://x:7000", "http://y:7000"),
        }
    )
    for backend in made.backends:
        backend.asleep = backend.name not in awake
    return made.backends


def test_engines_of_a_host_are_in_the_order_of_their_ports():
    """Numbers, not words: 9000 is before 10000."""
    where = places(fleet(), GPUS)

    assert where["a-1"] == where["b-0"] == {("x", 0)}
    assert where["a-0"] == where["b-1"] == {("x", 1)}
    assert where["wide-1"] == {("y", 0), ("y", 1)}


def test_a_sleeper_can_be_woken_where_nobody_is_awake_or_is_being_woken():
    """One that takes two GPUs needs both."""
    assert alone(fleet(), GPUS, ()) == {b.name for b in fleet()}
    assert alone(fleet(("a-1",)), GPUS, ()) == {"a-0", "b-1", "a-2", "b-2", "a-3", "b-3", "wide-1"}
    assert alone(fleet(("a-1",)), GPUS, ("wide-1",)) == {"a-0", "b-1"}
    assert alone(fleet(("wide-0", "wide-1")), GPUS, ()) == set()
