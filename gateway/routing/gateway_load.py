"""The load that other gateways have on the same fleet, beside that of this one. Pure.

A gateway tells the others what its own requests hold and wait for (`held`), and is told what theirs
do (`lend`), some ten times a second. With one process the totals of the fleet are set then, and
nothing is added to any request; with several workers the array that they share has a part for the
other gateways. Knows neither how gateways speak to each other nor what time it is.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gateway.routing.backend import WIDTH
from gateway.routing.fleet import Fleet
from gateway.routing.shared_load import SharedLoad
from gateway.routing.shared_queue import (
    CALLERS,
    POOLS,
    QueueView,
    SharedQueue,
    first_claims,
    levels,
)
from planner.sizes import FloatArray

MINE, THEIRS = 0, 1  # parts of the queue's array where there is one process


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Holding:
    """What some gateways hold.

    sums: (R, WIDTH) of their requests on the fleet's backends, in their order, as `Backend` lays
    them out. tokens: (CALLERS,) given to callers lately. claims: (POOLS, 3) of those that wait, who
    comes first for each pool: rank + 1 (0: nobody waits), level and seconds until it is due.
    """

    sums: FloatArray
    tokens: FloatArray
    claims: FloatArray

    @classmethod
    def nothing(cls, backends: int) -> "Holding":
        """On so many backends."""
        return cls(
            sums=np.zeros((backends, WIDTH)),
            tokens=np.zeros(CALLERS),
            claims=np.zeros((POOLS, 3)),
        )


class GatewayLoad(Protocol):
    """What this gateway holds, and what the others do."""

    def held(self, now_s: float) -> Holding:
        """What this gateway holds."""

    def lend(self, others: Holding, now_s: float, until_s: float) -> None:
        """From now on the other gateways hold this. until_s: until when what they wait for
        counts."""


class SoleView:
    """The `Peers` of a gateway with one process."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._cells: dict[str, memoryview[float]] = {}
        self._others: dict[str, list[float]] = {}
        self._queue = SharedQueue(np.zeros(SharedQueue.doubles(workers=2)), workers=2)
        self.queue: QueueView | None = QueueView(self._queue, MINE)
        self.track()

    def __repr__(self) -> str:
        return f"<SoleView of {self._fleet!r}>"

    def refresh(self, now_s: float) -> None:
        """Nothing: `lend` sets the totals."""

    def track(self) -> None:
        """Count what new backends hold, each in a cell of its own, which ends with the backend."""
        before, self._cells = self._cells, {}
        for backend in self._fleet.backends:
            cell = before.get(backend.name)
            if cell is None:
                cell = memoryview(bytearray(8 * WIDTH)).cast("d")
                backend.publish_to(cell)
            self._cells[backend.name] = cell
        nothing = [0.0] * WIDTH
        self._others = {name: self._others.get(name, nothing) for name in self._cells}
        self._set_totals()

    def held(self, now_s: float) -> Holding:
        """See `GatewayLoad`."""
        cells = [self._cells[backend.name].tolist() for backend in self._fleet.backends]
        return _holding(np.array(cells).reshape(-1, WIDTH), self._queue, now_s, workers=1)

    def lend(self, others: Holding, now_s: float, until_s: float) -> None:
        """See `GatewayLoad`."""
        names = (backend.name for backend in self._fleet.backends)
        self._others = dict(zip(names, others.sums.tolist(), strict=True))
        self._set_totals()
        _lend(self._queue, THEIRS, others, now_s, until_s)

    def _set_totals(self) -> None:
        for backend in self._fleet.backends:
            backend.set_totals(self._others[backend.name])
        self._fleet.mix()


class SharedView:
    """The part of the shared array in which several workers find what other gateways have."""

    def __init__(self, shared_load: SharedLoad, fleet: Fleet) -> None:
        """shared_load: with a part for other gateways."""
        self._shared_load = shared_load
        self._fleet = fleet

    def __repr__(self) -> str:
        return f"<SharedView of {self._shared_load!r}>"

    def held(self, now_s: float) -> Holding:
        """See `GatewayLoad`."""
        rows = [self._fleet.row(backend) for backend in self._fleet.backends]
        shared = self._shared_load
        sums = shared.own(self._fleet.membership.rows)[rows]
        return _holding(sums, shared.queue, now_s, workers=shared.workers)

    def lend(self, others: Holding, now_s: float, until_s: float) -> None:
        """See `GatewayLoad`."""
        rows = [self._fleet.row(backend) for backend in self._fleet.backends]
        whole = np.zeros((self._fleet.membership.rows, WIDTH))
        whole[rows] = others.sums
        self._shared_load.lend(whole)
        _lend(self._shared_load.queue, self._shared_load.workers, others, now_s, until_s)


def _holding(sums: FloatArray, queue: SharedQueue, now_s: float, *, workers: int) -> Holding:
    """workers: of this gateway, whose parts of the queue's array come first."""
    tokens, claims = levels(queue, now_s, workers), first_claims(queue, now_s, workers)
    return Holding(sums=sums, tokens=tokens, claims=claims)


def _lend(queue: SharedQueue, part: int, others: Holding, now_s: float, until_s: float) -> None:
    claims = others.claims.copy()
    claims[:, 2] += now_s
    queue.lend(part, others.tokens, claims, now_s, until_s)
