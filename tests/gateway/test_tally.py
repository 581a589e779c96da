"""What happened, in sums that merge."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.observation import Observation, Outcome
from gateway.routing.tally import Sums, Tally

ENDED = st.builds(
    Observation,
    model=st.sampled_from(("m", "n")),
    key=st.just("k"),
    route=st.just("chat"),
    stream=st.booleans(),
    bucket=st.integers(0, 3),
    prompt_bytes=st.just(400),
    max_tokens=st.none(),
    estimated_input=st.integers(1, 4000),
    estimated_output=st.just(50),
    exact_input=st.booleans(),
    outcome=st.sampled_from(list(Outcome)),
    status=st.just(200),
    duration_s=st.just(1.0),
    ttft_s=st.none() | st.sampled_from((0.25, 0.5, 64.0)),
    tpot_s=st.none() | st.sampled_from((0.015625, 0.03125)),
    input_tokens=st.none() | st.integers(1, 4000),
    output_tokens=st.none() | st.integers(1, 900),
    pool=st.none() | st.sampled_from(("a", "b")),
    backend=st.none(),
    plan_id=st.none(),
    decision=st.none() | st.sampled_from(("planned", "spill")),
)


def summed(observations):
    tally = Tally()
    for observation in observations:
        tally.arrived(observation.bucket, 0.0)
        tally.observed(observation)
    return tally.drain()


@given(st.lists(ENDED, max_size=20), st.lists(ENDED, max_size=20))
def test_the_sum_of_two_tallies_is_the_tally_of_both(some, more):
    """It does not matter which worker saw a request."""
    merged = Sums()
    merged.add(summed(some))
    merged.add(summed(more))

    assert msgspec.to_builtins(merged) == msgspec.to_builtins(summed(some + more))


def test_a_drain_leaves_nothing():
    """What was handed on is not counted again."""
    tally = Tally()
    tally.arrived(3, 0.0)

    assert tally.drain().arrivals == {3: 1}
    assert tally.drain() == Sums()


def test_adding_changes_no_part_of_what_was_added():
    """Sums that were merged into others stay as they were."""
    first, second = Sums(arrivals={1: 1}), Sums(arrivals={1: 2})
    merged = Sums()
    merged.add(first)
    merged.add(second)

    assert (merged.arrivals, first.arrivals, second.arrivals) == ({1: 3}, {1: 1}, {1: 2})
