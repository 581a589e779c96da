"""Sums of what happened."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.endpoints import CHAT
from gateway.routing.observation import Observation, Outcome
from gateway.telemetry.stats import MOST_STAYS, Stats
from gateway.telemetry.stats_schema import REQUEST_S, TPOT_S, TTFT_S, PoolStats, StatsDelta
from planner.model.buckets import Buckets, SloClass
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import fine_cell

BUCKETS = Buckets(  # four of each class
    classes=(
        SloClass(model="m", slo=Slo(ttft_s=1.0, tpot_s=0.05)),
        SloClass(model="m", slo=Slo(ttft_s=30.0, tpot_s=0.5), name="batch"),
    ),
    grid=Grid(input_edges=(1, 64, 256), output_edges=(1, 32, 128)),
)
FIELDS: dict[str, Any] = {
    "model": "m", "caller": "k", "endpoint": CHAT, "stream": True, "bucket": 3,
    "prompt_bytes": 400, "max_tokens": None, "estimated_input": 100, "estimated_output": 50,
    "exact_input": False, "outcome": Outcome.OK, "status": 200, "duration_s": 2.0, "ttft_s": 0.3,
    "tpot_s": 0.02, "input_tokens": 110, "output_tokens": 40, "pool": "h100", "backend": "h100-0",
    "plan_id": "p", "decision": "planned",
}  # fmt: skip


def ended(**fields):
    """A request that ended well, but for some fields."""
    return Observation(**(FIELDS | fields))


GOOD = ended()
SHED = ended(
    outcome=Outcome.SHED, status=429, ttft_s=None, tpot_s=None, input_tokens=None,
    output_tokens=None, pool=None, backend=None, plan_id=None, decision=None,
)  # fmt: skip


def summed(*observations):
    stats = Stats(BUCKETS)
    for observation in observations:
        stats.observed(observation)
    return stats.drain()


def test_draining_begins_anew():
    """Nothing is told twice, and nothing is lost between two drains."""
    stats = Stats(BUCKETS)
    stats.arrived(3)
    stats.observed(GOOD)
    first = stats.drain()
    stats.arrived(3)
    stats.arrived(5)
    second = stats.drain()

    assert (first.arrivals, second.arrivals) == ({3: 1}, {3: 1, 5: 1})
    assert (list(first.by_pool), second.by_pool) == ([("m", "default", "h100")], {})
    assert stats.drain() == StatsDelta()


def test_every_arrival_counts_whatever_becomes_of_it():
    """Demand includes what was shed; only whole answers have an actual size."""
    stats = Stats(BUCKETS)
    for observation in (GOOD, SHED):
        stats.arrived(observation.bucket)
        stats.observed(observation)
    delta = stats.drain()

    assert delta.arrivals == {3: 2}
    assert delta.sizes == {(3, fine_cell(110, 40)): (1.0, 110.0, 40.0, 0.0)}
    assert delta.by_pool["m", "default", ""].ends == {("shed", 429, "refused", ""): 1}


def test_a_request_of_several_sequences_is_a_demand_of_as_many():
    """Two prompts with three choices each: six requests of the size of one, of which four find
    their prompt computed; as requests, and in their tokens, they are what they are."""
    stats = Stats(BUCKETS)
    wide = ended(
        prompts=2, answers=6, width=6, estimated_input=50, input_tokens=200, output_tokens=240
    )
    for observation in (wide, ended(outcome=Outcome.REJECTED, prompts=9, width=9, answers=9)):
        stats.arrived(observation.bucket)
        stats.observed(observation)
    delta = stats.drain()

    assert delta.arrivals == {3: 7}
    assert delta.sizes == {(3, fine_cell(100, 40)): (6.0, 600.0, 240.0, 6 * 66.0)}
    pool = delta.by_pool["m", "default", "h100"]
    assert sum(pool.ends.values()) == 2
    assert (sum(pool.input_estimate.counts), pool.input_estimate.seconds) == (1, 0.5)
    assert (sum(pool.output_estimate.counts), pool.output_estimate.seconds) == (1, 50 / 40)


def test_wide_requests_that_were_shed_are_demand_too():
    """Or less would be provided for what was just shed."""
    shed = ended(outcome=Outcome.SHED, status=429, input_tokens=None, prompts=5, width=5, answers=5)
    assert summed(shed).arrivals == {3: 4}


def test_estimated_and_actual_prompts_are_compared():
    """Where the engine counted what was estimated."""
    for one, ratio in (
        (GOOD, 100 / 110),
        (ended(exact_input=True), 0.0),
        (ended(input_tokens=None), 0.0),
        (ended(outcome=Outcome.FAILED), 0.0),
    ):
        found = summed(one).by_pool["m", "default", "h100"].input_estimate
        assert found.seconds == pytest.approx(ratio)


def test_each_class_is_held_to_its_own_promise():
    """The same answer is late for one and in time for the other."""
    by_pool = summed(ended(ttft_s=3.0), ended(bucket=4, ttft_s=3.0)).by_pool

    assert by_pool["m", "default", "h100"].ends == {("ok", 200, "no", "planned"): 1}
    assert by_pool["m", "batch", "h100"].ends == {("ok", 200, "yes", "planned"): 1}


def test_only_whole_answers_have_a_duration():
    """Quick refusals would make it look short."""
    stats = summed(GOOD, ended(outcome=Outcome.FAILED, status=502)).by_pool["m", "default", "h100"]

    assert sum(stats.duration.counts) == 1
    assert stats.duration.counts[REQUEST_S.index(2.0)] == 1


def test_an_unreported_size_is_the_estimate():
    """Engines that report no usage still have demand; an embedding has one token of output."""
    silent = ended(input_tokens=None, output_tokens=None)

    assert summed(silent).sizes == {(3, fine_cell(100, 1)): (1.0, 100.0, 1.0, 0.0)}


def test_prefix_hits_count_by_size_pool_and_caller():
    """Sixty of a hundred and ten tokens; more than the prompt is no more than the prompt."""
    delta = summed(ended(cached_tokens=60), ended(cached_tokens=999))

    assert delta.sizes == {(3, fine_cell(110, 40)): (2.0, 220.0, 80.0, 170.0)}
    assert delta.by_pool["m", "default", "h100"].cached_tokens == 170
    assert delta.hits == {("k", "h100"): (220, 170)}


def test_an_engine_that_reports_no_hits_has_none():
    """Nothing is counted until one is reported; then a silent answer is one without a hit."""
    silent = summed(GOOD, GOOD)
    said = summed(GOOD, ended(cached_tokens=55), GOOD)

    assert (silent.hits, silent.by_pool["m", "default", "h100"].cached_tokens) == ({}, 0)
    assert said.hits == {("k", "h100"): (220, 55)}


def test_hits_merge_by_addition():
    """Those of two workers are those of one."""
    one, other = summed(ended(cached_tokens=60)), summed(ended(cached_tokens=50))
    one.add(other)

    assert one.hits == {("k", "h100"): (220, 110)}
    assert one.sizes == {(3, fine_cell(110, 40)): (2.0, 220.0, 80.0, 110.0)}


def test_stays_tell_how_long_a_backend_took_at_which_load():
    """From the placement to the last token: the wait for a turn is the gateway's own, and a slow
    client that takes its time after the last token is the client's."""
    streamed = ended(in_flight=4.5, waited_s=0.1, duration_s=9.0, cached_tokens=60)
    whole = ended(in_flight=2.0, stream=False, ttft_s=None, tpot_s=None)
    one_token = ended(in_flight=1.0, output_tokens=1, tpot_s=None)

    assert summed(streamed, whole, one_token).stays == [
        ("h100", "h100-0", pytest.approx(0.3 + 39 * 0.02 - 0.1), 4.5, 110, 60, 40),
        ("h100", "h100-0", 2.0, 2.0, 110, 0, 40),
        ("h100", "h100-0", 0.3, 1.0, 110, 0, 1),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"in_flight": None}, {"outcome": Outcome.ABANDONED}, {"outcome": Outcome.FAILED},
        {"output_tokens": None}, {"input_tokens": None}, {"ttft_s": None}, {"tpot_s": None},
    ],
)  # fmt: skip
def test_what_does_not_tell_a_pace_is_no_stay(fields):
    """Answers that were cut, or whose sizes, load or times are unknown."""
    assert summed(ended(**({"in_flight": 3.0} | fields))).stays == []


