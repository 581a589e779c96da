"""Every pool and backend that could have a request: how full it is, and why it lost. Pure.

The figures are the router's own: `Pressure`, `Selection` and `Eligibility` of the same table.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from gateway.explanation.standpoint import AskedRequest, Standpoint
from gateway.routing.backend import NO_CLASS, Backend
from gateway.routing.eligibility import Eligibility
from gateway.routing.pressure import PROMPT, Pressure
from gateway.routing.selection import FULL, LEFT, Selection
from planner.model.pool import Pool

EPSILON = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedBackend:
    """A backend beside the others of its pool. pressure: with the request, what the backend's
    promises and memory take of it, 1 at most if they are kept; `None` if it takes nothing now.
    known: the share of the prompt that it has had, as far as is known. lost: why it was not chosen;
    empty if it was, at some turn."""

    name: str
    state: str
    in_flight: int
    load: float
    memory: float
    prefill_s: float
    known: float
    pressure: float | None
    lost: str


class PoolRanking:
    """The candidates of one request. chosen: names of the backends that get it, at any turn."""

    def __init__(self, at: Standpoint, asked: AskedRequest, chosen: Collection[str]) -> None:
        self._at, self._asked, self._chosen = at, asked, chosen
        table, grid = at.table, at.table.buckets.grid
        self._class = asked.bucket // grid.cells
        self._pressure = Pressure(table)
        self._selection = Selection(table, at.fleet, None)
        self._eligibility = Eligibility(table)
        self._order = self._eligibility.order(asked.bucket, asked.estimate)
        longer = self._class * grid.cells + grid.cell(
            asked.estimate.input_tokens, asked.estimate.output_p90
        )
        self._longer = longer
        self._safe = self._eligibility.safe(asked.bucket, longer)
        self._shares = dict(table.slices[asked.bucket])
        trail = asked.estimate.trail
        self._known = {} if trail is None else trail.shares

    def __repr__(self) -> str:
        return f"<PoolRanking for {self._asked.estimate!r}>"

    def rows(self) -> list[dict[str, Any]]:
        """All pools of the model, those that the plan uses for this size first, with their
        backends."""
        pools = self._at.table.order[self._asked.bucket]
        ranked = sorted(pools, key=lambda pool: -self._shares.get(pool, 0.0))
        return [self._row(pool) for pool in ranked]

    def _row(self, number: int) -> dict[str, Any]:
        at, table, bucket = self._at, self._at.table, self._asked.bucket
        pool, backends = at.pools[number], self._backends(number)
        wins = any(one.name in self._chosen for one in backends)
        seconds, slots = at.plan.seconds[bucket][number], table.slots[bucket][number]
        own = table.own[bucket]
        return {
            "pool": pool.name,
            "gpu": pool.gpu if pool.gpus == 1 else f"{pool.gpus}x{pool.gpu}",
            "share": self._shares.get(number, 0.0),
            "backends_planned": table.backends[number],
            "usd_per_1000": _usd(pool, seconds),
            "n_star": 1 / slots[own] if slots and slots[own] > 0 else None,
            "prefill_s": self._asked.estimate.prompt_tokens * table.prefill_s[number],
            "lost": "" if wins else self._lost(number, backends),
            "backends": [_figures(one) for one in backends],
        }

    def _lost(self, number: int, backends: Sequence[RankedBackend]) -> str:
        """Why a pool serves the request at no turn."""
        estimate, table = self._asked.estimate, self._at.table
        cannot = self._cannot(number)
        if cannot:
            return cannot
        if not any(self._live(one) for one in self._at.fleet.pool(table.pools[number])):
            return "no backend of it is up" if backends else "it has no backend"
        if number in self._shares:
            return "none of its backends has room now"
        if not self._asked.promised:
            return "another pool, which is before it in the plan's order, has room"
        if not self._safe[number]:
            longer = table.buckets.describe(self._longer)
            return (
                "not planned for this size; nothing spills here, because the promise would not "
                f"hold if the answer had {estimate.output_p90:,} tokens, as one in ten has "
                f"({longer})"
            )
        return "not planned for this size; used only where the planned pools have no room"

    def _cannot(self, number: int) -> str:
        """Why a pool cannot serve the request, however idle it is; empty if it can."""
        estimate, table = self._asked.estimate, self._at.table
        name = table.pools[number]
        if estimate.only is not None and name not in estimate.only:
            return "its engines cannot serve such a request: an adapter, an ability or the endpoint"
        if number not in self._order:
            return (
                f"its context of {table.context[number]:,} tokens is too short: prompt and answer "
                f"may need {estimate.room_tokens:,}"
            )
        if not self._asked.promised:
            return ""
        if not table.feasible[self._asked.bucket][number]:
            return self._infeasible(number)
        return ""

    def _infeasible(self, number: int) -> str:
        """Which part of the promise a pool cannot keep for this size, even alone."""
        table, slo = self._at.table, self._at.table.buckets.classes[self._class].slo
        prefill_s = self._asked.estimate.prompt_tokens * table.prefill_s[number]
        if prefill_s > PROMPT * table.allowed_s[self._class]:
            return (
                f"the promise cannot hold for this size: the prompt alone takes {prefill_s:.2f} s "
                f"of the {slo.ttft_s:g} s to the first token"
            )
        return (
            "the promise cannot hold for this size: at "
            f"{slo.ttft_s:g} s and {1000 * slo.tpot_s:g} ms a token not one request fits"
        )

    def _backends(self, number: int) -> list[RankedBackend]:
        name, at = self._at.table.pools[number], self._at
        usable = at.fleet.pool(name)
        own = [backend for backend in at.fleet.backends if backend.pool == name]
        allowed = self._allowed(number)
        pressures = {b.name: self._pressed(number, b) for b in usable}
        best = min(
            (pressures[n] for n in allowed if n in self._chosen), default=None
        )  # of several turns the least
        made = []
        for backend in own:
            pressure = pressures.get(backend.name, inf)
            lost = "" if backend.name in self._chosen else self._beaten(
                number, backend, pressure, allowed, best, drained=backend not in usable
            )  # fmt: skip
            made.append(
                RankedBackend(
                    name=backend.name,
                    state=at.states[backend.name][0],
                    in_flight=backend.in_flight,
                    load=backend.load + backend.foreign,
                    memory=backend.memory,
                    prefill_s=backend.pending_s,
                    known=self._known.get(backend.name, 0.0),
                    pressure=pressure if isfinite(pressure) else None,
                    lost=lost,
                )
            )
        return made

    def _allowed(self, number: int) -> list[str]:
        """Names of the backends that the plan uses: the first live ones of the pool."""
        live = [b for b in self._at.fleet.pool(self._at.table.pools[number]) if self._live(b)]
        return [backend.name for backend in live[: self._at.table.backends[number]]]

    def _live(self, backend: Backend) -> bool:
        return backend.live(self._at.now_s)

    def _pressed(self, number: int, backend: Backend) -> float:
        """The pressure by which backends are compared; infinite where nothing is taken."""
        now_s, asked = self._at.now_s, self._asked
        if not self._live(backend) or backend.full(now_s) or backend.behind(now_s):
            return inf
        return (
            self._plain(number, backend)
            + backend.cold(now_s)
            + backend.breaker.penalty
            + (inf if backend.name in asked.exclude else 0.0)
        )

    def _plain(self, number: int, backend: Backend) -> float:
        asked, table, estimate = self._asked, self._at.table, self._asked.estimate
        return self._pressure.of(
            backend,
            number,
            asked.bucket,
            table.own[asked.bucket] if asked.promised else NO_CLASS,
            self._selection.memory(number, estimate),
            self._selection.prefill_s(number, estimate, backend),
            self._at.now_s,
            estimate.lasting,
        )

    def _beaten(
        self,
        number: int,
        backend: Backend,
        pressure: float,
        allowed: Sequence[str],
        best: float | None,
        *,
        drained: bool,
    ) -> str:
        """Why a backend was not chosen. best: the pressure of the one of its pool that was."""
        at, asked = self._at, self._asked
        state, why = at.states[backend.name]
        if drained or not self._live(backend):
            return f"{state}: {why}" if why else f"it gets no requests now ({state})"
        if backend.name in asked.exclude:
            return "its engine lacks the adapter that is asked for, or another has the answer"
        if self._cannot(number):
            return ""  # the pool says it
        if not isfinite(pressure):
            return why or "its engine is full, or a first token that was due has not come"
        if backend.name not in allowed:
            planned = at.table.backends[number]
            return f"beyond the plan, which uses {planned} live backends of the pool, the first"
        crowded = self._crowded(number, backend)
        if crowded:
            return crowded
        if best is not None and pressure >= best - EPSILON:
            if pressure <= best + EPSILON:
                return "as free as the one that was chosen, which comes first"
            return f"fuller than the one that was chosen: {pressure:.2f} against {best:.2f}"
        if best is not None:
            return "freer, but the one that was chosen has had the beginning of the prompt"
        return "it has room; another pool serves"

    def _crowded(self, number: int, backend: Backend) -> str:
        """Which measure says that a backend has no room; empty if it has."""
        asked, table, estimate = self._asked, self._at.table, self._asked.estimate
        if backend.idle and estimate.width == 1:
            return ""
        prefill_s = self._selection.prefill_s(number, estimate, backend)
        waits_s, slack_s = backend.pending_s + prefill_s, asked.slack_s(table)
        if waits_s > slack_s:
            return (
                f"the first token would come too late: {waits_s:.2f} s of prompts, its own with "
                f"them, where the promise leaves {slack_s:.2f} s"
            )
        pressure = self._plain(number, backend) + backend.cold(self._at.now_s)
        most = FULL if asked.promised else LEFT
        if pressure <= most:
            return ""
        memory = backend.memory + self._selection.memory(number, estimate)
        if memory >= pressure - EPSILON:
            return f"its KV cache would be too full: {memory:.2f} of it"
        whose = "" if asked.promised else ", the most for requests without a promise"
        return (
            f"no room: pressure {pressure:.2f} with this request, above {most:g}{whose} (load "
            f"{backend.load + backend.foreign:.2f}, {backend.pending_s:.2f} s of prompts wait)"
        )


def _usd(pool: Pool, seconds: float) -> float | None:
    """Dollars for 1,000 such requests on a full backend; `None` where the promise cannot hold."""
    return pool.usd_per_hour * seconds / 3.6 if isfinite(seconds) else None


def _figures(one: RankedBackend) -> dict[str, Any]:
    return {
        "name": one.name,
        "state": one.state,
        "in_flight": one.in_flight,
        "load": round(one.load, 4),
        "memory": round(one.memory, 4),
        "prefill_s": round(one.prefill_s, 4),
        "known": round(one.known, 4),
        "pressure": None if one.pressure is None else round(one.pressure, 4),
        "lost": one.lost,
    }
