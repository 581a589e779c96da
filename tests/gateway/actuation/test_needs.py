"""What the solver is asked, and answers, about the fleet that should be."""

import pytest

from gateway.actuation.needs import holds, needs, shortfalls
from gateway.actuation.shortages import Shortages
from planner.program.limits import Limits, Stock
from planner.program.request import PlanRequest
from planner.program.solve import solve_request


@pytest.fixture
def ask(pools, make_demand):
    """A plan for so many requests/s: `ask(rate, …)`."""

    def made(rate, *, coming=(0, 0, 0), scaled=None, shortages=None, limits=None, least=0):
        names = [pool.name for pool in pools]
        request = needs(
            make_demand(rate),
            pools,
            bounds=dict.fromkeys(names if scaled is None else scaled, (least, 9)),
            coming=dict(zip(names, coming, strict=True)),
            limits=limits or Limits(),
            shortages=shortages or Shortages(60.0),
            start_usd=0.01,
            now_s=0.0,
        )
        return solve_request(request)

    return made


def test_pools_that_are_not_scaled_have_what_runs_and_cost_nothing_more(ask, pools):
    """With two dear H100 that run in any case nothing cheaper is bought."""
    alone = ask(3.0)
    beside = ask(3.0, coming=(0, 0, 2), scaled=[pools[0].name, pools[1].name])

    assert alone.backends[2] == 0
    assert alone.backends[0] + alone.backends[1] > 0
    assert beside.backends[:2] == (0, 0)


def test_what_cannot_be_had_is_not_needed(ask, pools):
    """The cheapest type is short: another one is needed instead, and all is served."""
    free = ask(3.0)
    shortages = Shortages(60.0)
    shortages.failed(pools[0], pools, {}, "no capacity", 0.0)
    short = ask(3.0, shortages=shortages)

    assert free.backends[0] > 0
    assert short.backends[0] == 0
    assert list(shortfalls(short)) == []


def test_what_no_fleet_can_serve_is_named_with_its_limit(ask, pools):
    """All types are limited to what there is: nothing."""
    limits = Limits(stock=tuple(Stock(gpu=pool.gpu, most=0) for pool in pools))
    (line,) = shortfalls(ask(3.0, limits=limits))

    assert line.startswith("3 requests/s cannot be promised anything: ")
    assert "stock" in line


def test_fewest_backends_that_cannot_be_had_are_no_reason_to_plan_nothing(ask, pools):
    """A limit that was learned is below the fewest of the pools."""
    limits = Limits(stock=(Stock(gpu=pools[0].gpu, most=1),))

    assert ask(0.5, limits=limits, least=2).backends[0] <= 1


def test_of_fleets_of_nearly_one_cost_the_present_one_stays(ask):
    """A plan for the same demand changes nothing that runs."""
    first = ask(6.0).backends

    assert ask(6.0, coming=first).backends == first
    assert ask(6.0 * 1.02, coming=first).backends == first


@pytest.mark.parametrize(("rate", "enough"), [(1.0, True), (500.0, False)])
def test_a_fleet_holds_while_it_promises_all_requests(pools, make_demand, rate, enough):
    """Two of each type do for one request/s, and not for five hundred; none holds nothing."""
    request = PlanRequest(
        objective="assign", demand=make_demand(rate), pools=pools, running=(2, 2, 2)
    )
    nothing = PlanRequest(
        objective="assign", demand=make_demand(rate), pools=pools, running=(0, 0, 0)
    )

    assert holds(solve_request(request), pools) == (enough,) * 3
    assert holds(solve_request(nothing), pools) == (False,) * 3
