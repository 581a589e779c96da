"""When the loop looks, what it counts with, and what it does when it cannot tell."""

import asyncio
from copy import copy
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from gateway.actuation.actuator import ActuationError
from gateway.actuation.memory import read_state
from gateway.actuation.wiring import Actuation
from gateway.config.scale_schema import ScaleSection
from gateway.config.scaling_schema import ScalingSection
from gateway.control.solver import tasks
from gateway.journal.journal import DecisionJournal
from gateway.planning import Planning
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.stats_schema import StatsDelta
from loadtest.torture.control import SynchronousSolver
from planner.errors import SolverFailed
from planner.model.pool import SharedGpus
from planner.traffic.size_histogram import fine_cell


class Solves(SynchronousSolver):
    """Solves at once, or fails. rates: requests/s of each request for a plan that buys."""

    def __init__(self):
        super().__init__()
        self.rates, self.fails = [], False

    async def plan(self, request):
        if self.fails:
            raise SolverFailed("no answer")
        if request.objective == "provision":
            self.rates.append(request.demand.total_rate)
        return tasks.plan(request)


class Quiet:
    """An actuator that accepts all."""

    name = "quiet"

    def __init__(self):
        self.orders = []

    async def apply(self, order):
        self.orders.append(order)

    async def aclose(self):
        pass


class World:
    """A gateway without a data plane, of which one pool of each model is scaled."""

    def __init__(self, shared, root, *, backends=0, scale=None, beside=None, rack=None, **settings):
        """backends: of the pool h100. scale: further keys of its section. beside: of a10g, which is
        scaled only with these. rack: GPUs that h100 and h100-other share, with as many backends of
        each, those of the latter asleep."""
        config = shared.config
        scaled = {
            name: msgspec.structs.replace(
                config.pools[name],
                backends=(),
                scale=ScaleSection(
                    **({"prometheus": True, "least": 0, "most": 6, "startup_s": 60.0} | more)
                ),
            )
            for name, more in (("h100", scale or {}), ("h100-other", {}), ("a10g", beside))
            if more is not None
        }
        others = {
            name: msgspec.structs.replace(pool, backends=()) for name, pool in config.pools.items()
        }
        planner = msgspec.structs.replace(config.planner, objective="provision")
        config = msgspec.structs.replace(
            config,
            pools=others | scaled,
            planner=planner,
            scaling=ScalingSection(**({"hold_s": 0.0, "silence_s": 0.0} | settings)),
        )
        pools = tuple(
            replace(pool, shared=rack, usd_per_hour=1e-3) if rack and pool.name in scaled else pool
            for pool in shared.pools
        )
        self.loaded = msgspec.structs.replace(
            shared, config=config, root=root, workload=None, pools=pools
        )
        urls = {"h100": tuple(f"http://x:{n}" for n in range(backends))}
        if rack:
            urls["h100-other"] = tuple(f"http://x:{n + 100}" for n in range(backends))
        self.fleet = Fleet.of({name: urls.get(name, ()) for name in config.pools})
        for backend in self.fleet.backends:
            backend.probed(True)
            backend.asleep = backend.pool == "h100-other"
        self.solver, self.quiet = Solves(), {name: Quiet() for name in scaled}
        self.journal = DecisionJournal(clock=lambda: 0.0, wall_clock=lambda: 0.0)
        self.metrics = Metrics(self.fleet)
        self.leads = True
        self.planning = Planning(
            self.loaded,
            fleet=self.fleet,
            estimator=Estimator({}),
            publish=lambda *_: None,
            on_look=lambda *_: None,
            solver=self.solver,
        )
        self.actuation = Actuation(
            self.loaded,
            self.fleet,
            self.planning,
            self.journal,
            self.metrics,
            drain=self._drain,
            make=lambda _: self.quiet,
            leads=lambda: self.leads,
        )
        self.scaler = self.actuation.scaler

    async def _drain(self):
        return

    async def __aenter__(self):
        await self.planning.__aenter__()
        self.actuation.configure(self.loaded)
        return self

    async def __aexit__(self, *_):
        await self.planning.__aexit__()

    def come(self, number, slo_class=0):
        """So many requests of 500 and 200 tokens of one class, now."""
        bucket = slo_class * self.loaded.buckets.grid.cells + 8
        sums = float(number), 500.0 * number, 200.0 * number, 0.0
        sizes = {(bucket, fine_cell(500, 200)): sums}
        self.planning.add(StatsDelta(arrivals={bucket: number}, sizes=sizes))

    async def look(self):
        await self.scaler.look()
        await asyncio.sleep(0.01)  # couriers bring what is ordered

    @property
    def pools(self):
        return self.scaler.ordering.pools

    @property
    def lines(self):
        return [entry.cause for entry in self.journal.entries]


@pytest.fixture
async def world(shared, tmp_path):
    async with World(shared, tmp_path) as made:
        yield made


