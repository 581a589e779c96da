"""What the workers of one machine know of each other's queues, in an array of shared memory.

Each worker writes its own part: who of its waiting requests comes first for each pool, and the
tokens that it gave to each caller. So a request waits behind those of other workers too, and a
caller's part is that of all workers together. Knows neither where the memory comes from nor what
time it is.
"""

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import numpy as np

from gateway.routing.turns import WINDOW_S, Served

POOLS = 64  # of further pools the claims are not shared
CALLERS = 1024  # callers are told apart by a digest of so many values
CLAIM = 4  # numbers per pool: rank + 1 (0: nobody waits), level, due time, time of writing
# A claim that was not written again for so long does not count: its worker is stuck or dead.
FRESH_S = 0.1
STALE_S = 0.005  # age up to which the other workers' numbers are used without reading them again

# Who comes first: rank, level and due time.
Claim = tuple[int, float, float]
Claims = Mapping[int, Claim]  # by pool


class SharedQueue:
    """The array: (W, POOLS, CLAIM) claims, (W,) number of the window, and (W, 2, CALLERS) tokens
    given in this window and in the one before."""

    def __init__(self, memory: Any, *, workers: int) -> None:
        """memory: `SharedQueue.doubles` doubles, all zero, as a NumPy array."""
        ends = np.cumsum([workers * POOLS * CLAIM, workers])
        claims, windows, tokens = np.split(memory, ends)
        self.claims = claims.reshape(workers, POOLS, CLAIM)
        self.windows = windows
        self.tokens = tokens.reshape(workers, 2, CALLERS)

    def __repr__(self) -> str:
        return f"<SharedQueue of {len(self.windows)} workers>"

    @staticmethod
    def doubles(*, workers: int) -> int:
        """The length of the array."""
        return workers * (POOLS * CLAIM + 1 + 2 * CALLERS)

    def clear(self, worker: int) -> None:
        """Forget the claims of a worker: it died, and its requests with it."""
        self.claims[worker] = 0.0

    def lend(self, part: int, tokens: Any, claims: Any, now_s: float, until_s: float) -> None:
        """Other gateways gave callers these tokens lately: in this window, since they tell it again
        before it is over. claims: (POOLS, 3) of those that wait there, until then: rank + 1, level
        and due time."""
        self.tokens[part, 1] = 0.0
        self.tokens[part, 0] = tokens
        self.windows[part] = int(now_s / WINDOW_S)
        self.claims[part, :, 1:3] = claims[:, 1:]
        self.claims[part, :, 3] = until_s - FRESH_S
        self.claims[part, :, 0] = claims[:, 0]


class QueueView:
    """The view of one worker on the queues of all."""

    def __init__(self, shared_queue: SharedQueue, worker: int) -> None:
        """worker: its number."""
        self._mine = shared_queue.claims[worker]
        self._all, self._worker = shared_queue.claims, worker
        self._shared_queue = shared_queue
        self._due_s, self._others = 0.0, dict[int, Claim]()
        shared_queue.clear(worker)

    def __repr__(self) -> str:
        return f"<QueueView {self._worker} of {self._shared_queue!r}>"

    def served(self, weights: Mapping[str, float]) -> "SharedServed":
        """The tokens given to callers by all workers. weights: of callers by id."""
        return SharedServed(self._shared_queue, self._worker, weights)

    def publish(self, claims: Claims, now_s: float) -> None:
        """Write who comes first for each pool here."""
        self._mine[:, 0] = 0.0
        for pool, (rank, level, due_s) in claims.items():
            if pool < POOLS:
                self._mine[pool] = rank + 1, level, due_s, now_s

    def others(self, now_s: float) -> Claims:
        """Who comes first for each pool in the other workers' queues."""
        if now_s >= self._due_s:
            self._due_s = now_s + STALE_S
            self._others = self._read(now_s)
        return self._others

    def _read(self, now_s: float) -> dict[int, Claim]:
        first: dict[int, Claim] = {}
        waiting = (self._all[:, :, 0] > 0) & (self._all[:, :, 3] > now_s - FRESH_S)
        for worker, pool in np.argwhere(waiting).tolist():
            if worker != self._worker:
                rank, level, due_s, _ = self._all[worker, pool].tolist()
                claim = int(rank) - 1, level, due_s
                first[pool] = min(claim, first.get(pool, claim))
        return first


