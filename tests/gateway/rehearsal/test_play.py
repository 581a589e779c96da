"""A plan rehearsed: the router's own decisions, in virtual time, with what it believes."""

from collections import Counter
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from gateway.access.callers import caller_id
from gateway.rehearsal.play import LEFTOVER, rehearse
from gateway.routing.admission import QueueLimits
from gateway.routing.estimator import Estimator
from planner.errors import InvalidValue
from planner.model.buckets import SloClass
from planner.program import solve
from planner.slo import Slo
from planner.traffic.trace import Trace

SLO = Slo(ttft_s=2.0, tpot_s=0.1)
NO_QUEUE = QueueLimits(requests=0, tokens=1, timeout_s=0.0)


def make_trace(rate, count=2000, seed=5, key="k"):
    """Poisson arrivals with the sizes of the plan's demand."""
    rng = np.random.default_rng(seed)
    return Trace(
        arrival_s=np.cumsum(rng.exponential(1 / rate, count)),
        input_tokens=np.clip(np.rint(rng.lognormal(np.log(300), 0.6, count)), 10, 2000),
        output_tokens=np.clip(np.rint(rng.lognormal(np.log(120), 0.5, count)), 2, 500),
        key=(key,) * count,
    )


def truth(trace):
    """Beliefs that are right."""
    return np.stack([trace.input_tokens, trace.output_tokens], axis=1)


@pytest.fixture(scope="module")
def mixed(make_demand, pools):
    """A plan with two backends of each type and shares on more than one of them."""
    plan = solve.assign(make_demand(14.0), pools, (2, 2, 2))
    assert sum(0 < w < 1 for row in plan.weights for w in row) > 0
    return plan


def test_shares_are_the_plans_when_nothing_spills(mixed, pools):
    """At a trickle every bucket's requests go to the pools exactly as weighted, to one request."""
    trace = make_trace(rate=0.5)

    seen = rehearse(trace, mixed, pools, estimated=truth(trace))

    assert set(seen.decision) == {"planned"}
    for bucket, total in Counter(seen.bucket.tolist()).items():
        counts = np.bincount(seen.pool[seen.bucket == bucket], minlength=len(pools))
        assert counts == pytest.approx(total * np.array(mixed.weights[bucket]), abs=1.001)


