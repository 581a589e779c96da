"""Solving in a worker process."""

import asyncio
import multiprocessing
import os
from dataclasses import replace
from multiprocessing.connection import wait

import pytest

from gateway.control.solver.compare import compare
from gateway.control.solver.process import Solver
from gateway.control.solver.tasks import plan
from planner.errors import InvalidValue, SolverFailed
from planner.model.plan import Plan
from planner.program import solve
from planner.program.request import PlanRequest


def request(objective, demand, pools, running=()):
    return PlanRequest(objective=objective, demand=demand, pools=pools, running=running)


async def test_the_worker_solves_and_fails_without_harm(make_demand, pools):
    """Real solves in a real process: same plans as here, errors as they are, and a worker that
    dies, idle or not, is replaced."""
    demand = make_demand(12.0)
    with Solver(limit_s=60.0) as solver:
        provisioned = await solver.plan(request("provision", demand, pools, (2, 2, 2)))
        assigned = await solver.plan(request("assign", demand, pools, (2, 2, 2)))
        with pytest.raises(InvalidValue):
            await solver.plan(request("assign", demand, pools, (1,)))
        [worker] = multiprocessing.active_children()
        worker.kill()
        await asyncio.to_thread(wait, [worker.sentinel], 30)
        again: list[Plan | None] = []
        for _ in range(3):
            try:
                again.append(await solver.plan(request("assign", demand, pools, (2, 2, 2))))
            except SolverFailed:
                again.append(None)

    assert provisioned.plan_id == solve.provision(demand, pools).plan_id
    assert assigned.backends == (2, 2, 2)
    assert again[-1] is not None
    assert again[-1].plan_id == assigned.plan_id
    assert again.count(None) <= 1


async def test_a_slow_solve_is_abandoned(make_demand, pools):
    """A solve over the limit is an error and its process is gone; the next solve works."""
    demand = make_demand(12.0)
    with Solver(limit_s=1e-4) as solver:
        first = await solver.plan(
            request("assign", demand, pools, (2, 2, 2))
        )  # a start is not a solve
        ends = [worker.sentinel for worker in multiprocessing.active_children()]
        with pytest.raises(SolverFailed, match="no answer within"):
            await solver.plan(request("assign", demand, pools, (2, 2, 2)))
        for end in ends:
            assert await asyncio.to_thread(wait, [end], 30)
        third = await solver.plan(request("assign", demand, pools, (2, 2, 2)))

    assert third.plan_id == first.plan_id


@pytest.mark.long
async def test_plans_are_sealed_in_a_process_that_ends_with_it(make_demand, pools):
    """The plan comes back with what the gateway's own rehearsal says of it, and the cheapest plan
    that holds; whoever solves meanwhile does not wait, and the memory is given back."""
    demand = make_demand(3.0)
    asked = request("provision", demand, pools, (4, 4, 4))
    with Solver(limit_s=60.0, sealer="gateway.rehearsal.certify:sealed") as solver:
        found = await solver.plan(asked)
        sealing = asyncio.create_task(solver.seal(asked, found))
        again = await solver.plan(asked)
        at_once = not sealing.done()
        sealed, refined = await sealing
        left = [child.pid for child in multiprocessing.active_children()]
        pid = solver.pid
    with Solver(limit_s=60.0) as solver:
        plain = await solver.seal(asked, found)

    assert at_once
    assert again.plan_id == found.plan_id
    assert left == [pid]
    assert found.certificate is None
    assert sealed.certificate is not None
    assert all(single.certified for single in sealed.singles)
    assert replace(sealed, certificate=None, singles=found.singles) == found
    assert refined is not None
    assert refined.certificate is not None
    assert refined.certificate.holds
    assert refined.safe_usd_per_hour == found.usd_per_hour
    assert not sealed.certificate.holds or refined.usd_per_hour <= found.usd_per_hour
    assert plain == (found, None)


async def test_plans_are_compared_in_the_worker(make_demand, pools):
    """The comparison is the same as here; plans for other pools are refused as they are here."""
    demand = make_demand(12.0)
    small, large = (plan(request("provision", make_demand(rate), pools)) for rate in (3.0, 30.0))
    with Solver(limit_s=60.0) as solver:
        comparison = await solver.compare(request("provision", demand, pools), small, large)
        with pytest.raises(InvalidValue):
            await solver.compare(request("provision", demand, pools[:1]), small, large)

    assert comparison == compare(request("provision", demand, pools), small, large)
    assert not comparison.holds


async def test_the_worker_gives_way(make_demand, pools):
    """Its process is nicer than the one that it solves for, which has streams to serve."""
    with Solver(limit_s=60.0) as solver:
        await solver.plan(request("assign", make_demand(12.0), pools, (2, 2, 2)))
        [worker] = multiprocessing.active_children()
        assert worker.pid is not None
        theirs = os.getpriority(os.PRIO_PROCESS, worker.pid)

    assert theirs > os.getpriority(os.PRIO_PROCESS, 0)


def test_objectives(make_demand, pools):
    """`assign` takes the running counts as given, `provision` chooses its own."""
    demand = make_demand(3.0)

    assert plan(request("assign", demand, pools, (1, 2, 3))).backends == (1, 2, 3)
    assert plan(request("provision", demand, pools, (9, 9, 9))).backends != (9, 9, 9)


async def test_without_time_for_it_no_search_begins(make_demand, pools):
    """`planner.certify_cpu_s: 0`: the plan stays as it is, and no process starts."""
    demand = make_demand(3.0)
    asked = request("provision", demand, pools, (4, 4, 4))
    with Solver(limit_s=60.0, sealer="no_such:module", seal_cpu_s=0.0) as solver:
        found = await solver.plan(asked)

        assert await solver.seal(asked, found) == (found, None)


async def test_a_solve_that_is_given_up_takes_no_other_with_it(make_demand, pools):
    """A look that is cancelled ends its process; what waits for its turn is solved after it."""
    demand = make_demand(12.0)
    asked = request("assign", demand, pools, (2, 2, 2))
    with Solver(limit_s=60.0) as solver:
        await solver.plan(asked)
        given_up = asyncio.create_task(solver.plan(asked))
        waiting = asyncio.create_task(solver.plan(asked))
        await asyncio.sleep(0)
        given_up.cancel()
        plan_made = await waiting

    assert given_up.cancelled()
    assert plan_made.backends == (2, 2, 2)
