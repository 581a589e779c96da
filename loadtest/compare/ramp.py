"""A step of demand on a fleet that starts slowly, through the gateway's own admission and router.

The test of llm-d's autoscaler (llm-d/llm-d-autoscaling, pull request 1435): Llama-3.1-8B on two
variants of H100, prompts of 4,000 and answers of 1,000 tokens, Poisson, five minutes at 2
requests/s and then twelve at 10. Engines are modelled, time is virtual, chance is a seed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from gateway.config.load import without_file
from gateway.config.schema import BucketSection
from gateway.rehearsal.estimates import GivenEstimates
from gateway.rehearsal.gateway import SimulatedGateway
from gateway.rehearsal.history import demand_of
from gateway.rehearsal.play import QUEUE
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.router import Router
from gateway.routing.table import RoutingTable, compile_table
from loadtest.compare.autoscalers import Autoscaler, Fixed, Foreseeing, Look, QueueDepth
from loadtest.compare.needs import FleetNeeds
from planner.costs.rentable import rentable_pools
from planner.engine import catalogue
from planner.program.solve import assign
from planner.proof.simulate import simulate
from planner.proof.timeline import Placed
from planner.scaling.forecast import TICK_S, SeasonalForecast
from planner.sizes import FloatArray
from planner.slo import Slo
from planner.traffic.trace import Trace

MODEL = "Llama-3.1-8B"
INPUT_TOKENS, OUTPUT_TOKENS = 4000, 1000
PHASES = ((2.0, 300.0), (10.0, 720.0))  # requests/s, seconds
SLO = Slo(ttft_s=2.0, tpot_s=0.05, attainment=0.95)
USD_PER_GPU_HOUR = 5.0  # their costs: 10 of two GPUs, 5 of one
POOLS = ("H100", "2xH100")
LARGER, HPA_TARGET = 1, 0.8  # the pool that theirs scaled; load per backend
FIRST, MOST = (1, 1), 10  # backends of each pool
ENOUGH = (3, 1)  # that hold the step from the beginning
LEFT = (1, 0)  # that ours leaves where 2 requests/s come for long
STARTUP_S, LOOK_S = 180.0, 15.0
RATE_S = 60.0  # over which the rate that a look sees is counted
QUANTILE = 0.95
HISTORY_DAYS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RampResult:
    """What became of the ramp. errors: share of the requests that were refused. ttft_s: the 50th,
    95th and 99th percentile of those that were served. met: share of all within the SLO.
    gpus: on average, starting ones included; served_gpus: ready ones. most: backends of each pool.
    """

    policy: str
    requests: int
    errors: float
    ttft_s: tuple[float, ...]
    tpot_s: tuple[float, ...]
    met: float
    gpus: float
    served_gpus: float
    most: tuple[int, ...]


class OnePool:
    """An autoscaler for one pool of several; the others stay as they are."""

    def __init__(self, autoscaler: Autoscaler, pool: int) -> None:
        self._autoscaler = autoscaler
        self._pool = pool

    def decide(self, look: Look) -> tuple[int, ...]:
        p = self._pool
        own = Look(
            now_s=look.now_s,
            rate=look.rate,
            ready=look.ready[p : p + 1],
            pending=look.pending[p : p + 1],
            work=look.work,
        )
        have = list(look.have)
        (have[p],) = self._autoscaler.decide(own)
        return tuple(have)


class MovingGateway:
    """A `Dispatch`: a simulated gateway whose backends come into service and leave it in time.

    All backends that there may ever be are engines; those that are not ready are not healthy, so
    that the router gives them nothing. At each change the shares are planned anew for those that
    are, as the gateway does.
    """

    def __init__(
        self,
        needs: FleetNeeds,
        autoscaler: Autoscaler,
        arrivals_s: FloatArray,
        *,
        first: tuple[int, ...],
        watched: int,
    ) -> None:
        """first: backends that are ready at the start. watched: the pool whose load a look sees."""
        self._needs, self._autoscaler, self._watched = needs, autoscaler, watched
        self._arrivals_s = arrivals_s
        self._end_s = float(arrivals_s[-1])
        urls = {
            pool.name: tuple(f"http://{pool.name}/{n}" for n in range(MOST)) for pool in needs.pools
        }
        self._ready = list(first)
        self._coming: list[list[float]] = [[] for _ in first]
        self._router = Router(self._table(PHASES[0][0]), Fleet.of(urls))
        estimates = GivenEstimates(
            [""] * len(arrivals_s),
            [needs.pools[0].model] * len(arrivals_s),
            ["default"] * len(arrivals_s),
            [[INPUT_TOKENS, OUTPUT_TOKENS]] * len(arrivals_s),
        )
        self._inner = SimulatedGateway([self._router], QUEUE, estimates, [0] * len(arrivals_s))
        self._serve()
        self._look_s = LOOK_S
        self._passed_s = 0.0
        self._gpu_s = [0.0, 0.0]  # starting ones included; ready ones
        self.most = list(first)

    @property
    def gpus(self) -> tuple[float, float]:
        """GPUs on average until the last arrival: with those that were starting, and ready ones."""
        self._pay(self._end_s)
        return self._gpu_s[0] / self._end_s, self._gpu_s[1] / self._end_s

    def arrive(self, request: int, now_s: float) -> Iterable[Placed]:
        return self._inner.arrive(request, now_s)

    def room(self, now_s: float) -> Iterable[Placed]:
        while self._next_s() <= now_s:
            self._move(self._next_s())
        return self._inner.room(now_s)

    def due_s(self) -> float:
        return min(self._next_s(), self._inner.due_s())

    def _next_s(self) -> float:
        """When a backend becomes ready, or the next look; never after the last arrival."""
        next_s = min([self._look_s, *(at_s for coming in self._coming for at_s in coming)])
        return next_s if next_s <= self._end_s else inf

    def _move(self, now_s: float) -> None:
        self._pay(now_s)
        arrived = False
        for pool, coming in enumerate(self._coming):
            late = [at_s for at_s in coming if at_s > now_s]
            arrived |= len(late) < len(coming)
            self._ready[pool] += len(coming) - len(late)
            self._coming[pool] = late
        since_s = max(0.0, now_s - RATE_S)
        first, last = np.searchsorted(self._arrivals_s, [since_s, now_s])
        rate = float(last - first) / (now_s - since_s)
        if now_s >= self._look_s:
            self._look_s += LOOK_S
            arrived |= self._order(now_s, rate)
        if arrived:
            self._router.table = self._table(rate)
            self._serve()

    def _order(self, now_s: float, rate: float) -> bool:
        """Look; whether a ready backend leaves."""
        pool = self._needs.pools[self._watched].name
        load = sum(backend.load for backend in self._router.fleet.pool(pool))
        load += self._needs.work(0.0, float(self._inner.waiting), self._watched)[0]
        pending = tuple(map(len, self._coming))
        look = Look(now_s=now_s, rate=rate, ready=tuple(self._ready), pending=pending, work=load)
        left = False
        for p, wish in enumerate(self._autoscaler.decide(look)):
            missing = min(wish, MOST) - self._ready[p] - pending[p]
            self._coming[p] += [now_s + STARTUP_S] * max(0, missing)
            for _ in range(-missing):
                if self._coming[p]:
                    self._coming[p].pop()
                else:
                    self._ready[p] -= 1
                    left = True
            self.most[p] = max(self.most[p], self._ready[p])
        return left

    def _pay(self, now_s: float) -> None:
        for p, pool in enumerate(self._needs.pools):
            step_s = (now_s - self._passed_s) * pool.gpus
            self._gpu_s[0] += step_s * (self._ready[p] + len(self._coming[p]))
            self._gpu_s[1] += step_s * self._ready[p]
        self._passed_s = now_s

    def _serve(self) -> None:
        for pool, ready in zip(self._needs.pools, self._ready, strict=True):
            for number, backend in enumerate(self._router.fleet.pool(pool.name)):
                backend.healthy = number < ready

    def _table(self, rate: float) -> RoutingTable:
        """The shares for the backends that are ready, as the gateway plans them."""
        demand = self._needs.demand.scaled_to(max(rate, PHASES[0][0]))
        return compile_table(
            assign(demand, self._needs.pools, tuple(self._ready)), self._needs.pools
        )


def ramp_needs() -> FleetNeeds:
    """What the planner says of these requests on both variants."""
    model = catalogue.models()[MODEL]
    usd = {"H100": USD_PER_GPU_HOUR}
    rentable = rentable_pools(MODEL, model, usd, longest=INPUT_TOKENS + OUTPUT_TOKENS)
    pools = tuple(pool for pool in rentable.pools if pool.name in POOLS)
    loaded = without_file(MODEL, SLO, pools, BucketSection())
    trace = _requests(np.arange(400.0))
    return FleetNeeds(demand_of(trace, loaded, estimator=Estimator(), model=MODEL), pools)


def play_ramps(needs: FleetNeeds, seed: int) -> Iterator[RampResult]:
    """Ours where the ramp is new, where it is but enough backends for it are kept, and where it
    came at the same time on three days, with the fleet of the test and with the one that is left
    before it; then an HPA on the larger variant, and no change at all."""
    new, known = (_foreseeing(needs, seed, ramps=ramps) for ramps in (False, True))
    kept = _foreseeing(needs, seed, ramps=False)
    yield play_ramp("cuvee, first time", new, needs, seed)
    yield play_ramp("cuvee, first time, 5 GPUs kept", kept, needs, seed, first=ENOUGH)
    yield play_ramp("cuvee, fourth day", known, needs, seed)
    again = _foreseeing(needs, seed, ramps=True)
    yield play_ramp("cuvee, fourth day, from 1 GPU", again, needs, seed, first=LEFT)
    yield play_ramp("hpa", OnePool(QueueDepth(HPA_TARGET), LARGER), needs, seed)
    yield play_ramp("fixed", Fixed(FIRST), needs, seed)


def play_ramp(
    name: str,
    autoscaler: Autoscaler,
    needs: FleetNeeds,
    seed: int,
    *,
    first: tuple[int, ...] = FIRST,
) -> RampResult:
    """Play the ramp once; the clock begins at the start of a day."""
    rng = np.random.default_rng(seed)
    arrivals_s = _arrivals(rng)
    gateway = MovingGateway(needs, autoscaler, arrivals_s, first=first, watched=LARGER)
    engines = [pool.profile for pool in needs.pools for _ in range(MOST)]
    result = simulate(_requests(arrivals_s), engines, gateway)
    served = result.backend >= 0
    gpus, served_gpus = gateway.gpus
    return RampResult(
        policy=name,
        requests=len(arrivals_s),
        errors=float(1 - served.mean()),
        ttft_s=tuple(np.percentile(result.ttft_s[served], (50, 95, 99)).tolist()),
        tpot_s=tuple(np.percentile(result.tpot_s[served], (50, 95, 99)).tolist()),
        met=float(result.met(SLO).mean()),
        gpus=gpus,
        served_gpus=served_gpus,
        most=tuple(gateway.most),
    )


def _arrivals(rng: np.random.Generator) -> FloatArray:
    start_s, parts = 0.0, []
    for rate, seconds in PHASES:
        count = rng.poisson(rate * seconds)
        parts.append(start_s + np.sort(rng.uniform(0.0, seconds, count)))
        start_s += seconds
    return np.concatenate(parts)


def _requests(arrivals_s: FloatArray) -> Trace:
    count = len(arrivals_s)
    return Trace(
        arrival_s=arrivals_s,
        input_tokens=np.full(count, float(INPUT_TOKENS)),
        output_tokens=np.full(count, float(OUTPUT_TOKENS)),
        key=("",) * count,
    )


def _foreseeing(needs: FleetNeeds, seed: int, *, ramps: bool) -> Foreseeing:
    # A forecast looks in minutes: what it expects is up to one later than it says.
    horizon_s = STARTUP_S + LOOK_S + TICK_S
    return Foreseeing(needs, horizon_s, QUANTILE, forecast=_history(seed, ramps=ramps))


def _history(seed: int, *, ramps: bool) -> SeasonalForecast:
    """A forecast that watched the days before the play, with the ramp at the same time or not."""
    forecast, rng = SeasonalForecast(1), np.random.default_rng(seed + 1000)
    for minute in range(-HISTORY_DAYS * 1440, 0):
        of_day_s = (minute % 1440) * 60.0
        after_s = of_day_s - PHASES[0][1]
        rate = PHASES[1][0] if ramps and 0 <= after_s < PHASES[1][1] else PHASES[0][0]
        forecast.observe((minute + 1) * 60.0, np.array([rng.poisson(rate * 60) / 60]))
    return forecast
