"""Certified plans: proven by the gateway's own router, and never dearer than what is proven."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.config.load import load
from gateway.rehearsal.certify import certified, sealed
from gateway.rehearsal.harness import observed_harness, replay_harness
from gateway.rehearsal.history import TraceSource, demand_of, demand_together
from gateway.rehearsal.traffic import ObservedTraffic, ReplayedTraffic, observed, replayed
from gateway.rehearsal.trial import halves, trials
from gateway.routing.estimator import Estimator
from planner.program import solve
from planner.program.request import PlanRequest
from planner.proof.certify import certify
from planner.proof.length import PlayLength, play_length
from planner.traffic.trace import dispersion, read_trace

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
TRACE = read_trace(CONFIGS / "workloads" / "azure-2023-history.csv")
MODEL = "llama-3-8b"
SOURCES = (TraceSource(trace=TRACE, model=MODEL),)


@pytest.fixture(scope="module")
def loaded():
    return load(CONFIGS / "demo.yaml")


@pytest.fixture(scope="module")
def found(loaded):
    return certified(loaded, SOURCES, rate=4.0, process="poisson", requests=1, seeds=4)


def test_never_dearer_than_what_is_certified(found):
    """The refined plan holds and costs no more than any start that does."""
    plan, certificate = found.first
    proven = [p.usd_per_hour for _, p, s in found.singles if s.holds]
    proven += [plan.usd_per_hour] if certificate.holds else []

    assert found.refined.certificate.holds
    assert proven
    assert found.refined.plan.usd_per_hour <= min(proven) + 1e-9


def test_a_certificate_holds_on_seeds_nobody_has_seen(loaded, found):
    """On fresh seeds the refined plan's attainment is at most half a point under the target."""
    estimator = Estimator()
    demand_of(TRACE, loaded, estimator=estimator)
    harness = replay_harness(
        SOURCES, found.demand, loaded.pools, play_length(found.demand), process="poisson",
        estimator=estimator,
    )  # fmt: skip

    fresh = certify(found.refined.plan, harness.play, seeds=range(100, 104))

    assert fresh.attainment >= 0.985


@pytest.mark.long
def test_a_margin_is_paid_and_kept(loaded, found):
    """A fleet with a margin costs no less, and keeps its promise on engines that much slower."""
    roomy = certified(loaded, SOURCES, rate=4.0, process="poisson", seeds=4, margin=0.3)
    plan, margin = roomy.refined.plan, roomy.refined.certificate
    slower = tuple(replace(pool, profile=pool.profile.slowed(1.3)) for pool in loaded.pools)
    harness = observed_harness(
        roomy.demand, loaded.pools, play_length(roomy.demand), engines=slower
    )
    assert harness is not None

    assert roomy.margin == 0.3
    assert margin.holds
    assert plan.usd_per_hour >= found.refined.plan.usd_per_hour - 1e-9
    assert certify(plan, harness.play, seeds=range(200, 204)).attainment >= 0.985


def test_by_default_the_margin_is_the_error_of_the_profiles(loaded, found):
    """A profile that nobody measured counts as a tenth off, and demand as the worst of them."""
    assert found.margin == max(pool.profile.error for pool in loaded.pools) == 0.1


def test_short_plays_cannot_hide_long_answers(loaded):
    """However few requests are asked for, a play lasts for several of the longest stays."""
    demand = demand_of(TRACE, loaded, estimator=Estimator())
    long = replace(demand, output_tokens=demand.output_tokens * 20)

    usual, longer = (play_length(d, requests=1) for d in (demand, long))

    assert usual.counted_s == 300
    assert longer.counted_s > 3 * 0.12 * np.quantile(long.output_tokens, 0.9)


def test_the_same_question_has_the_same_answer(loaded, found):
    """Same trace, rate and seeds: the same plans and certificates."""
    again = certified(loaded, SOURCES, rate=4.0, process="poisson", requests=1, seeds=4)

    assert again.refined.plan.plan_id == found.refined.plan.plan_id
    assert again.refined.certificate == found.refined.certificate


@pytest.mark.parametrize("process", ["own", "gamma", "poisson"])
def test_traffic_comes_at_the_rate_and_with_the_sizes_asked_for(loaded, process):
    """Whatever the arrivals: the rate, sizes from the trace, and beliefs for each request."""
    estimator = Estimator()
    demand_of(TRACE, loaded, estimator=estimator)
    traffic = ReplayedTraffic(
        trace=TRACE, rate=20.0, process=process, dispersion=4.0, requests=3000, estimator=estimator,
        model=MODEL,
    )  # fmt: skip

    drawn, again = traffic.draw(1), traffic.draw(1)
    trace, estimated = drawn.trace, drawn.estimated

    assert trace.rate == pytest.approx(20.0, rel=0.25)
    assert set(trace.input_tokens) <= set(TRACE.input_tokens)
    assert estimated.shape == (len(trace), 3)
    assert np.all(estimated[:, 2] >= estimated[:, 1])
    assert np.array_equal(trace.arrival_s, again.trace.arrival_s)