def test_of_many_requests_some_stays_are_kept():
    """Between two drains, whoever ended first; merged, those of all workers."""
    one, other = (summed(*[ended(in_flight=1.0)] * 3 * MOST_STAYS) for _ in range(2))
    one.add(other)

    assert len(one.stays) == 2 * MOST_STAYS


@pytest.mark.parametrize("kind", ["ttft", "tpot"])
def test_times_fall_into_the_bucket_that_ends_at_them(kind):
    """Bounds belong to the bucket below, as in Prometheus; what is above all has its own."""
    bounds = TTFT_S if kind == "ttft" else TPOT_S
    times = [0.0, bounds[0], bounds[0] * 1.01, bounds[-1], bounds[-1] * 2]
    delta = summed(*(ended(**{f"{kind}_s": t}) for t in times))
    histogram = getattr(delta.by_pool["m", "default", "h100"], kind)

    assert (histogram.counts[:2], histogram.counts[-2:]) == ([2, 1], [1, 1])
    assert sum(histogram.counts) == 5
    assert histogram.seconds == pytest.approx(sum(times))


OBSERVATIONS = st.lists(
    st.builds(
        lambda outcome, pool, ttft, tokens, retries: ended(
            outcome=outcome,
            pool=pool,
            ttft_s=ttft,
            tpot_s=ttft,
            output_tokens=tokens,
            retries=retries,
        ),
        st.sampled_from(Outcome),
        st.sampled_from([None, "h100", "a100"]),
        st.one_of(st.none(), st.sampled_from([0.25, 0.5, 64.0])),
        st.one_of(st.none(), st.integers(1, 999)),
        st.integers(0, 3),
    ),
    max_size=12,
)


