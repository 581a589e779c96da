"""The load that other gateways have on the same fleet, beside that of this one. Pure.

A gateway tells the others what its own requests hold (`held`), and is told what theirs do (`lend`),
some ten times a second. With one process the totals of the fleet are set then, and nothing is added
to any request; with several workers the array that they share has a part for the other gateways.
Knows neither how gateways speak to each other nor what time it is.
"""

from typing import Protocol

import numpy as np

from gateway.routing.backend import WIDTH
from gateway.routing.fleet import Fleet
from gateway.routing.shared_load import SharedLoad
from gateway.routing.shared_queue import CALLERS, QueueView, SharedQueue, levels
from planner.sizes import FloatArray

MINE, THEIRS = 0, 1  # parts of the queue's array where there is one process


class GatewayLoad(Protocol):
    """What this gateway holds, and what the others do."""

    def held(self, now_s: float) -> tuple[FloatArray, FloatArray]:
        """(R, WIDTH) sums of this gateway's own requests on the fleet's backends, in their order,
        and (CALLERS,) tokens that it gave to callers lately."""

    def lend(self, sums: FloatArray, tokens: FloatArray, now_s: float) -> None:
        """From now on the other gateways hold these sums on the fleet's backends, and gave these
        tokens."""


class SoleView:
    """The `Peers` of a gateway with one process."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._cells: dict[str, memoryview[float]] = {}
        self._others: dict[str, list[float]] = {}
        self._tokens = SharedQueue(np.zeros(SharedQueue.doubles(workers=2)), workers=2)
        self.queue: QueueView | None = QueueView(self._tokens, MINE)
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

    def held(self, now_s: float) -> tuple[FloatArray, FloatArray]:
        """See `GatewayLoad`."""
        cells = [self._cells[backend.name].tolist() for backend in self._fleet.backends]
        return np.array(cells).reshape(-1, WIDTH), levels(self._tokens, now_s, 1)

    def lend(self, sums: FloatArray, tokens: FloatArray, now_s: float) -> None:
        """See `GatewayLoad`."""
        names = (backend.name for backend in self._fleet.backends)
        self._others = dict(zip(names, sums.tolist(), strict=True))
        self._set_totals()
        self._tokens.lend(THEIRS, tokens, now_s)

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

    def held(self, now_s: float) -> tuple[FloatArray, FloatArray]:
        """See `GatewayLoad`."""
        rows = [self._fleet.row(backend) for backend in self._fleet.backends]
        sums = self._shared_load.own(self._fleet.membership.rows)[rows]
        return sums, levels(self._shared_load.queue, now_s, self._shared_load.workers)

    def lend(self, sums: FloatArray, tokens: FloatArray, now_s: float) -> None:
        """See `GatewayLoad`."""
        rows = [self._fleet.row(backend) for backend in self._fleet.backends]
        whole = np.zeros((self._fleet.membership.rows, WIDTH))
        whole[rows] = sums
        self._shared_load.lend(whole, tokens, now_s)


def nothing(fleet: Fleet) -> tuple[FloatArray, FloatArray]:
    """What other gateways hold where none is heard of."""
    return np.zeros((len(fleet.backends), WIDTH)), np.zeros(CALLERS)