def test_gamma_arrivals_have_the_dispersion_asked_for(loaded):
    """Bursts by design: counts in 10 s windows vary four times as much as Poisson's."""
    traffic = ReplayedTraffic(
        trace=TRACE, rate=20.0, process="gamma", dispersion=4.0, requests=40_000,
        estimator=Estimator(), model=MODEL,
    )  # fmt: skip

    times = traffic.draw(0).trace.arrival_s

    assert dispersion(times, 10.0, times[-1]) == pytest.approx(4.0, rel=0.25)


def test_observed_demand_is_played_as_it_was_counted(loaded):
    """Drawn from a demand: its rate, its mean sizes, and every request in its own bucket."""
    demand = replace(demand_of(TRACE, loaded, estimator=Estimator()), dispersion=(1.0,))
    drawn = ObservedTraffic(demand, 0, 6000).draw(3)
    trace, estimated = drawn.trace, drawn.estimated

    grid = demand.buckets.grid
    counted = demand.rate[demand.bucket] * demand.share / demand.total_rate
    buckets = [grid.cell(int(i), int(o)) for i, o, _ in estimated]
    shares = np.bincount(buckets, minlength=grid.cells) / len(buckets)
    assert trace.rate == pytest.approx(demand.total_rate, rel=0.1)
    assert trace.input_tokens.mean() == pytest.approx(counted @ demand.input_tokens, rel=0.1)
    assert trace.output_tokens.mean() == pytest.approx(counted @ demand.output_tokens, rel=0.1)
    assert shares == pytest.approx(demand.rate / demand.total_rate, abs=0.03)


def test_an_underprovisioned_plan_fails_on_either_kind_of_traffic(loaded):
    """The certificate is able to fail: the same shares on a fleet that is too small."""
    estimator = Estimator()
    demand = demand_of(TRACE, loaded, estimator=estimator).scaled_to(8.0)
    plan = solve.assign(demand, loaded.pools, (1, 0, 0))
    length = play_length(demand)
    kinds = (
        observed_harness(demand, loaded.pools, length),
        replay_harness(SOURCES, demand, loaded.pools, length, process="own", estimator=estimator),
    )

    seals = [certify(plan, harness.play) for harness in kinds if harness is not None]

    assert [certificate.holds for certificate in seals] == [False, False]


THREE = (
    TraceSource(trace=TRACE, model=MODEL),
    TraceSource(trace=TRACE, model=MODEL, slo_class="batch"),
    TraceSource(trace=TRACE, model="other"),
)


@pytest.mark.parametrize("process", ["own", "gamma"])
def test_several_classes_come_at_once_and_each_at_its_rate(shared, process):
    """One stretch in order of arrival, a third of it of each class, for as long as it should be."""
    estimator = Estimator()
    demand = demand_together(THREE, shared, estimator=estimator).scaled_to(30.0)

    drawn = replayed(THREE, demand, process=process, requests=3000, estimator=estimator).draw(2)

    assert np.all(np.diff(drawn.trace.arrival_s) >= 0)
    assert drawn.trace.duration_s == pytest.approx(100.0, rel=0.02)
    assert np.bincount(drawn.slo_class) == pytest.approx([1000] * 3, rel=0.35)
    assert len(drawn.estimated) == len(drawn.slo_class) == len(drawn.trace)
    assert (drawn.estimated[:, 0] == drawn.trace.input_tokens).all()


@pytest.mark.long
def test_several_models_and_classes_are_certified_together(shared):
    """One plan for all, within the stock that they share; every class is held to its own promise,
    and the certificate is that of the worst."""
    found = certified(shared, THREE, rate=3.0, process="poisson", requests=1, seeds=4, margin=0.0)

    plan, certificate = found.refined.plan, found.refined.certificate
    assert certificate.holds
    assert (certificate.model, certificate.slo_class) in {(s.model, s.slo_class) for s in THREE}
    assert plan.usd_per_hour <= min([p.usd_per_hour for _, p, _ in found.singles], default=1e9)
    assert {p.model for p, n in zip(shared.pools, plan.backends, strict=True) if n} == {
        MODEL, "other"
    }  # fmt: skip
    assert all(certificate.holds for _, _, certificate in found.singles)


@pytest.mark.long
def test_a_certified_plan_tells_the_certified_fleets_of_one_gpu_type(shared):
    """Also the plan that was in force already: what it saves is against what was proven."""
    demand = demand_together(THREE[:1], shared, estimator=Estimator()).scaled_to(2.0)
    pools = shared.pools[:3]
    plan = solve.provision(demand, pools)
    request = PlanRequest(objective="provision", demand=demand, pools=pools, running=plan.backends)

    own, refined = sealed(request, plan)

    assert own.certificate is not None
    assert refined is not None
    assert own.singles == refined.singles
    assert own.singles
    assert all(single.certified for single in own.singles)


def seal(plan, demand, pools):
    """A given fleet with its certificate."""
    request = PlanRequest(objective="assign", demand=demand, pools=pools, running=plan.backends)
    return sealed(request, plan, 60.0)[0]


