"""What the clients of a simulated world asked and what became of it, beside what the engines and
the gateway say of the same requests. Data; knows no connection."""

from collections import Counter, deque
from collections.abc import Iterator
from math import inf

from loadtest.torture.fates import Fate

EVENTS = 400  # last events that are kept


class Ask:
    """One request of a client.

    leaves_s: seconds after which its client leaves; infinite: it stays. sent_s, first_s, ended_s:
    when it was sent, when the first byte came, when it ended; `None` before. end: how it ended:
    `whole`, `event` (an error event in a stream), `cut` (the connection was closed first) or `left`
    (by the client). attempts: (engine, fate) of each arrival at an engine. line: what the gateway's
    log says of it. tokens: of its answer. light: whether the load was low, and had been for long.
    """

    __slots__ = (
        "attempts", "caller", "end", "ended_s", "first_s", "id", "input_tokens",
        "leaves_s", "light", "line", "model", "output_tokens", "poison", "sent_s", "slo_class",
        "slow", "status", "stream", "tokens",
    )  # fmt: skip

    def __init__(
        self,
        request_id: str,
        *,
        model: str,
        slo_class: str,
        caller: str,
        input_tokens: int,
        output_tokens: int,
        stream: bool,
        leaves_s: float = inf,
        poison: bool = False,
        slow: bool = False,
    ) -> None:
        """slow: whether its client pauses between two reads."""
        self.id = request_id
        self.model, self.slo_class, self.caller = model, slo_class, caller
        self.input_tokens, self.output_tokens = input_tokens, output_tokens
        self.stream, self.leaves_s, self.poison, self.slow = stream, leaves_s, poison, slow
        self.sent_s = 0.0
        self.light = False
        self.first_s: float | None = None
        self.ended_s: float | None = None
        self.status = self.tokens = 0
        self.end = ""
        self.attempts: list[tuple[str, Fate]] = []
        self.line: dict[str, object] | None = None

    def __repr__(self) -> str:
        line = self.line or {}
        said = f"{line['reason']} {line['attempts']}× {line['duration_s']} s" if line else ""
        tried = ", ".join(f"{engine} {fate}" for engine, fate in self.attempts)
        return (
            f"{self.id} {self.model}/{self.slo_class} {self.input_tokens}+{self.output_tokens}"
            f"{' stream' if self.stream else ''}: {self.end} {self.status} {said} [{tried}]"
        )


class Broken(Exception):
    """A promise of the world is broken; the first one ends it."""


class Ledger:
    """All requests of a world, and its last events.

    open: under way, by id. counts: of ends and faults, by name.
    """

    def __init__(self, keep: int = EVENTS) -> None:
        self.open: dict[str, Ask] = {}
        self.ended: list[Ask] = []
        self.counts: Counter[str] = Counter()
        self.events: deque[str] = deque(maxlen=keep)
        self.broken: str | None = None
        self.now_s = 0.0

    def note(self, event: str) -> None:
        """Add an event to the log of the world."""
        self.events.append(f"{self.now_s:12.4f} {event}")

    def fail(self, what: str) -> None:
        """Note the first promise that is broken."""
        if self.broken is None:
            self.broken = what
            self.note(f"BROKEN: {what}")

    def begin(self, ask: Ask) -> None:
        ask.sent_s = self.now_s
        self.open[ask.id] = ask
        self.counts["requests"] += 1

    def end(self, ask: Ask, how: str) -> None:
        """Note how a request ended; twice is a broken promise."""
        if ask.id not in self.open:
            self.fail(f"a request ended twice: {ask!r}, then {how}")
            return
        del self.open[ask.id]
        ask.end, ask.ended_s = how, self.now_s
        self.ended.append(ask)
        self.counts[f"{how} {ask.status}" if how == "whole" else how] += 1
        self.note(f"{ask!r}")

    def take(self) -> Iterator[Ask]:
        """The requests that ended since the last call and that the gateway has had the time to
        report."""
        ready = [ask for ask in self.ended if self.now_s - (ask.ended_s or 0.0) > 2.0]
        self.ended = [ask for ask in self.ended if self.now_s - (ask.ended_s or 0.0) <= 2.0]
        yield from ready
