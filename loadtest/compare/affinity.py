"""What it is worth to send a prompt where its beginning has been, and what it costs in promises.

The same trace over the same engines, each with a prefix cache of its own, which the gateway does
not see: by the gateway's router with affinity and without, and by affinity alone. Knows nothing of
commands.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.config.load import Loaded
from gateway.rehearsal.estimates import LearnedEstimates
from gateway.rehearsal.gateway import SimulatedGateway
from gateway.rehearsal.play import QUEUE
from gateway.routing.endpoints import CHAT
from gateway.routing.estimator import Estimator
from gateway.routing.fleet import Fleet
from gateway.routing.llm_request import LlmRequest
from gateway.routing.prefix_trail import PrefixTrail, trail_of
from gateway.routing.router import Router
from gateway.routing.table import compile_table
from loadtest.compare.dispatch import fix_fleet
from loadtest.compare.engine_caches import CachingFleet
from loadtest.compare.heard_caches import hear
from loadtest.compare.prefixes import PrefixTrace
from planner.errors import InvalidValue
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.proof.simulate import SimulationResult
from planner.proof.timeline import Dispatch, FirstCome, OnFinished, Route, Timeline
from planner.sizes import FloatArray, IntArray

SKIP = 0.1  # share of the requests that is not counted, because the fleet starts empty
HASHED_TOKENS = 512  # of the beginning of a prompt, that consistent hashing goes by
LOOKS = 3  # further plans at most; two are enough where nothing is refused
SETTLED = 0.05
SALT = 1
CUVEE, NONE, LONGEST, HASHING = "cuvee", "none", "longest-prefix", "hashing"
EVENTS = "cuvee-events"
WAYS = (NONE, CUVEE, EVENTS, LONGEST, HASHING)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AffinityPlay:
    """One way to dispatch a trace.

    plan: that was in force. attainment: share of the requests that met the promise, of all but the
    first. hit_share: of all prompt tokens that came, those that an engine had. refused: share of
    the requests that got no backend. swayed: share that went elsewhere for their prompt. cached:
    (N,) tokens, as the gateway would think of the next such requests: of those that were refused
    as many as of the others on average. prefill: by pool, tokens to compute: as planned, and as it
    was.
    """

    way: str
    plan: Plan
    attainment: float
    hit_share: float
    refused: float
    swayed: float
    cached: FloatArray
    prefill: dict[str, tuple[float, float]]

    @property
    def pure(self) -> bool:
        """Whether affinity alone decided."""
        return self.way in (LONGEST, HASHING)

    @property
    def planned_over_actual(self) -> float:
        """The prefill that the plan expects of all pools together, over what it was."""
        planned, actual = (sum(one[k] for one in self.prefill.values()) for k in (0, 1))
        return planned / actual if actual else 1.0


def affinity_plays(
    loaded: Loaded,
    traffic: PrefixTrace,
    backends: dict[str, int],
    ways: Sequence[str] = WAYS,
    *,
    cache_share: float = 1.0,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[AffinityPlay], float]:
    """Every way on the same traffic and fleet, and the share of requests that are left out because
    no pool can serve them. Each plans again with the hits that it has seen, until they are what its
    plan expects, as the gateway does at each look.

    backends: by pool. cache_share: see `EngineCache`. Raises InvalidValue.
    """
    rows = _servable(loaded, traffic, backends)
    left_out = 1.0 - len(rows) / len(traffic.trace)
    traffic = traffic.take(rows)
    plays = []
    for way in ways:
        progress(f"{way}, first")
        play = _play(loaded, traffic, backends, way, cache_share)
        for look in range(LOOKS):
            progress(f"{way}, with plan {look + 2}")
            seen = replace(traffic, trace=replace(traffic.trace, cached_tokens=play.cached))
            play = _play(loaded, seen, backends, way, cache_share)
            if abs(play.planned_over_actual - 1.0) < SETTLED:
                break
        plays.append(play)
    return plays, left_out


def _servable(loaded: Loaded, traffic: PrefixTrace, backends: dict[str, int]) -> IntArray:
    slo = loaded.buckets.classes[0].slo
    profiles = [pool.profile for pool in loaded.pools if pool.name in backends]
    if len(profiles) < len(backends):
        raise InvalidValue(f"the pools are {', '.join(pool.name for pool in loaded.pools)}")
    trace = traffic.trace
    rates = [p.capacity(trace.input_tokens, trace.output_tokens, slo).rate for p in profiles]
    rows = np.flatnonzero(np.array(rates).max(axis=0) > 0)
    if not len(rows):
        raise InvalidValue("no pool can keep the promise of any request")
    return rows


def _play(
    loaded: Loaded,
    traffic: PrefixTrace,
    backends: dict[str, int],
    way: str,
    cache_share: float,
) -> AffinityPlay:
    trace = traffic.trace
    fixed = fix_fleet(loaded, trace, backends=backends)
    numbers = [p for p, count in enumerate(fixed.plan.backends) for _ in range(count)]
    inputs = [max(1, int(tokens)) for tokens in trace.input_tokens.tolist()]
    fleet = CachingFleet(traffic, [fixed.pools[p].profile for p in numbers], inputs, cache_share)
    if way in (CUVEE, EVENTS, NONE):
        inner = GatewayWay(fixed.plan, fixed.pools, traffic, fleet, knows=way != NONE)
        if way == EVENTS:
            inner.hear()
        dispatch: Dispatch = inner.dispatch
        finished: OnFinished | None = inner.finished
    else:
        dispatch, finished = FirstCome(_pure(way, fleet, traffic)), None
    outputs = [max(1, int(tokens)) for tokens in trace.output_tokens.tolist()]
    timeline = Timeline(
        fleet.engines, inputs, outputs, fleet.cached, fleet.led_by(dispatch), finished
    )
    timeline.play(trace.arrival_s.tolist())
    decisions = dispatch.decision if isinstance(dispatch, SimulatedGateway) else []
    result = _result(timeline, trace.arrival_s, outputs)
    return AffinityPlay(
        way=way,
        plan=fixed.plan,
        attainment=result.attainment(fixed.slo, skip=SKIP),
        hit_share=sum(fleet.cached) / sum(inputs),
        refused=float(np.mean(result.backend < 0)),
        swayed=decisions.count("affinity") / len(trace),
        cached=_expected(result, inputs, fleet.cached),
        prefill=_prefill(fixed.plan, numbers, result, inputs, fleet.cached),
    )


class GatewayWay:
    """The gateway's own router and queue. knows: whether it is told where prompts begin alike."""

    def __init__(
        self,
        plan: Plan,
        pools: tuple[Pool, ...],
        traffic: PrefixTrace,
        fleet: CachingFleet,
        *,
        knows: bool,
    ) -> None:
        trace, model = traffic.trace, plan.buckets.classes[0].model
        self._traffic, self._fleet, self._model = traffic, fleet, model
        self._inputs = [int(tokens) for tokens in trace.input_tokens.tolist()]
        outputs = [max(1, int(tokens)) for tokens in trace.output_tokens.tolist()]
        self._trails: dict[int, PrefixTrail] = {}
        names = {
            pool: tuple(f"{pool}:{n}" for n in range(count))
            for pool, count in zip(plan.pools, plan.backends, strict=True)
        }
        count = len(trace)
        self._estimates = LearnedEstimates(
            [""] * count,
            [model] * count,
            [plan.buckets.classes[0].name] * count,
            (self._inputs, outputs),
            Estimator(),
        )
        self._table, self._backends = compile_table(plan, pools), Fleet.of(names)
        self._router = Router(self._table, self._backends)
        self.dispatch = SimulatedGateway(
            [self._router],
            QUEUE,
            self._estimates,
            [0] * count,
            trail_of=self._trail if knows else None,
        )

    def hear(self) -> None:
        """Hear from now on what the engines publish of their caches."""
        caches, tokens = self._fleet.caches, self._traffic.block_tokens
        hear(self._router, self._backends, caches, tokens, SALT, lambda: self._table)

    def _trail(self, request: int) -> PrefixTrail | None:
        body = b'{"messages"' + self._traffic.text(request)
        asked = LlmRequest(
            endpoint=CHAT,
            model=self._model,
            stream=True,
            prompt_bytes=len(body),
            prompt_tokens=None,
            max_tokens=None,
        )
        trail = trail_of(asked, body, salt=SALT)
        if trail is not None:
            self._trails[request] = trail
        return trail

    def finished(self, request: int, now_s: float) -> None:
        """Learn from a request that has ended."""
        self._estimates.learn(request, now_s)
        trail = self._trails.pop(request, None)
        if trail is not None:
            # As vLLM tells it: nothing where there is none.
            cached = self._fleet.cached[request] or None
            self._router.affinity.learn(trail, self._inputs[request], cached)