@pytest.mark.long
def test_a_live_certificate_plays_all_observed_classes_at_once(shared):
    """Apart each class would hold on the fleet; together they are too many for it."""
    estimator = Estimator()
    sources = THREE[:2]
    demand = demand_together(sources, shared, estimator=estimator).scaled_to(20.0)
    pools = shared.pools[:3]
    plan = solve.assign(demand, pools, (0, 0, 1))
    cells = demand.buckets.grid.cells
    apart = [
        replace(
            demand, rate=np.where(np.arange(demand.buckets.count) // cells == c, demand.rate, 0)
        )
        for c in (0, 1)
    ]

    held = [seal(plan, one, pools).certificate for one in apart]
    certificate = seal(plan, demand, pools).certificate

    assert [one is not None and one.holds for one in held] == [True, True]
    assert certificate is not None
    assert not certificate.holds
    # The stricter class goes first, so that it is the other one that is short of room.
    assert (certificate.model, certificate.slo_class) == (MODEL, "batch")


def test_classes_that_nobody_asked_for_have_no_traffic(shared):
    """Only what was observed is played; nothing observed is no traffic and no certificate."""
    demand = demand_of(TRACE, shared, estimator=Estimator())
    nothing = replace(demand, rate=np.zeros(demand.buckets.count))
    plan = solve.assign(demand, shared.pools, (1, 1, 1, 0, 0, 0))
    traffic = observed(demand, 500)

    assert traffic is not None
    assert set(traffic.draw(0).slo_class.tolist()) == {0}
    assert observed(nothing, 500) is None
    assert seal(plan, nothing, shared.pools).certificate is None


def daily(swing):
    """Days of ten minutes at 10 requests/s, one drawn and one to be played."""
    estimator = Estimator()
    loaded = load(CONFIGS / "demo.yaml")
    demand = demand_together(SOURCES, loaded, estimator=estimator).scaled_to(10.0)
    demand = replace(demand, dispersion=(1.0,))
    traffic = replayed(
        SOURCES, demand, process="daily", requests=6000, estimator=estimator, swing=swing
    )
    length = PlayLength(history_s=60.0, lead_s=20.0, counted_s=600.0, tail_s=20.0)
    harness = replay_harness(
        SOURCES, demand, loaded.pools, length, process="daily", estimator=estimator, swing=swing
    )
    return traffic, harness


def test_a_day_rises_from_its_trough_to_its_peak_and_falls():
    """The stretch is one period of `mean·(1 + swing·cos)`, the mean as asked for."""
    drawn = daily(0.8)[0].draw(1)

    counts, _ = np.histogram(drawn.trace.arrival_s, bins=8, range=(0.0, 600.0))

    middle = (np.arange(8) + 0.5) / 8
    assert counts / 75 == pytest.approx(10 * (1 - 0.8 * np.cos(2 * np.pi * middle)), rel=0.15)
    assert drawn.trace.duration_s == pytest.approx(600, rel=0.05)


def test_a_day_is_harder_than_its_mean_and_easier_than_its_peak(loaded):
    """A fleet for the mean rate breaks its promise in the busy hours; one for the peak keeps it."""
    demand = replace(demand_of(TRACE, loaded, estimator=Estimator()), dispersion=(1.0,))
    mean, peak = (
        solve.assign(demand.scaled_to(rate), loaded.pools, counts)
        for rate, counts in ((10.0, (0, 1, 0)), (18.0, (0, 3, 0)))
    )
    harness, flat = daily(0.8)[1], daily(0.0)[1]

    share = {
        name: use.play(plan, 0)[0].share
        for name, use, plan in (
            ("flat", flat, mean), ("mean", harness, mean), ("peak", harness, peak)
        )
    }  # fmt: skip

    assert share["flat"] > share["mean"] + 0.05
    assert share["peak"] > 0.99


@pytest.mark.long
def test_a_certified_day_is_planned_for_its_peak(loaded):
    """The demand of the plan is the mean times 1 + swing; the attainment is that of the day."""
    found = certified(
        loaded, SOURCES, rate=4.0, process="daily", swing=0.5, requests=400, seeds=2
    )  # fmt: skip

    assert found.demand.total_rate == pytest.approx(6.0)
    assert sum(found.refined.plan.rate) == pytest.approx(6.0)
    assert found.refined.certificate.holds


@pytest.mark.long
def test_trials_play_what_the_plan_does_not_know(loaded):
    """The second half of the trace is none of the first; slower engines do no better."""
    first, second = halves(SOURCES)
    result = certified(loaded, first, rate=4.0, process="poisson", requests=1, seeds=2, margin=0.0)

    found = {
        trial.name: trial.certificate
        for trial in trials(result, loaded, first, second, process="poisson", seeds=2)
    }

    assert len(first[0].trace) + len(second[0].trace) == len(TRACE)
    assert list(found) == [
        "fresh seeds", "5 times as long", "later half", "engines 10% slower"
    ]  # fmt: skip
    assert found["5 times as long"].requests > 4 * found["fresh seeds"].requests
    assert found["engines 10% slower"].attainment <= found["fresh seeds"].attainment
