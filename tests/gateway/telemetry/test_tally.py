"""Sums of what happened."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.observation import FIELDS, Observation, Outcome
from gateway.telemetry.stats import TPOT_S, TTFT_S, Flow, Sums
from gateway.telemetry.tally import Tally
from planner.traffic.demand import fine_cell

GOOD = Observation(
    model="m", key="k", route="chat", stream=True, bucket=3, prompt_bytes=400, max_tokens=None,
    estimated_input=100, estimated_output=50, exact_input=False, outcome=Outcome.OK, status=200,
    duration_s=2.0, ttft_s=0.3, tpot_s=0.02, input_tokens=110, output_tokens=40, pool="h100",
    backend="h100-0", plan_id="p", decision="planned",
)  # fmt: skip


def replace(observation, **fields):
    """The same but for some fields."""
    return Observation(**{name: getattr(observation, name) for name in FIELDS} | fields)


SHED = replace(
    GOOD, outcome=Outcome.SHED, status=429, ttft_s=None, tpot_s=None, input_tokens=None,
    output_tokens=None, pool=None, backend=None, plan_id=None, decision=None,
)  # fmt: skip


def summed(*observations):
    tally = Tally()
    for observation in observations:
        tally.observed(observation)
    return tally.drain()


def test_draining_begins_anew():
    """Nothing is told twice, and nothing is lost between two drains."""
    tally = Tally()
    tally.arrived(3)
    tally.observed(GOOD)
    first = tally.drain()
    tally.arrived(3)
    tally.arrived(5)
    second = tally.drain()

    assert (first.arrivals, second.arrivals) == ({3: 1}, {3: 1, 5: 1})
    assert (list(first.flows), second.flows) == ([("m", "h100")], {})
    assert tally.drain() == Sums()


def test_every_arrival_counts_whatever_becomes_of_it():
    """Demand includes what was shed; only whole answers have an actual size."""
    tally = Tally()
    for observation in (GOOD, SHED):
        tally.arrived(observation.bucket)
        tally.observed(observation)
    sums = tally.drain()

    assert sums.arrivals == {3: 2}
    assert sums.sizes == {(3, fine_cell(110, 40)): (1.0, 110.0, 40.0)}
    assert sums.flows["m", ""].outcomes == {"shed": 1}
    assert sums.flows["m", ""].decisions == {}


def test_an_unreported_size_is_the_estimate():
    """Engines that report no usage still have demand; an embedding has one token of output."""
    silent = replace(GOOD, input_tokens=None, output_tokens=None)

    assert summed(silent).sizes == {(3, fine_cell(100, 1)): (1.0, 100.0, 1.0)}


@pytest.mark.parametrize("kind", ["ttft", "tpot"])
def test_times_fall_into_the_bucket_that_ends_at_them(kind):
    """Bounds belong to the bucket below, as in Prometheus; what is above all has its own."""
    bounds = TTFT_S if kind == "ttft" else TPOT_S
    times = [0.0, bounds[0], bounds[0] * 1.01, bounds[-1], bounds[-1] * 2]
    sums = summed(*(replace(GOOD, **{f"{kind}_s": t}) for t in times))
    spread = getattr(sums.flows["m", "h100"], kind)

    assert (spread.counts[:2], spread.counts[-2:]) == ([2, 1], [1, 1])
    assert sum(spread.counts) == 5
    assert spread.seconds == pytest.approx(sum(times))


OBSERVATIONS = st.lists(
    st.builds(
        lambda outcome, pool, ttft, tokens, retries: replace(
            GOOD,
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
    merged: dict[tuple[str, str], Flow] = {}
    for sums in (summed(*left), summed(*right)):
        for key, flow in sums.flows.items():
            merged.setdefault(key, Flow.none()).add(flow)

    assert merged == summed(*left, *right).flows


def test_sums_travel_as_a_value():
    """Between processes, as MessagePack."""
    tally = Tally()
    tally.arrived(3)
    tally.observed(GOOD)
    sums = tally.drain()

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sums), type=Sums) == sums