async def test_a_model_that_nobody_asks_for_needs_nothing(world):
    """What comes of one model brings backends of that model alone."""
    world.come(30)
    await world.look()

    assert world.pools["h100"].aim.needed > 0
    assert world.pools["h100-other"].aim.needed == 0
    assert [order.pool for order in world.quiet["h100"].orders] == ["h100"]
    assert world.quiet["h100-other"].orders == []
    assert world.solver.rates[-1] > 0


async def test_the_first_request_for_a_model_without_a_backend_wakes_the_loop_once(world):
    """Not at every tick while it is awaited, and again for another model."""
    nobody = world.scaler._awaited()
    world.come(1)
    first, second = world.scaler._awaited(), world.scaler._awaited()
    last = len(world.loaded.buckets.classes) - 1
    world.come(1, slo_class=last)
    other = world.scaler._awaited()

    assert (nobody, first, second, other) == (False, True, False, True)


async def test_nothing_is_stopped_where_the_silence_may_be_a_fault(shared, tmp_path):
    """No request for a minute; after the silence it may."""
    async with World(shared, tmp_path, silence_s=1800.0) as world:
        world.planning.add(StatsDelta())
        world.scaler._heard_s -= 100.0
        fault = world.scaler._why_not_stop()
        world.scaler._heard_s -= 3000.0
        over = world.scaler._why_not_stop()

    assert fault is not None
    assert "which may be a fault" in fault
    assert over is None


async def test_a_solve_that_fails_changes_nothing_and_is_told(world):
    """In the loop's record; the next one that works ends that."""
    world.come(30)
    world.solver.fails = True
    world.scaler.ordering.watch()
    await world.scaler._tick()
    failed = world.metrics.loops.records["scaling"].error
    world.solver.fails = False
    world.scaler._due.set()
    await world.scaler._tick()

    assert failed == "no answer"
    assert world.metrics.loops.records["scaling"].error is None
    assert len(world.quiet["h100"].orders) <= 1


async def test_only_the_gateway_that_leads_orders(world):
    """One that does not wishes nothing, and begins anew when it leads again."""
    world.come(30)
    world.leads = False
    world.scaler._due.set()
    await world.scaler._tick()
    follower = world.pools["h100"].aim.wish, world.actuation.figures()["leads"]
    world.leads = True
    world.scaler._due.set()
    await world.scaler._tick()

    assert follower == (None, False)
    assert world.pools["h100"].aim.wish > 0


async def test_what_was_learned_survives_a_restart(shared, tmp_path):
    """Starts and the forecast are in the file; another process begins with them."""
    async with World(shared, tmp_path, state="state.json") as world:
        world.pools["h100"].times.add({"seen": 100.0}, 500.0)
        await world.scaler.save()
    async with World(shared, tmp_path, state="state.json") as again:
        known = again.pools["h100"].times.number, again.pools["h100"].times.mean_s
        state = read_state(tmp_path / "state.json")

    assert known[0] == 1
    assert known[1] > 60.0
    assert state.forecast is not None


async def test_another_configuration_keeps_what_was_learned(world):
    """Of pools that stay; those without `scale` are not scaled any more."""
    world.pools["h100"].times.add({}, 500.0)
    quiet = world.quiet.pop("h100")
    other = world.quiet.pop("h100-other")
    world.quiet = {"h100": quiet}
    world.actuation.configure(world.loaded)

    assert list(world.pools) == ["h100"]
    assert world.pools["h100"].times.number == 1
    assert other.orders == []


async def test_a_reload_leaves_orders_alone_where_the_actuator_stays(world):
    """An order goes on, and is not asked again; another webhook gets it anew."""
    world.come(30)
    await world.look()
    pool = world.pools["h100"]
    courier, ordered = pool.courier, len(world.quiet["h100"].orders)
    section = msgspec.structs.replace(world.loaded.config.pools["h100"].scale, least=1)
    pools = world.loaded.config.pools
    moved = msgspec.structs.replace(
        world.loaded.config,
        pools=pools | {"h100": msgspec.structs.replace(pools["h100"], scale=section)},
    )

    world.actuation.configure(copy(world.loaded))
    same = world.pools["h100"].courier
    world.actuation.configure(msgspec.structs.replace(world.loaded, config=moved))

    assert ordered > 0
    assert same is courier
    assert world.pools["h100"] is pool
    assert pool.courier is not courier


async def test_a_shortage_and_its_reason_are_shown(world):
    """On the admin port and in the metrics, with what the fleet cannot promise because of it."""
    world.come(30)
    await world.look()
    order = world.quiet["h100"].orders[0]
    world.scaler.ordering.done(order, ActuationError("quota of zero", final=True))
    await world.look()
    told = world.actuation.figures()
    world.metrics.scaled(world.actuation.states())
    page = world.metrics.text().decode()

    assert "quota of zero" in told["limits"][0]
    assert told["lacks"]
    assert told["pools"]["h100"]["wish"] == 0
    assert 'cuvee_scale_cap_gpus{pool="h100"} 0' in page
    assert 'cuvee_scale_orders_total{pool="h100",result="refused"} 1' in page
    assert np.isfinite(told["peak_requests_per_s"])