class CountedHold:
    """A request in flight: one more at its backend, until released."""

    __slots__ = ("_held", "backend")

    def __init__(self, held: list[int], backend: int) -> None:
        self.backend = backend
        self._held = held
        held[backend] += 1

    def prefilled(self) -> None:
        """Do nothing: affinity alone looks at no prefill."""

    def release(self) -> None:
        """The request has ended; called once."""
        self._held[self.backend] -= 1


def _pure(way: str, fleet: CachingFleet, traffic: PrefixTrace) -> Route:
    """Affinity alone: no promise, no load, no refusal."""
    held = [0] * len(fleet.engines)
    every = range(len(fleet.engines))
    first = max(1, HASHED_TOKENS // traffic.block_tokens)

    def longest(request: int, now_s: float) -> CountedHold:
        blocks = traffic.blocks[request]
        best = max(every, key=lambda k: (fleet.caches[k].length(blocks), -held[k]))
        return CountedHold(held, best)

    def hashed(request: int, now_s: float) -> CountedHold:
        return CountedHold(held, hash(traffic.blocks[request][:first]) % len(every))

    return longest if way == LONGEST else hashed


def _result(timeline: Timeline, arrival_s: FloatArray, outputs: list[int]) -> SimulationResult:
    first_s, last_s = np.array(timeline.first_s), np.array(timeline.last_s)
    gaps = np.array(outputs, dtype=float) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        tpot_s = np.where(gaps > 0, (last_s - first_s) / gaps, np.nan)
    return SimulationResult(
        ttft_s=first_s - arrival_s,
        tpot_s=tpot_s,
        backend=np.array(timeline.backend, dtype=np.int64),
    )


def _expected(result: SimulationResult, inputs: list[int], cached: list[int]) -> FloatArray:
    """(N,) the hits of each request, or for one that was refused the mean share of the others."""
    served, tokens, hits = result.backend >= 0, np.array(inputs, dtype=float), np.array(cached)
    share = hits[served].sum() / max(1.0, tokens[served].sum())
    return np.asarray(np.where(served, hits, np.floor(share * tokens)), dtype=float)


def _prefill(
    plan: Plan,
    numbers: list[int],
    result: SimulationResult,
    inputs: list[int],
    cached: list[int],
) -> dict[str, tuple[float, float]]:
    """By pool: tokens to compute, as the plan expects of what was sent there, and as it was."""
    sums: dict[str, tuple[float, float]] = {}
    shares = plan.cached_share or (0.0,) * len(plan.pools)
    for backend, tokens, hits in zip(result.backend.tolist(), inputs, cached, strict=True):
        if backend >= 0:
            pool = numbers[backend]
            planned, actual = sums.get(plan.pools[pool], (0.0, 0.0))
            planned += tokens * (1.0 - shares[pool])
            sums[plan.pools[pool]] = planned, actual + tokens - hits
    return sums
