"""The load that each worker of one machine has on each backend, in one array of shared memory; and
that of other gateways, where there are any.

Each worker writes its own cells and reads the sum of the others'. No lock is needed: a number is
eight aligned bytes, which x86-64 and arm64 write in one piece. The supervisor writes what it found
out about the backends. Knows neither where the memory comes from nor what time it is.
"""

from math import inf
from typing import Any

import numpy as np

from gateway.routing.backend import WIDTH
from gateway.routing.fleet import Fleet
from gateway.routing.shared_queue import QueueView, SharedQueue
from planner.sizes import FloatArray

# Age up to which the other workers' numbers are used without reading them again: ten decisions of a
# worker at 2,000 requests/s.
STALE_S = 0.005
FOUND = 2  # numbers for each backend that the supervisor writes
ASLEEP = inf  # the load of others in an engine that takes nothing


class SharedLoad:
    """The array.

    Layout, in doubles: (R,) 1.0 where a backend is down; (R,) the load that other clients have
    there, `ASLEEP` where its engine sleeps; then (W, R, WIDTH) the sums of each worker as `Backend`
    lays them out. R: rows, one for each backend and some for backends that come later. Then a
    `SharedQueue`. With other gateways, these have one more part together, as if they were one more
    worker; the supervisor writes it.

    queue: what the workers know of each other's queues. workers: without the other gateways.
    """

    def __init__(self, memory: Any, *, workers: int, rows: int, gateways: int = 0) -> None:
        """memory: a writable buffer of `SharedLoad.doubles` doubles, all zero. gateways: 1
        with a part for other gateways."""
        self.workers = workers
        self._others = workers if gateways else None
        workers += gateways
        self._cells = memoryview(memory).cast("B").cast("d")
        whole = np.frombuffer(memory, dtype=np.float64)
        self._found = whole[: FOUND * rows].reshape(FOUND, rows)
        self._down, self._foreign = self._found
        end = rows * (FOUND + workers * WIDTH)
        self._held = whole[FOUND * rows : end].reshape(workers, rows, WIDTH)
        self.queue = SharedQueue(
            whole[end : end + SharedQueue.doubles(workers=workers)], workers=workers
        )
        self.rows = rows

    def __repr__(self) -> str:
        return f"<SharedLoad {len(self._held)} workers × {self.rows} rows>"

    @staticmethod
    def doubles(*, workers: int, rows: int, gateways: int = 0) -> int:
        """The length of the array."""
        workers += gateways
        return rows * (FOUND + workers * WIDTH) + SharedQueue.doubles(workers=workers)

    def cell(self, worker: int, row: int) -> "memoryview[float]":
        """The sums of one worker on one backend, for that worker to write."""
        first = FOUND * self.rows + (worker * self.rows + row) * WIDTH
        return self._cells[first : first + WIDTH]

    def clear(self, worker: int) -> None:
        """Set all numbers of a worker to zero: it died, and its leases with it."""
        self._held[worker] = 0.0
        self.queue.clear(worker)

    def others(self, worker: int | None, rows: int) -> list[list[float]]:
        """(rows, WIDTH) totals over all workers except this one; over all of them for `None`."""
        held = self._held[:, :rows]
        if worker is None:
            summed = held.sum(axis=0)
        else:  # not the total minus its own, which would leave rounding errors in place of zeros
            summed = held[:worker].sum(axis=0) + held[worker + 1 :].sum(axis=0)
        return summed.tolist()  # type: ignore[no-any-return]

    def own(self, rows: int) -> FloatArray:
        """(rows, WIDTH) totals over all workers, without other gateways."""
        summed: FloatArray = self._held[: self.workers, :rows].sum(axis=0)
        return summed

    def lend(self, sums: FloatArray) -> None:
        """Other gateways hold these (rows, WIDTH) sums from now on."""
        assert self._others is not None
        self._held[self._others, : len(sums)] = sums
        self._held[self._others, len(sums) :, 0] = 0.0

    def lose_gateways(self) -> None:
        """Count nothing for other gateways from now on: nobody hears of them any more."""
        if self._others is not None:
            self.clear(self._others)

    def in_use(self) -> set[int]:
        """The rows on which some worker still has a lease."""
        held = self._held[: self.workers, :, 0]
        return set(np.flatnonzero(held.any(axis=0)).tolist())

    def mark(self, fleet: Fleet) -> None:
        """Write for all workers which backends of the supervisor's fleet are down or asleep, and
        the load of others there."""
        for backend in fleet.backends:
            row = fleet.row(backend)
            self._down[row] = not backend.healthy
            self._foreign[row] = ASLEEP if backend.asleep else backend.foreign

    def found(self, rows: int) -> bytes:
        """(2, rows) which backends are down, and the load of others, as bytes, which are cheap to
        compare with the last ones."""
        return self._found[:, :rows].tobytes()


class LoadView:
    """The `Peers` of one process: publishes the load of its fleet in the array, and reads the
    totals.

    queue: of a worker, its view on the queues of all.
    """

    def __init__(self, shared_load: SharedLoad, fleet: Fleet, worker: int | None) -> None:
        """worker: number of this worker, whose cells are cleared; `None` in the supervisor, which
        has no cells and writes what it found out."""
        self._shared_load = shared_load
        self._fleet = fleet
        self._worker = worker
        self._due_s = 0.0
        self._found = b""
        self._reads_found = worker is not None
        self._published: set[str] = set()
        self.queue: QueueView | None = None
        if worker is not None:
            shared_load.clear(worker)
            self.queue = QueueView(shared_load.queue, worker)
        self.track()

    def __repr__(self) -> str:
        return f"<LoadView {self._worker} of {self._shared_load!r}>"

    def track(self) -> None:
        """Publish the load of new backends, and read the totals of the backends of now."""
        fleet = self._fleet
        self._places = tuple((backend, fleet.row(backend)) for backend in fleet.backends)
        self._rows = fleet.membership.rows
        self._due_s, self._found = 0.0, b""
        if self._worker is None:
            return
        for backend, row in self._places:
            if backend.name not in self._published:
                backend.publish_to(self._shared_load.cell(self._worker, row))
        self._published = {backend.name for backend, _ in self._places}

    def refresh(self, now_s: float) -> None:
        """Update the fleet's totals, unless they were read less than `STALE_S` ago."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + STALE_S
        totals = self._shared_load.others(self._worker, self._rows)
        for backend, row in self._places:
            backend.set_totals(totals[row])
        self._fleet.mix()
        if self._reads_found and (found := self._shared_load.found(self._rows)) != self._found:
            self._found = found
            self._mark(found, now_s)

    def lose_supervisor(self) -> None:
        """Count all backends as up, awake and without other clients from now on: no process asks
        them any more, so that only the breakers are left to decide."""
        self._reads_found = False
        self._shared_load.lose_gateways()
        for backend, _ in self._places:
            backend.probed(True)
            backend.asleep, backend.foreign = False, 0.0

    def _mark(self, found: bytes, now_s: float) -> None:
        down, foreign = np.frombuffer(found, dtype=np.float64).reshape(FOUND, -1).tolist()
        for backend, row in self._places:
            if backend.healthy is bool(down[row]):
                self._fleet.probed(backend, not down[row], now_s)
            if backend.asleep is not (foreign[row] == ASLEEP):
                self._fleet.sleeps(backend, not backend.asleep, now_s)
            backend.foreign = 0.0 if backend.asleep else foreign[row]