SLOW = {"most": 60, "startup_s": 1800.0, "wake_s": 1.0}


async def test_awake_is_what_a_waking_needs_and_all_together_what_a_start_needs(shared, tmp_path):
    """In a second less may come than in half an hour: the difference sleeps. The price is told."""
    scale = SLOW | {"asleep": 60, "asleep_usd_per_hour": 1.0}
    settings = {"interval_s": 0.01, "hold_s": 1e9, "dry_run": True}
    async with World(shared, tmp_path, backends=4, scale=scale, **settings) as world:
        world.come(600)
        async with asyncio.timeout(10):
            while world.planning.watched_s() < 0.01:
                await asyncio.sleep(0.01)
                world.planning.add(StatsDelta())
        await world.look()
        aim = world.pools["h100"].aim

    assert aim.division.awake < aim.needed == aim.division.total
    assert f"{aim.division.awake} awake and {aim.division.asleep} asleep, $" in aim.why
    assert aim.wish == aim.division.total  # none sleeps yet, so all have to be started


@pytest.mark.parametrize(
    ("scale", "asks"),
    [
        ({}, False),
        ({"asleep": 3}, False),
        ({"asleep": 3, "asleep_usd_per_hour": 1e6}, False),
        ({"asleep_usd_per_hour": 0.0}, False),
        ({"asleep": 3, "asleep_usd_per_hour": 0.0}, True),
    ],
)
async def test_where_sleep_saves_nothing_all_is_as_without_it(shared, tmp_path, scale, asks):
    """What sleeps does not count, and nothing is asked about wakings."""
    async with World(shared, tmp_path, backends=3, scale=scale) as world:
        world.fleet.backends[0].asleep = True
        ask, loaded = world.scaler._sufficiency, world.loaded
        have = ask.until_started(loaded, 0.0).have["h100"]
        question = ask.until_woken(loaded)
        world.metrics.scaled(world.actuation.states())
        page = world.metrics.text().decode()

    assert 'cuvee_scale_asleep_backends{pool="h100"} 1' in page
    assert (question is not None) is asks
    assert have == (3 if asks else 2)
    if question is not None:
        assert (question.have["h100"], question.bounds["h100"]) == (2, (0, 3))


@pytest.mark.parametrize(("asleep_usd", "best"), [(0.0, True), (0.99, False)])
async def test_a_pool_that_sleeps_cheaply_takes_the_place_of_one_that_is_cheaper_awake(
    shared, tmp_path, asleep_usd, best
):
    """Much may come and little is needed awake: fleets are compared by what they cost with their
    sleepers. Where sleep saves little the one that is cheaper at full prices stays."""
    many = {"most": 200}
    beside = many | {"asleep": 200, "asleep_usd_per_hour": asleep_usd}
    async with World(shared, tmp_path, scale=many, beside=beside) as world:
        world.come(60)
        ask, loaded = world.scaler._sufficiency, world.loaded
        upper, soon = np.zeros((2, loaded.buckets.count))
        upper[8], soon[8] = 60.0, 2.0
        whole = ask.until_started(loaded, 0.0)
        question = await ask.at_best_price(whole, upper, soon, 0.0)
        plans = [await ask.ask(one, upper, upper, 0.0) for one in (whole, question)]

    assert (question is not whole) is best
    assert plans[0].needed["h100"] > 0
    assert (plans[1].needed["a10g"] > plans[0].needed["a10g"]) is best


async def test_gpus_that_models_share_go_to_the_one_that_is_asked_for(shared, tmp_path):
    """Four engines of each on four GPUs. Nobody asks for the model that is awake, so engines of the
    other one are woken in their place: never more than there are GPUs, and nothing is started."""
    rack = SharedGpus(name="rack", gpus=4, usd_per_hour=9.0)
    async with World(shared, tmp_path, backends=4, rack=rack, dry_run=True) as world:
        last = len(world.loaded.buckets.classes) - 1
        world.come(400, slo_class=last)
        world.planning.add(StatsDelta())
        await world.look()
        first, second = (world.pools[name].aim for name in ("h100", "h100-other"))

    assert second.division.awake > 0
    assert first.division.awake + second.division.awake <= 4
    assert (first.division.total, second.division.total) == (4, 4)
    assert "asleep on shared GPUs rack" in second.why
    assert world.quiet["h100"].orders == world.quiet["h100-other"].orders == []


async def test_how_long_a_waking_takes_is_learned_apart_and_survives_a_restart(shared, tmp_path):
    """It is shown beside the phases of a start."""
    async with World(shared, tmp_path, state="state.json") as world:
        world.pools["h100"].wakes.add({}, 30.0)
        await world.scaler.save()
    async with World(shared, tmp_path, state="state.json") as again:
        told = again.actuation.figures()["pools"]["h100"]

    assert told["wake"]["learned_from"] == 1
    assert told["wake"]["mean_s"] > 10.0
    assert told["startup"]["learned_from"] == 0