@settings(max_examples=50)
@given(OBSERVATIONS, OBSERVATIONS)
def test_flows_merge_by_addition(left, right):
    """Two processes, or two drains of one, sum to what one alone would have told."""
    merged: dict[tuple[str, str, str], PoolStats] = {}
    for delta in (summed(*left), summed(*right)):
        for key, pool_stats in delta.by_pool.items():
            merged.setdefault(key, PoolStats.none()).add(pool_stats)

    assert rounded(merged) == rounded(summed(*left, *right).by_pool)


def rounded(by_pool):
    """Without the last digits of sums, which depend on the order."""
    for stats in by_pool.values():
        for histogram in (stats.input_estimate, stats.output_estimate):
            histogram.seconds = round(histogram.seconds, 6)
    return by_pool


def test_sums_travel_as_a_value():
    """Between processes, as MessagePack."""
    stats = Stats(BUCKETS)
    stats.arrived(3)
    stats.observed(GOOD)
    delta = stats.drain()

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(delta), type=StatsDelta) == delta


def test_what_a_caller_had_of_a_pool_is_its_part_of_the_time_there():
    """A request counts for the seconds that it was in a backend, by its part of what was there;
    waiting for a turn is nobody's."""
    uses = summed(
        ended(duration_s=4.0, beside=4.0),
        ended(duration_s=3.0, waited_s=1.0, beside=2.0),
        ended(caller="other", duration_s=1.0, beside=2.0, width=2, prompts=1, answers=2),
        SHED,
    ).uses

    assert uses[("k", "m", "h100")] == (2, 220, 80, 2.0)
    assert uses[("other", "m", "h100")] == (1, 110, 40, 1.0)