class SharedServed(Served):
    """Tokens given to each caller by all workers. Two callers of one digest count as one."""

    def __init__(
        self, shared_queue: SharedQueue, worker: int, weights: Mapping[str, float]
    ) -> None:
        super().__init__(weights)
        self._shared, self._worker = shared_queue, worker
        self._slots: dict[str, int] = {}
        self._due_s = 0.0
        self._levels: Any = np.zeros(CALLERS)  # mypyc is not shown the types of NumPy
        self._total_tokens, self._callers = 0.0, 0

    def add(self, caller: str, tokens: int, now_s: float) -> None:
        window = self._current(now_s)
        mine, slot = self._shared.tokens[self._worker], self._slot(caller)
        if self._shared.windows[self._worker] != window:
            follows = self._shared.windows[self._worker] == window - 1
            mine[1] = mine[0] if follows else 0.0
            mine[0] = 0.0
            self._shared.windows[self._worker] = window
        mine[0, slot] += tokens
        self._levels[slot] += tokens

    def tokens(self, caller: str, now_s: float) -> float:
        self._refresh(now_s)
        return float(self._levels[self._slot(caller)]) / self.weight(caller)

    def over(self, caller: str, now_s: float) -> bool:
        mine = self.tokens(caller, now_s)
        return self._callers > 1 and mine * self._callers > self._total_tokens

    def _slot(self, caller: str) -> int:
        slot = self._slots.get(caller)
        if slot is None:
            if len(self._slots) >= CALLERS:
                self._slots.clear()
            slot = self._slots[caller] = _digest(caller) % CALLERS
        return slot

    def _refresh(self, now_s: float) -> None:
        if now_s < self._due_s:
            return
        self._due_s = now_s + STALE_S
        self._levels = levels(self._shared, now_s, len(self._shared.windows))
        self._total_tokens = float(self._levels.sum())
        self._callers = int(np.count_nonzero(self._levels))

    @staticmethod
    def _current(now_s: float) -> int:
        return int(now_s / WINDOW_S)


def _digest(caller: str) -> int:
    """The same number in every process, of an id that is a digest or the name of a key."""
    try:
        return int(caller[:8], 16) if caller else 0
    except ValueError:
        return crc32(caller.encode())


def first_claims(shared: SharedQueue, now_s: float, workers: int) -> Any:
    """(POOLS, 3) of those that wait at the first so many workers, who comes first for each pool:
    rank + 1 (0: nobody waits), level and seconds until it is due."""
    first = np.zeros((POOLS, 3))
    claims = shared.claims[:workers]
    waiting = (claims[:, :, 0] > 0) & (claims[:, :, 3] > now_s - FRESH_S)
    for worker, pool in np.argwhere(waiting).tolist():
        rank, level, due_s, _ = claims[worker, pool].tolist()
        mine = rank, level, due_s - now_s
        if not first[pool, 0] or mine < tuple(first[pool].tolist()):
            first[pool] = mine
    return first


def levels(shared: SharedQueue, now_s: float, workers: int) -> Any:
    """(CALLERS,) tokens that the first so many workers gave in the last `WINDOW_S`."""
    window = int(now_s / WINDOW_S)
    tokens, windows = shared.tokens[:workers], shared.windows[:workers]
    left = 1.0 - (now_s / WINDOW_S - window)
    this = (windows == window)[:, None]
    last = (windows == window - 1)[:, None]
    # A worker that has given nothing in this window has not moved its numbers on.
    now = np.where(this, tokens[:, 0], 0.0)
    before = np.where(this, tokens[:, 1], np.where(last, tokens[:, 0], 0.0))
    return (now + left * before).sum(axis=0)
