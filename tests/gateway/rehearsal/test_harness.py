"""How fleets are played: long enough, and full from the start."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.config.load import load
from gateway.rehearsal.harness import KEPT, Harness, replay_harness
from gateway.rehearsal.history import TraceSource, demand_together
from gateway.rehearsal.play import rehearse
from gateway.rehearsal.traffic import ReplayedTraffic
from gateway.routing.estimator import Estimator
from planner.errors import PlayTooLarge
from planner.program import solve
from planner.proof.length import play_length
from planner.traffic.trace import Trace

LOADED = load(Path(__file__).resolve().parents[3] / "configs" / "demo.yaml")
MODEL = "llama-3-8b"


def long_answers() -> Trace:
    """Answers of some 2,500 tokens: at 120 ms a token each stays for five minutes."""
    rng = np.random.default_rng(2)
    outputs = np.clip(rng.lognormal(np.log(2500), 0.4, 2000), 100, 6000).round()
    return Trace(
        arrival_s=np.cumsum(rng.exponential(1.0, 2000)),
        input_tokens=np.full(2000, 200.0),
        output_tokens=outputs,
        key=("",) * 2000,
    )


@pytest.mark.parametrize(("rate", "enough"), [(1.2, True), (1.6, False)])
def test_a_fleet_too_small_for_long_answers_is_found_out(rate: float, enough: bool):
    """Five minutes from an empty fleet say nothing: its requests have not come and gone once."""
    sources, estimator = (TraceSource(trace=long_answers(), model=MODEL),), Estimator()
    demand = demand_together(sources, LOADED, estimator=estimator).scaled_to(rate)
    demand = replace(demand, dispersion=(1.0,))
    plan = solve.assign(demand, LOADED.pools, (0, 1, 0))
    short = ReplayedTraffic(
        trace=sources[0].trace, rate=rate, process="poisson", dispersion=1.0,
        requests=round(300 * rate), estimator=estimator, model=MODEL,
    ).draw(0)  # fmt: skip
    harness = replay_harness(
        sources, demand, LOADED.pools, play_length(demand), process="poisson", estimator=estimator
    )

    emptied = rehearse(short.trace, plan, LOADED.pools, estimated=short.estimated)
    (score,) = harness.play(plan, 0)

    assert emptied.attainment(LOADED.buckets.classes[0].slo) > 0.99
    assert (score.share > 0.99) == enough
    assert enough or score.share < 0.95


def test_a_play_begins_with_what_would_still_be_there():
    """As many in flight as the promise allows, their past in their prompts, in order of arrival."""
    sources, estimator = (TraceSource(trace=long_answers(), model=MODEL),), Estimator()
    demand = demand_together(sources, LOADED, estimator=estimator).scaled_to(2.0)
    slo, length = LOADED.buckets.classes[0].slo, play_length(demand)
    harness = replay_harness(
        sources, demand, LOADED.pools, length, process="poisson", estimator=estimator
    )

    given = harness.sample(3)

    trace = given.sample.trace
    there = trace.cached_tokens > 0
    stay_s = slo.ttft_s + slo.tpot_s * sources[0].trace.output_tokens.mean()
    assert there.sum() == pytest.approx(2.0 * stay_s, rel=0.15)  # Little's law
    assert (trace.output_tokens >= 1).all()
    assert (trace.cached_tokens <= trace.input_tokens).all()
    assert np.all(np.diff(trace.arrival_s) >= 0)
    assert trace.arrival_s[there].max() < given.begin_s
    assert given.end_s - given.begin_s == length.counted_s


def test_all_fleets_meet_the_same_samples():
    """Paired: what differs between two fleets is not what they were asked."""
    sources, estimator = (TraceSource(trace=long_answers(), model=MODEL),), Estimator()
    demand = demand_together(sources, LOADED, estimator=estimator).scaled_to(0.3)
    one, other = (
        replay_harness(
            sources,
            demand,
            LOADED.pools,
            play_length(demand),
            process="own",
            estimator=estimator,
        ).sample(seed)
        for seed in (5, 5)
    )

    assert np.array_equal(one.sample.trace.arrival_s, other.sample.trace.arrival_s)
    assert np.array_equal(one.sample.trace.output_tokens, other.sample.trace.output_tokens)


def harness_of(rate: float, kept: int = KEPT) -> Harness:
    """Plays of long answers at a rate."""
    sources, estimator = (TraceSource(trace=long_answers(), model=MODEL),), Estimator()
    demand = demand_together(sources, LOADED, estimator=estimator).scaled_to(rate)

    def traffic_for(requests: int) -> ReplayedTraffic:
        return ReplayedTraffic(
            trace=sources[0].trace, rate=rate, process="poisson", dispersion=1.0,
            requests=requests, estimator=estimator, model=MODEL,
        )  # fmt: skip

    return Harness(traffic_for, demand, LOADED.pools, play_length(demand), kept=kept)


def test_a_sample_that_is_not_kept_is_drawn_again_the_same():
    """However many seeds are played, memory does not grow with them."""
    kept, dropped = harness_of(1.0), harness_of(1.0, kept=0)

    assert kept.sample(3) is kept.sample(3)
    first, again = dropped.sample(3), dropped.sample(3)
    assert first is not again
    for one in (again, kept.sample(3)):
        assert np.array_equal(one.sample.trace.arrival_s, first.sample.trace.arrival_s)
        assert np.array_equal(one.sample.estimated, first.sample.estimated)


def test_a_play_that_does_not_fit_into_memory_is_refused():
    """At once, and the line says how long it is and how dense."""
    with pytest.raises(PlayTooLarge, match=r"lasts [\d,]+ s at 1,000,000 requests/s"):
        harness_of(1e6).sample(0)
