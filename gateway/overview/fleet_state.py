"""In which state each backend is, and why, in words. Pure: time is an argument."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.routing.backend import Backend
from gateway.routing.fleet import Fleet
from gateway.routing.membership import LEAVING
from gateway.telemetry.engine_reading import EngineFigures
from gateway.telemetry.stats_schema import WorkerGauges

# In the order in which the page shows them.
SERVING, FULL, WARMING, RESTING, DOWN, ASLEEP, DRAINING = STATES = (
    "serving", "full", "warming", "resting", "down", "asleep", "draining"
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What is known of backends besides the fleet, all by name of the backend.

    drains: as the admin port tells them. engines: what they say of themselves. paces: how fast
    they are beside their profiles. failures: numbers of failed requests, by backend and kind.
    """

    drains: Sequence[Mapping[str, Any]]
    engines: Sequence[EngineFigures]
    paces: Mapping[str, float]
    failures: Mapping[tuple[str, str], int]


def state_of(
    backend: Backend, now_s: float, *, drained: int = 0, resting: int = 0, workers: int = 1
) -> tuple[str, str]:
    """The state of a backend and the reason, which is empty where there is nothing to say.

    now_s: on the gateway's clock. drained: see `Member`. resting: of so many workers, how many keep
    requests away from it.
    """
    if drained:
        ends = "it ends soon" if drained == LEAVING else "it gets no new requests"
        return DRAINING, f"{ends}; {backend.in_flight} sequences are left"
    if not backend.healthy:
        return DOWN, "its last probe failed"
    if backend.asleep:
        return ASLEEP, "its engine says that it sleeps"
    if backend.silent:
        return RESTING, "none of its streams goes on"
    if resting or backend.resting:
        where = f" in {resting} of {workers} workers" if workers > 1 else ""
        return RESTING, f"too many requests failed here lately{where}"
    if backend.cold_until_s > now_s:
        return (
            WARMING,
            f"it came up and gets more and more for {backend.cold_until_s - now_s:.0f} s",
        )
    if backend.full(now_s):
        return FULL, "its engine has just refused a request for lack of room"
    return SERVING, ""


def states(
    fleet: Fleet, now_s: float, gauges: Mapping[int, WorkerGauges]
) -> dict[str, tuple[str, str]]:
    """The state of each backend and the reason, by name."""
    drained = {member.name: member.drained for member in fleet.membership.members}
    workers = len(gauges)
    rests: dict[str, int] = {}
    for worker in gauges.values():
        for name in worker.resting:
            rests[name] = rests.get(name, 0) + 1
    return {
        backend.name: state_of(
            backend,
            now_s,
            drained=drained.get(backend.name, 0),
            resting=rests.get(backend.name, 0),
            workers=workers,
        )
        for backend in fleet.backends
    }


def pool_counts(fleet: Fleet, found: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """By pool: how many backends are in each state, their mean load, and what they hold."""
    counts: dict[str, dict[str, Any]] = {
        pool: {"states": {}, "load": None, "in_flight": 0} for pool in fleet.membership.pools
    }
    loads: dict[str, list[float]] = {}
    for backend in fleet.backends:
        own = counts[backend.pool]
        state = found[backend.name][0]
        own["states"][state] = own["states"].get(state, 0) + 1
        own["in_flight"] += backend.in_flight
        if state in (SERVING, FULL, WARMING):
            loads.setdefault(backend.pool, []).append(backend.load)
    for pool, values in loads.items():
        counts[pool]["load"] = round(sum(values) / len(values), 4)
    return counts


def backend_rows(
    fleet: Fleet, found: Mapping[str, tuple[str, str]], witness: Witness
) -> list[dict[str, Any]]:
    """All that is known of each backend, in the order of the fleet."""
    engines = {one.backend: one for one in witness.engines}
    drains = {drain["backend"]: drain for drain in witness.drains}
    failures: dict[str, dict[str, int]] = {}
    for (name, kind), number in witness.failures.items():
        failures.setdefault(name, {})[kind] = number
    rows = []
    for backend in fleet.backends:
        state, why = found[backend.name]
        drain = drains.get(backend.name)
        if drain is not None:
            why = f"{drain['why']}; {why}"
        pace = witness.paces.get(backend.name)
        rows.append({
            "name": backend.name,
            "pool": backend.pool,
            "url": shown_url(backend.url),
            "state": state,
            "why": why,
            "ends_in_s": None if drain is None else drain["ends_in_s"],
            "in_flight": backend.in_flight,
            "load": round(backend.load, 4),
            "memory": round(backend.memory, 4),
            "prefill_s": round(backend.pending_s, 3),
            "pace": None if pace is None else round(pace, 3),
            "engine": engine_row(engines.get(backend.name)),
            "failures": failures.get(backend.name, {}),
        })  # fmt: skip
    return rows


def engine_row(said: EngineFigures | None) -> dict[str, Any] | None:
    """What an engine says of itself; `None` where it says nothing now."""
    if said is None or said.state is None:
        return None
    state = said.state
    hits, queries = state.hits, state.queries
    return {
        "running": state.running,
        "waiting": state.waiting,
        "kv_used": None if state.kv_used is None else round(state.kv_used, 4),
        "kv_tokens": state.kv_tokens,
        "hit_share": round(hits / queries, 4) if hits is not None and queries else None,
        "foreign": said.foreign,
        "age_s": None if said.age_s is None else round(said.age_s, 1),
    }


def shown_url(url: str) -> str:
    """A URL without a user's name and password, which may stand in it."""
    scheme, found, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{found}{place.rpartition('@')[2]}{slash}{path}" if found else url
