"""The order in which waiting requests of one class take their turn, fair to all callers. Pure.

Of the callers that wait, the one that was given the fewest tokens in the last ten seconds goes
first, and of its requests the oldest. So a caller that asks for less than its equal part gets all
of it, whatever the others ask for. Knows no backend.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from math import exp, inf
from typing import Final

from gateway.routing.ticket import Ticket

WINDOW_S: Final = 10.0  # for so long a caller pays for what it was given
MEMORY_S: Final = 5.0  # time constant of the measured drain rate
# A drain rate is known once requests have waited for this share of the time that one may wait, but
# at least and at most for so long.
PATIENCE: Final = 0.125
LEAST_S: Final = 0.5
LONGEST_S: Final = 4.0
KNOWN: Final = 10_000  # callers whose tokens are remembered; beyond, the oldest half is forgotten


class Served:
    """Tokens given to each caller in the last `WINDOW_S`: a window that slides over two counters,
    this one's and a part of the last one's."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        """weights: of callers by id, 1 for the others: twice the weight, twice the part."""
        self.weights = weights
        self._now: dict[str, float] = {}
        self._before: dict[str, float] = {}
        self._window = 0
        self._total = self._total_before = 0.0

    def __repr__(self) -> str:
        return f"<Served {len(self._now)} callers>"

    def add(self, caller: str, tokens: int, now_s: float) -> None:
        """Note tokens that a caller is given."""
        self._slide(now_s)
        if len(self._now) >= KNOWN and caller not in self._now:
            self._now.clear()
        self._now[caller] = self._now.get(caller, 0.0) + tokens
        self._total += tokens

    def tokens(self, caller: str, now_s: float) -> float:
        """The tokens that a caller was given, divided by its weight."""
        self._slide(now_s)
        left = 1.0 - (now_s / WINDOW_S - self._window)
        total = self._now.get(caller, 0.0) + left * self._before.get(caller, 0.0)
        return total / self.weight(caller)

    def over(self, caller: str, now_s: float) -> bool:
        """Whether a caller was given more than the mean of all callers."""
        callers = max(len(self._now), len(self._before))
        if callers < 2:
            return False
        mine = self.tokens(caller, now_s)
        left = 1.0 - (now_s / WINDOW_S - self._window)
        return mine * callers > self._total + left * self._total_before

    def weight(self, caller: str) -> float:
        """The weight of a caller."""
        return self.weights.get(caller, 1.0) if self.weights else 1.0

    def _slide(self, now_s: float) -> None:
        window = int(now_s / WINDOW_S)
        if window != self._window:
            follows = window == self._window + 1
            self._before = self._now if follows else {}
            self._total_before = self._total if follows else 0.0
            self._now, self._total, self._window = {}, 0.0, window


class Drain:
    """How fast a queue drains, in tokens per second, measured while it is not empty."""

    def __init__(self) -> None:
        self._tokens = self._busy_s = self._at_s = 0.0

    def __repr__(self) -> str:
        return f"<Drain {self._tokens:.0f} tokens in {self._busy_s:.1f} s>"

    def note(self, tokens: int, now_s: float, *, waiting: bool) -> None:
        """Note tokens that leave at this moment. waiting: whether requests waited since the last
        call."""
        gone_s = now_s - self._at_s
        self._at_s = now_s
        if not waiting:
            return
        kept = exp(-gone_s / MEMORY_S)
        self._tokens = self._tokens * kept + tokens
        self._busy_s = self._busy_s * kept + gone_s

    def wait_s(self, tokens: float, patience_s: float = 0.0) -> float | None:
        """Seconds until so many tokens have left; `None` if the rate is not known.

        patience_s: how long the request may wait that asks.
        """
        if self._busy_s < min(LONGEST_S, max(LEAST_S, PATIENCE * patience_s)):
            return None
        return inf if self._tokens <= 0 else tokens * self._busy_s / self._tokens


class Turns:
    """The waiting requests of one class of one model.

    rank: of the class; a smaller one takes its turn earlier. drain: measures how fast they leave.
    tokens: of all that wait.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.drain = Drain()
        self.tokens = 0
        self._by_caller: dict[str, deque[Ticket]] = {}
        self._tokens_of: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Turns of rank {self.rank}: {len(self)} requests, {self.tokens} tokens>"

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._by_caller.values())

    def add(self, ticket: Ticket, *, first: bool = False) -> None:
        """Let a request wait. first: before the others of its caller."""
        waiting = self._by_caller.setdefault(ticket.caller, deque())
        (waiting.appendleft if first else waiting.append)(ticket)
        self.tokens += ticket.tokens
        self._tokens_of[ticket.caller] = self.tokens_of(ticket.caller) + ticket.tokens

    def tickets(self) -> list[Ticket]:
        """All that wait, each caller's in the order of their turns, last ones first."""
        return [t for waiting in self._by_caller.values() for t in reversed(waiting)]

    def remove(self, ticket: Ticket) -> None:
        """Take a request out."""
        caller = ticket.caller
        waiting = self._by_caller[caller]
        waiting.remove(ticket)
        self.tokens -= ticket.tokens
        self._tokens_of[caller] -= ticket.tokens
        if not waiting:
            del self._by_caller[caller], self._tokens_of[caller]

    def tokens_of(self, caller: str) -> int:
        """The tokens of a caller that wait."""
        return self._tokens_of.get(caller, 0)

    def ahead(self, caller: str, tokens: int, served: Served, now_s: float) -> float:
        """The tokens that take their turn before a new request of a caller has had its own."""
        level = served.tokens(caller, now_s)
        level += (self.tokens_of(caller) + tokens) / served.weight(caller)
        total = float(self.tokens_of(caller))
        for other, waiting in self._tokens_of.items():
            if other != caller:
                sooner = (level - served.tokens(other, now_s)) * served.weight(other)
                total += min(float(waiting), max(0.0, sooner))
        return total

    def late(self, now_s: float) -> list[Ticket]:
        """The requests that have waited for as long as they may."""
        return [t for waiting in self._by_caller.values() for t in waiting if t.until_s <= now_s]

    def order(self, served: Served, now_s: float) -> Iterator[tuple[float, Ticket]]:
        """The requests in the order of their turns, if no other comes, each with the tokens that
        its caller has been given by then. None may be added or removed before the end."""
        levels = {c: served.tokens(c, now_s) for c in self._by_caller}
        queues = {c: iter(waiting) for c, waiting in self._by_caller.items()}
        while levels:
            caller = min(levels, key=levels.__getitem__)
            ticket = next(queues[caller], None)
            if ticket is None:
                del levels[caller]
                continue
            yield levels[caller], ticket
            levels[caller] += ticket.tokens / served.weight(caller)

    def greediest(self, served: Served, now_s: float) -> Ticket | None:
        """The newest request of the caller that would have its turn last; `None` if none waits."""
        if not self._by_caller:
            return None
        caller = max(
            self._by_caller,
            key=lambda c: served.tokens(c, now_s) + self._tokens_of[c] / served.weight(c),
        )
        return self._by_caller[caller][-1]
