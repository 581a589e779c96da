"""When a plan is replaced, and that nothing else ever replaces it."""

import asyncio
from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from gateway.control.observed import ObservedDemand
from gateway.control.replan import MOVED, Replanner, ReplanPolicy, by_chance, moved
from gateway.control.solver import tasks
from gateway.control.solver.compare import compare
from gateway.control.solver.process import Solver
from gateway.telemetry.stats_schema import StatsDelta
from planner.errors import SolverFailed
from planner.model.plan import Certificate
from planner.program import solve
from planner.program.headroom import utilisations

CERTIFICATE = Certificate(
    attainment=0.995,
    low=0.992,
    high=0.998,
    worst=0.99,
    target=0.99,
    seeds=16,
    requests=9000,
    peak=1.4,
)


async def all_done():
    """Wait for what goes on beside the looks."""
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})


class Solves:
    """Answers with the next of its plans, or raises it; the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.sealed, self.refined = [], None
        self.uncertain = self.speechless = self.endless = False
        self.began = asyncio.Event()

    async def seal(self, request, plan):
        self.sealed.append((plan.plan_id, request.demand.total_rate))
        self.began.set()
        if self.endless:
            await asyncio.Event().wait()
        if self.uncertain:
            raise SolverFailed("the plays took too long")
        return replace(plan, certificate=CERTIFICATE), self.refined

    async def plan(self, request):
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def compare(self, *arguments):
        if self.speechless:
            raise SolverFailed("the solver's process died")
        return compare(*arguments)


class Published(list):
    """The plans put in force, an event for the first, and what came of every look."""

    def __init__(self):
        super().__init__()
        self.changed = asyncio.Event()
        self.results = []

    def publish(self, plan, reason):
        self.append((plan.plan_id, reason))
        self.changed.set()

    def looked(self, result, why):
        assert why  # nobody must guess
        self.results.append(result)


@pytest.fixture
def loop_of(buckets, pools):
    """A replanner on a histogram that has seen a demand, and what it published."""

    def make(
        plan, demand, *answers, objective="provision", requests=300, ready=(4, 4, 4),
        outpaced=lambda: False, **policy,
    ):  # fmt: skip
        there = pools
        if ready != (4, 4, 4):
            there = tuple(
                replace(pool, max_backends=n) for pool, n in zip(pools, ready, strict=True)
            )
        observed = ObservedDemand(
            buckets, window_s=100.0, memory_s=900.0, dispersion=1.2, now_s=0.0
        )
        observed.remember(demand, 100.0)
        rng = np.random.default_rng(4)
        drawn = rng.choice(buckets.count, requests, p=demand.rate / demand.total_rate)
        for n, bucket in enumerate(drawn):
            observed.arrive(int(bucket), n / demand.total_rate)
        solver, published = Solves(*answers), Published()
        settings = {"min_requests": 50, "min_saving": 0.05, "patience": 3} | policy
        replanner = Replanner(
            plan=plan,
            pools=lambda: there,
            running=lambda: (4, 4, 4),
            ready=lambda: ready,
            policy=ReplanPolicy(objective=objective, **settings),
            observed=observed,
            solver=cast(Solver, solver),
            publish=published.publish,
            on_look=published.looked,
            outpaced=outpaced,
        )
        return replanner, published, solver, requests / demand.total_rate

    return make


async def looks(replanner, now_s, times):
    return [await replanner.look(now_s) for _ in range(times)]


@pytest.fixture(scope="session")
def plans(make_demand, pools):
    """Cheapest plans for 3, 12 and 30 requests/s."""
    return {rate: solve.provision(make_demand(rate), pools) for rate in (3.0, 12.0, 30.0)}


async def test_a_plan_that_holds_and_cannot_be_bettered_stays(loop_of, plans, make_demand):
    """The same demand as planned for changes nothing, however often it is looked at."""
    rival = replace(plans[12.0], plan_id="rival")
    replanner, published, solver, now_s = loop_of(plans[12.0], make_demand(11.0), rival)

    assert await looks(replanner, now_s, 8) == [None] * 8
    assert published == []
    assert published.results == ["kept"] * 8
    assert replanner.plan is plans[12.0]
    assert [request.objective for request in solver.asked] == ["provision"] * 8
    assert solver.asked[0].running == (4, 4, 4)


async def test_a_plan_that_no_longer_holds_is_replaced_after_two_looks(loop_of, plans, make_demand):
    """One look alone may be chance."""
    replanner, published, _, now_s = loop_of(plans[3.0], make_demand(12.0), plans[30.0])

    first, second = await looks(replanner, now_s, 2)

    assert (first, second) == (None, plans[30.0])
    assert replanner.plan is plans[30.0]
    [(plan_id, reason)] = published
    assert plan_id == plans[30.0].plan_id
    assert "no longer holds" in reason


async def test_fleets_are_played_beside_the_looks_and_when_demand_has_moved(
    loop_of, plans, make_demand
):
    """Once for a plan and a demand; a failure costs the certificate, not the plan."""
    plan = plans[12.0]
    replanner, published, solver, now_s = loop_of(plan, make_demand(11.0), plan)
    solver.uncertain = True

    await replanner.look(now_s)
    await all_done()
    uncertain = replanner.plan
    await replanner.look(now_s)
    await all_done()
    once = len(solver.sealed)
    await replanner.look(3 * now_s)  # nothing came since: a third as many per second
    await all_done()

    assert published == []
    assert uncertain.certificate is None
    assert once == 1
    assert len(solver.sealed) == 2


async def test_a_search_from_a_plan_that_was_replaced_is_given_up(loop_of, plans, make_demand):
    """Its result would not be used, and the search from the present plan would wait for it."""
    replanner, _, solver, now_s = loop_of(plans[3.0], make_demand(12.0), plans[30.0])
    solver.endless = True

    await replanner.look(now_s)
    await solver.began.wait()
    solver.endless = False
    await replanner.look(now_s)
    await all_done()

    assert [plan_id for plan_id, _ in solver.sealed] == [plans[3.0].plan_id, plans[30.0].plan_id]
    assert replanner.plan.certificate == CERTIFICATE


async def test_the_certified_plan_replaces_the_safe_one(loop_of, plans, make_demand):
    """As soon as it is known, if it is cheaper by min_saving; then it is played no more."""
    safe = plans[12.0]
    cheaper = replace(
        safe, plan_id="cheaper", usd_per_hour=0.8 * safe.usd_per_hour, certificate=CERTIFICATE
    )
    replanner, published, solver, now_s = loop_of(safe, make_demand(11.0), safe)
    solver.refined = cheaper

    for _ in range(4):
        await replanner.look(now_s)
        await all_done()

    assert replanner.plan is cheaper
    assert [plan_id for plan_id, _ in published] == ["cheaper"]
    assert "certified, and 20% cheaper" in published[0][1]
    assert len(solver.sealed) == 1


async def test_a_saving_too_small_only_brings_the_certificate(loop_of, plans, make_demand):
    """The plan in force stays, and says what it proved."""
    safe = plans[12.0]
    replanner, published, solver, now_s = loop_of(safe, make_demand(11.0), safe)
    solver.refined = replace(safe, plan_id="same", usd_per_hour=0.97 * safe.usd_per_hour)

    await replanner.look(now_s)
    await all_done()

    assert published == []
    assert replanner.plan == replace(safe, certificate=CERTIFICATE)


async def test_a_certified_plan_holds_up_to_what_it_was_played_with(loop_of, plans, make_demand):
    """The formula would call it too small; its certificate speaks for it, and not beyond."""
    plan = replace(plans[12.0], certificate=CERTIFICATE)
    rival = plans[30.0]

    kept = loop_of(plan, make_demand(13.5), rival)
    swapped = loop_of(plan, make_demand(29.0), rival)
    for replanner, _, _, now_s in (kept, swapped):
        await looks(replanner, now_s, 3)

    assert kept[1] == []
    assert [plan_id for plan_id, _ in swapped[1]] == [rival.plan_id]


async def test_a_cheaper_plan_needs_patience(loop_of, plans, make_demand):
    """A plan that holds is left for a clearly cheaper one only after several looks."""
    replanner, published, _, now_s = loop_of(plans[30.0], make_demand(2.0), plans[3.0])

    assert await looks(replanner, now_s, 3) == [None, None, plans[3.0]]
    assert "cheaper" in published[0][1]


async def test_the_looks_must_be_in_a_row(loop_of, plans, make_demand):
    """A look that finds nothing better starts the count again."""
    old, new = plans[30.0], plans[3.0]
    replanner, published, _, now_s = loop_of(
        old, make_demand(2.0), new, new, old, new, new, old, new
    )

    assert await looks(replanner, now_s, 8) == [None] * 8
    assert published == []


async def test_a_small_saving_is_no_reason(loop_of, plans, make_demand):
    """Less than `min_saving` is not worth a change."""
    plan = plans[12.0]
    slightly = replace(plan, plan_id="slightly", usd_per_hour=plan.usd_per_hour * 0.96)
    replanner, published, _, now_s = loop_of(plan, make_demand(8.0), slightly)

    await looks(replanner, now_s, 6)

    assert published == []


async def test_assign_judges_by_the_peak(loop_of, make_demand, pools):
    """With the fleet given, a plan is better when it loads the fullest pool clearly less."""
    demand = make_demand(12.0)
    flat = solve.assign(demand, pools, (2, 2, 2))
    one_sided = replace(flat, plan_id="one", weights=tuple((0.0, 0.0, 1.0) for _ in flat.weights))
    uneven, even = utilisations(demand, pools, (one_sided, flat))
    assert max(uneven) > 1.2 * max(even)
    replanner, published, _, now_s = loop_of(one_sided, demand, flat, objective="assign")

    await looks(replanner, now_s, 4)

    assert [plan_id for plan_id, _ in published] == [flat.plan_id]


@pytest.mark.parametrize("objective", ["assign", "provision"])
async def test_backends_that_went_down_do_not_count(loop_of, make_demand, pools, objective):
    """Nor do new ones that are cold: a plan is for what serves now."""
    demand = make_demand(12.0)
    whole = solve.assign(demand, pools, (2, 2, 2))
    rest = solve.assign(demand, pools, (2, 2, 0))
    replanner, published, solver, now_s = loop_of(
        whole, demand, rest, objective=objective, ready=(2, 2, 0)
    )

    await looks(replanner, now_s, 3)

    assert [plan_id for plan_id, _ in published] == [rest.plan_id]
    assert {request.running for request in solver.asked} == {(2, 2, 0)}
    assert {request.limits.running for request in solver.asked} == {(4, 4, 4)}


async def test_a_plan_that_gives_a_bucket_to_nobody_does_not_hold(loop_of, plans, make_demand):
    """A size that was out of reach when it was planned for is served once a plan can."""
    plan, demand = plans[12.0], make_demand(6.0)
    busiest = int(np.argmax(demand.rate))
    blind = replace(
        plan,
        plan_id="blind",
        weights=tuple((0.0,) * 3 if b == busiest else row for b, row in enumerate(plan.weights)),
    )
    replanner, published, _, now_s = loop_of(blind, demand, plan)

    await looks(replanner, now_s, 2)

    assert [plan_id for plan_id, _ in published] == [plan.plan_id]


async def test_the_same_plan_is_not_published_again(loop_of, plans, make_demand):
    """Where the best is what runs already nothing is swapped, whatever it costs now."""
    same = replace(plans[30.0], usd_per_hour=0.1)
    replanner, published, _, now_s = loop_of(plans[30.0], make_demand(2.0), same)

    await looks(replanner, now_s, 5)

    assert published == []


async def test_figures_of_another_pace_are_replaced(loop_of, plans, make_demand):
    """The same shares on slower engines are another plan: the router must know what each request
    takes. It is certified anew, and once is enough."""
    plan, settled = plans[30.0], list[bool]()
    same = replace(plan, slots=tuple(tuple(1.2 * s for s in row) for row in plan.slots))
    replanner, published, solver, now_s = loop_of(
        plan, make_demand(20.0), same, outpaced=lambda: not settled
    )
    first = await replanner.look(now_s)
    settled.append(True)
    await all_done()
    second = await replanner.look(now_s)

    assert (first, second) == (same, None)
    assert [reason for _, reason in published] == [
        "the engines run at another pace than the plan was made for"
    ]
    assert [asked.objective for asked in solver.asked] == ["provision", "assign", "provision"]
    assert solver.asked[1].running == plan.backends
    assert [plan_id for plan_id, _ in solver.sealed] == [plan.plan_id]


async def test_too_few_requests_are_not_trusted(loop_of, plans, make_demand):
    """A handful of requests starts no solve."""
    replanner, published, solver, now_s = loop_of(
        plans[3.0], make_demand(12.0), plans[30.0], requests=49
    )

    await looks(replanner, now_s, 4)

    assert (published, solver.asked) == ([], [])


class SolvesHere:
    """Solves in this process."""

    async def plan(self, request):
        return tasks.plan(request)

    async def compare(self, *arguments):
        return compare(*arguments)

    async def certify(self, plan, *_):
        return plan


FADING_S = 100.0  # of traffic, before nothing more comes


def fading(buckets, pools, demand, *, objective="provision"):
    """A replanner whose traffic has just stopped, with the plan for it, and what it published."""
    observed = ObservedDemand(buckets, window_s=120.0, memory_s=900.0, dispersion=1.2, now_s=0.0)
    observed.remember(demand, FADING_S)
    rng, count = np.random.default_rng(5), round(demand.total_rate * FADING_S)
    for n, bucket in enumerate(rng.choice(buckets.count, count, p=demand.rate / demand.total_rate)):
        observed.add(StatsDelta(arrivals={int(bucket): 1}), n * FADING_S / count)
    now = observed.snapshot(FADING_S)
    plan = solve.assign(now, pools, (4, 4, 4))
    if objective == "provision":
        plan = solve.provision(now, pools)
    published = Published()
    replanner = Replanner(
        plan=plan,
        pools=lambda: pools,
        running=lambda: (4, 4, 4),
        ready=lambda: (4, 4, 4),
        policy=ReplanPolicy(objective=objective, min_requests=50, min_saving=0.05, patience=6),
        observed=observed,
        solver=cast(Solver, SolvesHere()),
        publish=published.publish,
        on_look=published.looked,
    )
    return replanner, observed, published


async def silence(replanner, observed, seconds, *, seen=1.0):
    """Looks every ten seconds, between reports of nothing."""
    for second in range(round(FADING_S), round(FADING_S + seconds)):
        observed.add(StatsDelta(), float(second), seen=seen)
        if second % 10 == 0:
            await replanner.look(float(second))


@pytest.mark.parametrize("least", [pytest.param(0, marks=pytest.mark.long), 1])
async def test_a_fleet_without_traffic_shrinks_in_minutes(buckets, pools, make_demand, least):
    """To `min_backends`, or to the one backend that serves whoever comes next."""
    there = tuple(replace(pool, min_backends=least) for pool in pools)
    replanner, observed, published = fading(buckets, there, make_demand(120.0))
    before = replanner.plan
    await silence(replanner, observed, 300.0)
    after = replanner.plan

    assert sum(before.backends) > max(1, 3 * least)
    assert after.backends == (least,) * 3 if least else sum(after.backends) == 1
    assert "cheaper" in published[-1][1]
    assert published.results[-1] == "kept"


@pytest.mark.long
async def test_a_fleet_that_cannot_be_observed_keeps_its_plan(buckets, pools, make_demand):
    """No worker reports: that nothing was counted says nothing, for however long."""
    replanner, observed, published = fading(buckets, pools, make_demand(20.0))
    before = replanner.plan
    await silence(replanner, observed, 600.0, seen=0.0)

    assert (replanner.plan, published) == (before, [])


async def test_a_given_fleet_has_nothing_to_gain_from_silence(buckets, pools, make_demand):
    """Its plan stays as it was made for the traffic that there was."""
    replanner, observed, published = fading(buckets, pools, make_demand(20.0), objective="assign")
    await silence(replanner, observed, 300.0)

    assert set(published.results[-10:]) == {"idle"}


async def test_a_failed_comparison_leaves_the_last_good_plan(loop_of, plans, make_demand):
    """Nothing is published and no look counted: the two looks begin again."""
    replanner, published, solver, now_s = loop_of(plans[3.0], make_demand(12.0), plans[30.0])
    solver.speechless = True
    for _ in range(3):
        with pytest.raises(SolverFailed):
            await replanner.look(now_s)
    assert (replanner.plan, published) == (plans[3.0], [])

    solver.speechless = False

    assert await looks(replanner, now_s, 2) == [None, plans[30.0]]


async def test_a_failed_solve_leaves_the_last_good_plan(loop_of, plans, make_demand):
    """The loop goes on after a failure of any kind, and publishes when it works again."""
    failures = (SolverFailed("no answer within 5 s"), RuntimeError("broken"))
    replanner, published, solver, now_s = loop_of(
        plans[3.0], make_demand(12.0), *failures, *[plans[30.0]] * 2
    )
    with pytest.raises(SolverFailed):
        await replanner.look(now_s)
    assert replanner.plan is plans[3.0]

    loop = asyncio.create_task(replanner.run(0.0, lambda: now_s))
    async with asyncio.timeout(10):
        await published.changed.wait()
    loop.cancel()

    assert published[0][0] == plans[30.0].plan_id
    assert len(solver.asked) >= 4


def test_chance_is_told_from_change(make_demand):
    """Two draws of one demand differ about as much as is expected; twice the rate, far more."""
    demand, rng = make_demand(10.0), np.random.default_rng(3)
    share = demand.rate / demand.total_rate
    seconds = 60.0

    def drawn(rate: float):
        return replace(demand, rate=rng.poisson(share * rate * seconds) / seconds)

    demand = replace(demand, dispersion=(1.0,))
    expected = by_chance(demand, round(10.0 * seconds))
    by_luck = [moved(drawn(10.0), drawn(10.0)) for _ in range(50)]
    changed = [moved(drawn(10.0), drawn(20.0)) for _ in range(50)]

    assert np.mean(by_luck) == pytest.approx(expected, rel=0.25)
    assert max(by_luck) < MOVED + expected < min(changed)


async def test_the_plan_of_another_gateway_is_gone_on_from(loop_of, plans, make_demand):
    """It is in force here, and is compared with at the next look; looks of before do not count."""
    replanner, published, _, now_s = loop_of(plans[30.0], make_demand(12.0), plans[12.0])
    await looks(replanner, now_s, 2)
    replanner.follow(plans[12.0])
    assert replanner.plan is plans[12.0]
    await looks(replanner, now_s, 2)

    assert published == []
    assert set(published.results) == {"kept"}


async def test_a_proposal_changes_nothing_until_it_is_taken(loop_of, plans, make_demand):
    """Then it is in force at once, whatever it saves, and is certified as others are."""
    replanner, published, solver, now_s = loop_of(plans[12.0], make_demand(12.0), plans[30.0])

    proposal = await replanner.propose(now_s)

    assert proposal is not None
    assert (proposal.before, proposal.plan) == (plans[12.0], plans[30.0])
    assert published == []
    assert replanner.plan is plans[12.0]
    await replanner.take(proposal, "applied by hand")
    await all_done()
    assert published == [(plans[30.0].plan_id, "applied by hand")]
    assert [sealed for sealed, _ in solver.sealed] == [plans[30.0].plan_id]
    assert published.results == ["replaced"]


async def test_a_look_under_way_does_not_undo_what_is_applied(loop_of, plans, make_demand):
    """It has compared with a plan that is not in force any more."""
    replanner, published, solver, now_s = loop_of(
        plans[3.0], make_demand(30.0), plans[30.0], plans[30.0], plans[12.0]
    )
    await replanner.look(now_s)
    proposal = await replanner.propose(now_s)
    asked, gate = solver.plan, asyncio.Event()

    async def slow(request):
        await gate.wait()
        return await asked(request)

    solver.plan = slow
    looking = asyncio.create_task(replanner.look(now_s))
    await asyncio.sleep(0)
    await replanner.take(proposal, "applied by hand")
    gate.set()

    assert await looking is None
    await all_done()
    assert [plan_id for plan_id, _ in published] == [plans[30.0].plan_id]
    assert replanner.plan.plan_id == plans[30.0].plan_id


async def test_of_too_few_requests_nothing_is_proposed(loop_of, plans, make_demand):
    replanner, _, solver, now_s = loop_of(
        plans[12.0], make_demand(12.0), plans[30.0], requests=20, objective="assign"
    )

    assert await replanner.propose(now_s) is None
    assert solver.asked == []
