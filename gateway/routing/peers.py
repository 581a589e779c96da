"""What the workers of one machine hold of every backend: one array that all of them see.

Each worker writes its own row and reads the sum of the others', so nothing is locked; a number is
eight aligned bytes and never torn. The supervisor writes one row more: which backends are down.
Knows neither where the memory comes from nor what time it is.
"""

from typing import Any

import numpy as np

from gateway.routing.backend import Fleet

WIDTH = 3  # numbers per worker and backend: in flight, load, pending prefill
STALE_S = 0.005  # the longest that others' numbers are believed without a look


class SharedLoad:
    """The array, as one of its users sees it.

    Layout, in doubles: (B,) 1.0 where a backend is down, then (W, B, 3) what each worker holds.
    """

    def __init__(self, memory: Any, *, workers: int, backends: int) -> None:
        """memory: a writable buffer of `SharedLoad.doubles` doubles, zero at first."""
        self._cells = memoryview(memory).cast("B").cast("d")
        whole = np.frombuffer(memory, dtype=np.float64)
        self._down = whole[:backends]
        self._held = whole[backends:].reshape(workers, backends, WIDTH)
        self._backends = backends

    def __repr__(self) -> str:
        workers = len(self._held)
        return f"<SharedLoad {workers} workers × {self._backends} backends>"

    @staticmethod
    def doubles(*, workers: int, backends: int) -> int:
        """How many doubles the array has."""
        return backends * (1 + workers * WIDTH)

    def cell(self, worker: int, backend: int) -> "memoryview[float]":
        """The three numbers of one worker about one backend, to be written by that worker."""
        first = self._backends + (worker * self._backends + backend) * WIDTH
        return self._cells[first : first + WIDTH]

    def clear(self, worker: int) -> None:
        """A worker is dead, and so are its leases."""
        self._held[worker] = 0.0

    def others(self, worker: int | None) -> list[list[float]]:
        """(B, 3) what all workers but this one hold together; `None`: all of them."""
        if worker is None:
            summed = self._held.sum(axis=0)
        else:  # not the whole less its own: that would leave crumbs of rounding
            summed = self._held[:worker].sum(axis=0) + self._held[worker + 1 :].sum(axis=0)
        return summed.tolist()  # type: ignore[no-any-return]

    def mark(self, fleet: Fleet) -> None:
        """Tells all which backends are down, as the fleet has it."""
        self._down[:] = [not backend.healthy for backend in fleet.backends]

    def down(self) -> bytes:
        """Which backends are down, to be compared and then read with `frombuffer`."""
        return self._down.tobytes()


class LoadView:
    """One user's place at the board: writes what its fleet holds, brings in what others hold."""

    def __init__(self, shared_load: SharedLoad, fleet: Fleet, worker: int | None) -> None:
        """worker: its row, which is cleared; `None` for who only looks (the supervisor)."""
        self._shared_load = shared_load
        self._worker = worker
        self._backends = fleet.backends
        self._due_s = 0.0
        self._down = b""
        self._heeds = worker is not None  # which are down: the supervisor itself says so
        if worker is not None:
            shared_load.clear(worker)
            for number, backend in enumerate(self._backends):
                backend.publish_to(shared_load.cell(worker, number))

    def __repr__(self) -> str:
        return f"<LoadView {self._worker} at {self._shared_load!r}>"

    def refresh(self, now_s: float) -> None:
        """Brings the fleet up to date, unless that was done a moment ago."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + STALE_S
        for backend, row in zip(
            self._backends, self._shared_load.others(self._worker), strict=True
        ):
            backend.set_totals(*row)
        if self._heeds and (down := self._shared_load.down()) != self._down:
            self._down = down
            self._mark(down)

    def abandoned(self) -> None:
        """Nobody probes any more: all backends count as up, and breakers decide."""
        self._heeds = False
        for backend in self._backends:
            backend.probed(True)

    def _mark(self, down: bytes) -> None:
        flags = np.frombuffer(down, dtype=np.float64).tolist()
        for backend, flag in zip(self._backends, flags, strict=True):
            if backend.healthy is bool(flag):
                backend.probed(not flag)