def test_engines_are_numbered_pool_by_pool(mixed, pools):
    """A request's pool and its engine tell the same story, and each pool uses all its backends."""
    trace = make_trace(rate=10.0, count=500)

    seen = rehearse(trace, mixed, pools, estimated=truth(trace))

    assert (seen.pool == seen.result.backend // 2).all()
    assert set(seen.result.backend.tolist()) == set(range(6))


def test_a_plan_holds_its_slo_at_its_demand(plan, pools):
    """What was planned for 12 requests/s serves 12 requests/s within the SLO."""
    trace = make_trace(rate=12.0)

    assert rehearse(trace, plan, pools, estimated=truth(trace)).attainment(SLO) >= 0.98


def test_more_work_than_capacity_is_refused_and_the_rest_keeps_its_promise(plan, pools):
    """At ten times the plan's demand as much is served as before, in time, and the rest is refused,
    most of it at once; without a queue all of it."""
    trace = make_trace(rate=120.0, count=3000)

    seen = rehearse(trace, plan, pools, estimated=truth(trace))
    hasty = rehearse(trace, plan, pools, estimated=truth(trace), limits=NO_QUEUE)

    served = seen.result.backend >= 0
    assert [d == "shed" for d in seen.decision] == (seen.pool < 0).tolist()
    assert seen.result.met(SLO)[served].mean() > 0.985
    assert seen.result.met(SLO).sum() / trace.duration_s > 12.0
    assert np.median(seen.waited_s[~served]) < 0.2
    assert not hasty.waited_s.any()
    assert (seen.bucket >= 0).all()


def test_the_strict_class_goes_first_and_the_lax_one_takes_the_rest(make_demand, pools):
    """Twice the capacity in two classes: the strict one, alone below it, is served whole."""
    plan = solve.assign(two_classes(make_demand(14.0)), pools, (1, 0, 0))
    trace = make_trace(rate=12.0, count=3000)
    whose = (np.arange(3000) % 3 > 0).astype(np.int64)

    seen = rehearse(trace, plan, pools, slo_class=whose, estimated=truth(trace))

    served, met = seen.result.backend >= 0, seen.met(plan.buckets)
    assert served[whose == 0].mean() > 0.97
    assert met[served].mean() > 0.985
    assert 0.1 < served[whose == 1].mean() < 0.9


@pytest.mark.parametrize("workers", [1, 4])
def test_a_caller_that_asks_for_little_gets_all_of_it(plan, pools, workers):
    """At four times the capacity nine tenths are one caller's: the other one does not notice, on
    one worker or on one of four."""
    trace = make_trace(rate=60.0, count=3000)
    polite = np.random.default_rng(1).random(3000) < 0.1
    trace = replace(trace, key=tuple("polite" if p else "greedy" for p in polite))
    worker = np.where(polite, 0, np.arange(3000) % workers)

    seen = rehearse(trace, plan, pools, estimated=truth(trace), workers=worker)

    served = seen.result.backend >= 0
    assert served[polite].mean() > 0.97
    assert served[~polite].mean() < 0.5


def test_best_effort_takes_what_is_left(plan, pools):
    """Requests without a promise are served beside promised ones, which lose nothing by them."""
    trace = make_trace(rate=14.0, count=2000)
    whose = np.where(np.arange(2000) % 2 > 0, LEFTOVER, 0)

    seen = rehearse(trace, plan, pools, slo_class=whose, estimated=truth(trace))

    served, left = seen.result.backend >= 0, whose == LEFTOVER
    assert seen.result.met(SLO)[~left].mean() > 0.98
    assert served[left].mean() > 0.5
    assert {d for d, is_left in zip(seen.decision, left, strict=True) if is_left} <= {
        "best-effort", "shed"
    }  # fmt: skip


def test_the_same_input_gives_the_same_rehearsal(plan, pools):
    """Two rehearsals agree in every bit, learned lengths included."""
    trace = make_trace(rate=20.0, count=800)

    one, two = (rehearse(trace, plan, pools) for _ in range(2))

    assert one.result.ttft_s.tobytes() == two.result.ttft_s.tobytes()
    assert one.result.tpot_s.tobytes() == two.result.tpot_s.tobytes()
    assert one.decision == two.decision


def test_lengths_are_learned_as_requests_end(plan, pools):
    """The first request is taken for the prior, later ones for what ended before they came."""
    count = 60
    trace = Trace(
        arrival_s=np.arange(count, dtype=float) * 30.0,
        input_tokens=np.full(count, 200.0),
        output_tokens=np.full(count, 450.0),
        key=("k",) * count,
    )
    estimator = Estimator()

    seen = rehearse(trace, plan, pools, estimator=estimator)

    right = plan.buckets.grid.cell(200, 450)
    assert seen.bucket[0] != right
    assert (seen.bucket[30:] == right).all()
    known = estimator.estimate_size(200, model="llama-3-8b", caller=caller_id(b"Bearer k"))
    assert known.output_tokens > 400


def test_spill_goes_by_the_p90_that_is_given(mixed, pools):
    """Beliefs of three columns carry the P90 of the output; of two, the output is sure."""
    columns = len(mixed.buckets.grid.output_edges) - 1
    only = replace(
        mixed,
        weights=((1.0, 0.0, 0.0),) * mixed.buckets.count,
        seconds=tuple(
            (row[0], inf, inf) if bucket % columns == columns - 1 else row
            for bucket, row in enumerate(mixed.seconds)
        ),
    )
    trace = make_trace(rate=40.0, count=400)
    sure = np.column_stack([trace.input_tokens, np.full(400, 100.0)])
    unsure = np.column_stack([sure, np.full(400, 500.0)])

    spilled = rehearse(trace, only, pools, estimated=sure).decision.count("spill")

    assert spilled > 50
    assert rehearse(trace, only, pools, estimated=unsure).decision.count("spill") == 0


def test_a_first_token_ends_the_pending_prefill(make_demand, pools):
    """Prompts that were read weigh no longer: a backend full of decoding takes the next prompt."""
    plan = solve.assign(make_demand(1.0), pools, (0, 0, 1))
    count = 70
    trace = Trace(
        arrival_s=np.arange(count, dtype=float),
        input_tokens=np.full(count, 1900.0),
        output_tokens=np.full(count, 3000.0),
        key=("",) * count,
    )
    together_s = 1900 * pools[2].profile.prefill_s_per_token * 50

    seen = rehearse(trace, plan, pools, estimated=truth(trace))

    assert together_s > SLO.ttft_s  # of the fifty and more that decode at once
    assert set(seen.decision) == {"planned"}


def test_learned_keys_are_the_gateways_own(plan, pools):
    """Lengths taught under an Authorization header are found by the key of the trace."""
    estimator = Estimator()
    for _ in range(300):
        for key, tokens in ((b"long", 450), (b"short", 40)):
            caller = caller_id(b"Bearer " + key)
            estimator.learn_size(200, tokens, model="llama-3-8b", caller=caller)
    trace = Trace(
        arrival_s=np.arange(2.0),
        input_tokens=np.full(2, 200.0),
        output_tokens=np.full(2, 100.0),
        key=("long", "short"),
    )

    seen = rehearse(trace, plan, pools, estimator=estimator)

    cell = plan.buckets.grid.cell
    assert seen.bucket.tolist() == [cell(200, 450), cell(200, 40)]


def test_a_request_that_waits_keeps_its_first_belief(make_demand, pools):
    """The estimate is made once, at arrival, whatever was learned while the request waited."""
    plan = solve.assign(make_demand(1.0), pools, (0, 0, 1))
    alone = replace(plan, slots=((1.0,) * len(pools),) * plan.buckets.count)  # one at a time
    trace = Trace(
        arrival_s=np.array([0.0, 0.001, 60.0]),
        input_tokens=np.full(3, 200.0),
        output_tokens=np.full(3, 2.0),
        key=("",) * 3,
    )

    seen = rehearse(trace, alone, pools)

    assert seen.result.ttft_s[1] > seen.result.ttft_s[0] + 0.001  # it waited
    assert (seen.pool == 2).all()
    assert seen.bucket[1] == seen.bucket[0] != seen.bucket[2]


def test_what_no_engine_can_hold_is_shed(plan, pools):
    """A request beyond the context is no decision of the router's that counts."""
    trace = make_trace(rate=1.0, count=3)
    trace.input_tokens[1] = 9000.0

    seen = rehearse(trace, plan, pools, estimated=truth(trace))

    assert [d == "shed" for d in seen.decision] == [False, True, False]
    assert seen.pool[1] == -1


def test_beliefs_must_match_the_trace(plan, pools):
    """A wrong shape and two sources of belief are refused."""
    trace = make_trace(rate=1.0, count=10)

    with pytest.raises(InvalidValue, match=r"\(10, 2\)"):
        rehearse(trace, plan, pools, estimated=np.ones((9, 2)))
    with pytest.raises(InvalidValue, match="not both"):
        rehearse(trace, plan, pools, estimated=np.ones((10, 2)), estimator=Estimator())


def test_a_plan_without_backends_sheds_everything(plan, pools):
    """An empty fleet is no error: nothing is served and the result says so."""
    empty = replace(plan, backends=(0,) * len(pools))

    seen = rehearse(make_trace(rate=1.0, count=5), empty, pools)

    assert seen.decision == ("shed",) * 5
    assert seen.attainment(SLO) == 0.0


def two_classes(demand):
    """The demand half under its own promise, half under one that is hard to break."""
    buckets = replace(
        demand.buckets,
        classes=(
            *demand.buckets.classes,
            SloClass(model="llama-3-8b", slo=Slo(ttft_s=60.0, tpot_s=1.0), name="batch"),
        ),
    )
    bucket = np.concatenate([demand.bucket, demand.bucket + demand.buckets.count])
    twice = {name: np.tile(getattr(demand, name), 2)
             for name in ("input_tokens", "output_tokens", "share")}  # fmt: skip
    rate = np.tile(demand.rate / 2, 2)
    return replace(
        demand, buckets=buckets, rate=rate, bucket=bucket, dispersion=(1.2, 1.2), **twice
    )


def test_each_request_is_judged_by_the_promise_of_its_own_class(make_demand, pools):
    """Same fleet, same sizes, two verdicts: each by the promise of the request's class."""
    plan = solve.assign(two_classes(make_demand(14.0)), pools, (1, 0, 0))
    trace = make_trace(rate=20.0, count=600)
    whose = np.arange(600) % 2

    seen = rehearse(trace, plan, pools, slo_class=whose, estimated=truth(trace))

    met = seen.met(plan.buckets)
    assert (seen.bucket // plan.buckets.grid.cells == whose).all()
    assert (met == np.where(whose == 1, seen.result.met(plan.buckets.classes[1].slo),
                            seen.result.met(SLO))).all()  # fmt: skip
    assert not seen.result.met(SLO)[(whose == 1) & met].all()


def test_models_are_served_by_their_own_pools(make_demand, pools):
    """Two models on one fleet: no request lands on a backend of the other model."""
    one, two = pools[0], replace(pools[2], model="other")
    demand = two_classes(make_demand(6.0))
    kinds = demand.buckets.classes[0], replace(demand.buckets.classes[0], model="other")
    demand = replace(demand, buckets=replace(demand.buckets, classes=kinds))
    plan = solve.assign(demand, (one, two), (3, 1))
    trace = make_trace(rate=5.0, count=300)
    whose = (np.arange(300) % 3 == 0).astype(np.int64)

    seen = rehearse(trace, plan, (one, two), slo_class=whose)

    assert (seen.pool == whose).all()


def test_classes_must_match_the_trace(plan, pools):
    """A wrong shape and a class that is not in the plan are refused."""
    trace = make_trace(rate=1.0, count=10)

    with pytest.raises(InvalidValue, match=r"\(10,\)"):
        rehearse(trace, plan, pools, slo_class=np.zeros(9, dtype=int))
    with pytest.raises(InvalidValue, match="from -1 to 0"):
        rehearse(trace, plan, pools, slo_class=np.ones(10, dtype=int))
