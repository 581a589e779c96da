"""Which ends of requests a gateway may be blamed for. Knows what was wrong with engines, and the
lines of the gateway's own log. Pure."""

from collections.abc import Callable, Mapping
from math import inf

from loadtest.torture.fates import Fate
from loadtest.torture.ledger import Ask, Ledger
from planner.model.buckets import BEST_EFFORT

SETTLED_S = 60.0  # an engine is well, and a time is calm, so long after the last fault
QUEUED_S = 15.0  # a request that took longer waited for room, after its first attempt
CERTAIN = 300  # admitted requests of calm times below which their share says nothing
ATTAINED = 0.985

Promise = Callable[[Ask], tuple[float, float] | None]


class Referee:
    """Looks at every request when it has ended.

    calm, met: admitted requests of calm times that a promise was made to, and those that it was
    kept to.
    """

    def __init__(self, ledger: Ledger, *, promise: Promise) -> None:
        """promise: TTFT and TPOT of a request's class; `None`: none is promised."""
        self._ledger = ledger
        self._promise = promise
        self.calm = self.met = 0

    def see(self, ask: Ask, *, calm: bool, well: int, since_death_s: float) -> None:
        """Judge one request. calm: whether nothing was wrong from `SETTLED_S` before it to its end.
        well: number of engines of its model that had been well for `SETTLED_S`. since_death_s: the
        request began so long after a worker died, negative if it died meanwhile."""
        if calm and ask.end == "whole" and ask.status == 200:
            self._attain(ask)
        if calm and ask.light and ask.slo_class != BEST_EFFORT:
            self._ledger.counts["calm and light"] += 1
            self._ledger.counts["calm and light: refused"] += ask.status == 429
        refused = ask.line is not None and ask.line["status"] == 429  # in a stream of comments too
        if ask.end == "left" or refused or (ask.end == "whole" and ask.status < 500):
            self._agree(ask, since_death_s)
            return
        if allowed := self._excuse(ask, calm=calm, well=well, since_death_s=since_death_s):
            self._ledger.counts[f"failed: {allowed}"] += 1
        else:
            self._ledger.fail(f"{ask!r} failed for no reason, with {well} engines well")

    def close(self) -> None:
        """The world is over: was the promise kept?"""
        if self.calm >= CERTAIN and self.met < ATTAINED * self.calm:
            share = self.met / self.calm
            self._ledger.fail(f"{share:.2%} of {self.calm} admitted in calm times kept the promise")

    def _attain(self, ask: Ask) -> None:
        promise = self._promise(ask)
        if promise is None or ask.first_s is None or ask.ended_s is None or ask.slow:
            return
        ttft_s, tpot_s = promise
        first_s, rest_s = ask.first_s - ask.sent_s, ask.ended_s - ask.first_s
        if not ask.stream:  # the first token is not seen: both targets come to one
            first_s, rest_s = 0.0, ask.ended_s - ask.sent_s - ttft_s
        kept = first_s <= ttft_s and rest_s <= tpot_s * max(0, ask.output_tokens - 1)
        self.calm += 1
        self.met += kept
        if not kept:
            self._ledger.note(f"late: {ask!r}, {first_s:.2f} s and {rest_s:.2f} s")

    def _agree(self, ask: Ask, since_death_s: float) -> None:
        """The gateway's own line about a request says what its client saw."""
        line = ask.line
        if line is None:
            if since_death_s >= 0 and ask.end == "whole" and ask.status < 400:
                self._ledger.fail(f"the gateway has no line about {ask!r}")
            return
        if ask.end == "whole" and line["status"] != ask.status:
            self._ledger.fail(f"the gateway says {line['status']} of {ask!r}")
        if ask.end == "whole" and ask.status == 200 and line["outcome"] != "ok":
            self._ledger.fail(f"the gateway says {line['outcome']} of {ask!r}")

    def _excuse(self, ask: Ask, *, calm: bool, well: int, since_death_s: float) -> str | None:
        """Why a request may fail; `None`: it may not."""
        line: Mapping[str, object] = ask.line or {}
        bad = [fate for _, fate in ask.attempts if fate is not Fate.FINE]
        if since_death_s < 0:
            return "its worker died"
        if ask.poison:
            return "it is poisonous"
        if ask.end == "event" and not calm:
            return "its stream had begun"
        if calm:
            return None
        if len(bad) >= 2 or _number(line, "attempts") >= 2:
            return "its retries were used up"
        if _number(line, "duration_s") >= QUEUED_S:
            return "there was no room in time for another attempt"
        if well < 1:
            return "no engine was well"
        return None


def _number(line: Mapping[str, object], key: str) -> float:
    value = line.get(key)
    return float(value) if isinstance(value, int | float) else -inf
