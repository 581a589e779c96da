"""What the workers of one machine hold of every backend: one array that all of them see.

Each worker writes its own row of cells and reads the sum of the others', so nothing is locked; a
number is eight aligned bytes and never torn. The supervisor writes one row more: which backends are
down. Knows neither where the memory comes from nor what time it is.
"""

from typing import Any

import numpy as np

from gateway.routing.fleet import Fleet

WIDTH = 3  # numbers per worker and backend: in flight, load, pending prefill
# The longest that others' numbers are believed without reading them again: at 2,000 requests/s and
# worker, ten decisions.
STALE_S = 0.005


class SharedLoad:
    """The array, as one of its users sees it.

    Layout, in doubles: (R,) 1.0 where a backend is down, then (W, R, 3) what each worker holds.
    R: rows, one per backend with some to spare for those that come later.
    """

    def __init__(self, memory: Any, *, workers: int, rows: int) -> None:
        """memory: a writable buffer of `SharedLoad.doubles` doubles, zero at first."""
        self._cells = memoryview(memory).cast("B").cast("d")
        whole = np.frombuffer(memory, dtype=np.float64)
        self._down = whole[:rows]
        self._held = whole[rows:].reshape(workers, rows, WIDTH)
        self.rows = rows

    def __repr__(self) -> str:
        return f"<SharedLoad {len(self._held)} workers × {self.rows} rows>"

    @staticmethod
    def doubles(*, workers: int, rows: int) -> int:
        """How many doubles the array has."""
        return rows * (1 + workers * WIDTH)

    def cell(self, worker: int, row: int) -> "memoryview[float]":
        """The three numbers of one worker about one backend, to be written by that worker."""
        first = self.rows + (worker * self.rows + row) * WIDTH
        return self._cells[first : first + WIDTH]

    def clear(self, worker: int) -> None:
        """Forgets the leases of a worker that is dead."""
        self._held[worker] = 0.0

    def others(self, worker: int | None, rows: int) -> list[list[float]]:
        """(rows, 3) totals over all workers but this one; `None`: over all of them."""
        held = self._held[:, :rows]
        if worker is None:
            summed = held.sum(axis=0)
        else:  # not the total less its own: that would leave rounding errors where nothing is held
            summed = held[:worker].sum(axis=0) + held[worker + 1 :].sum(axis=0)
        return summed.tolist()  # type: ignore[no-any-return]

    def in_use(self) -> set[int]:
        """The rows of which some worker still holds a lease."""
        return set(np.flatnonzero(self._held[:, :, 0].any(axis=0)).tolist())

    def mark(self, fleet: Fleet) -> None:
        """Tells all workers which backends are down, as the supervisor's fleet has it."""
        for backend in fleet.backends:
            self._down[fleet.row(backend)] = not backend.healthy

    def down(self) -> bytes:
        """(R,) which backends are down, as bytes: to compare them costs less than to read them."""
        return self._down.tobytes()


class LoadView:
    """One process's view of the shared array: publishes what its fleet holds, and sets the totals.

    The carrier of `Peers` between the workers of one machine.
    """

    def __init__(self, shared_load: SharedLoad, fleet: Fleet, worker: int | None) -> None:
        """worker: the number whose cells this process writes; they are cleared. `None`: this
        process only reads (the supervisor), and says itself which backends are down."""
        self._shared_load = shared_load
        self._fleet = fleet
        self._worker = worker
        self._due_s = 0.0
        self._down = b""
        self._reads_down = worker is not None
        self._published: set[str] = set()
        if worker is not None:
            shared_load.clear(worker)
        self.track()

    def __repr__(self) -> str:
        return f"<LoadView {self._worker} of {self._shared_load!r}>"

    def track(self) -> None:
        """Publishes backends that are new, and reads the totals of the present ones."""
        fleet = self._fleet
        self._places = tuple((backend, fleet.row(backend)) for backend in fleet.backends)
        self._rows = fleet.membership.rows
        self._due_s, self._down = 0.0, b""
        if self._worker is None:
            return
        for backend, row in self._places:
            if backend.name not in self._published:
                backend.publish_to(self._shared_load.cell(self._worker, row))
        self._published = {backend.name for backend, _ in self._places}

    def refresh(self, now_s: float) -> None:
        """Brings the fleet's totals up to date, unless that was done a moment ago."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + STALE_S
        totals = self._shared_load.others(self._worker, self._rows)
        for backend, row in self._places:
            backend.set_totals(*totals[row])
        if self._reads_down and (down := self._shared_load.down()) != self._down:
            self._down = down
            self._mark(down)

    def lose_supervisor(self) -> None:
        """Counts all backends as up from now on: nothing probes them any more, breakers decide."""
        self._reads_down = False
        for backend, _ in self._places:
            backend.probed(True)

    def _mark(self, down: bytes) -> None:
        flags = np.frombuffer(down, dtype=np.float64).tolist()
        for backend, row in self._places:
            if backend.healthy is bool(flags[row]):
                backend.probed(not flags[row])
