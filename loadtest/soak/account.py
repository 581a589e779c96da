"""Compares what clients, engines and the gateway say, request by request. Pure."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from loadtest.soak.ledger import ClientEnd, Ending, EngineBook, FleetHistory, GatewayBook

# A killed worker takes with it what it has not yet reported (every half second) and written.
UNREPORTED_S = 1.0
BROKEN_S = 2.0  # after a worker's death its clients notice, and read its last answers, so long
ANSWERED = (Ending.SERVED, Ending.REFUSED, Ending.BROKEN)
OUTCOMES = {
    Ending.SERVED: ("ok",),
    Ending.REFUSED: ("shed", "failed", "rejected"),
    Ending.BROKEN: ("failed",),
}
GAUGES = ("cuvee_in_flight", "cuvee_load", "cuvee_queued_requests", "cuvee_client_connections")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One thing that two ledgers tell differently. kind: a few words, the same for the same kind.
    number: of the request, if it is about one."""

    kind: str
    text: str
    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All ledgers of a run. sent: requests, numbered from 1. doubled: requests whose end was told
    to their client twice."""

    sent: int
    clients: Mapping[int, ClientEnd]
    doubled: tuple[int, ...]
    engines: EngineBook
    gateway: GatewayBook
    history: FleetHistory

    def excused(self, end: ClientEnd) -> bool:
        """Whether the gateway's word on this request may have died with a worker."""
        return self.history.near_death(end.at_s - BROKEN_S, BROKEN_S + UNREPORTED_S)


def endings(books: Books) -> dict[Ending, int]:
    """How many requests ended how. A connection that broke when a worker was killed makes
    orphans."""
    counts = Counter(_ending(books, end) for end in books.clients.values())
    return {ending: counts[ending] for ending in Ending if counts[ending]}


def by_well(books: Books, failed: Callable[[ClientEnd], bool]) -> dict[int, int]:
    """Requests that failed in this way, by the fewest engines that were well at one time while they
    were under way."""
    counts = Counter(
        books.history.fewest_well(end.started_s, end.at_s)
        for end in books.clients.values()
        if failed(end)
    )
    return dict(sorted(counts.items(), reverse=True))


def disagreements(books: Books) -> Iterator[Disagreement]:
    """Everything that does not agree; nothing if all is well."""
    yield from _clients(books)
    yield from _engines(books)
    yield from _lines(books)
    yield from _page(books)
    for name in GAUGES:
        if left := books.gateway.total(name):
            yield Disagreement("gauge", f"{name} is {left:g} when nothing is under way")


def _ending(books: Books, end: ClientEnd) -> Ending:
    if end.ending is Ending.LOST and books.history.near_death(end.at_s - BROKEN_S, BROKEN_S):
        return Ending.ORPHANED
    return end.ending


def _clients(books: Books) -> Iterator[Disagreement]:
    for number in range(1, books.sent + 1):
        end = books.clients.get(number)
        if end is None:
            yield Disagreement("lost", "its client never learned of an end", number)
        elif _ending(books, end) in (Ending.LOST, Ending.MIXED):
            kind = "lost" if end.ending is Ending.LOST else "mixed up"
            yield Disagreement(kind, end.detail, number)
        elif end.mistake and end.ending is Ending.REFUSED and end.status not in (400, 404):
            yield Disagreement("wrong status", f"{end.status} for a client's mistake", number)
    for number in books.doubled:
        yield Disagreement("answered twice", "its client was told two ends", number)


def _engines(books: Books) -> Iterator[Disagreement]:
    completed = books.engines.completed
    for text in books.engines.mixed:
        yield Disagreement("mixed up at an engine", text)
    for number, times in completed.items():
        if times > 1:
            yield Disagreement("done twice", f"engines answered it {times} times in full", number)
    for number, end in books.clients.items():
        if end.ending is Ending.SERVED and not completed[number]:
            yield Disagreement("ok but not served", "no engine answered it in full", number)


def _lines(books: Books) -> Iterator[Disagreement]:
    """The gateway's lines about single requests, beside their clients' words."""
    for number, end in books.clients.items():
        lines = books.gateway.lines.get(number, [])
        if len(lines) > 1:
            yield Disagreement("counted twice", f"{len(lines)} lines of the log", number)
        if end.ending not in ANSWERED or end.mistake:
            continue
        if not lines:
            if not books.excused(end):
                yield Disagreement("not counted", f"{end.ending}, but no line of the log", number)
        elif lines[0].outcome not in OUTCOMES[end.ending]:
            text = f"the client says {end.ending}, the gateway {lines[0].outcome}"
            yield Disagreement("told otherwise", text, number)
        elif end.ending is Ending.REFUSED and lines[0].status != end.status:
            text = f"the client says {end.status}, the gateway {lines[0].status}"
            yield Disagreement("told otherwise", text, number)
        elif lines[0].outcome == "ok" and not books.engines.begun[number]:
            yield Disagreement("told otherwise", "ok, but it came to no engine", number)


def _page(books: Books) -> Iterator[Disagreement]:
    """The page of metrics beside the lines of the log and the clients' words."""
    gateway = books.gateway
    slack = sum(map(books.excused, books.clients.values()))
    lines = [line for some in gateway.lines.values() for line in some]
    told = Counter(line.outcome for line in lines)
    codes = Counter(line.status for line in lines)
    retried = sum(max(0, line.attempts - 1) for line in lines)
    pairs = [
        *(("cuvee_requests_total", f'outcome="{o}"', told[o]) for o in sorted(told)),
        ("cuvee_requests_total", "", len(lines)),
        *(("cuvee_responses_total", f'code="{code}"', codes[code]) for code in sorted(codes)),
        ("cuvee_responses_total", "", len(lines)),
        ("cuvee_retries_total", "", retried),
        ("cuvee_refusals_total", "", gateway.nameless),
        ("cuvee_log_lines_dropped_total", "", 0),
    ]
    for name, label, count in pairs:
        shown = gateway.total(name, label)
        if abs(shown - count) > slack:
            text = f"{name}{{{label}}} is {shown:g}, and {count} by the lines of the log"
            yield Disagreement("page of metrics", text)
    yield from _mistakes(books, slack)


def _mistakes(books: Books, slack: int) -> Iterator[Disagreement]:
    """What the gateway refuses by itself is refused to those who made mistakes, and to no other."""
    mistaken = [end for end in books.clients.values() if end.mistake]
    refused = sum(end.ending is Ending.REFUSED for end in mistaken)
    shown = books.gateway.total("cuvee_refusals_total")
    if not refused - slack <= shown <= len(mistaken):
        text = f"cuvee_refusals_total is {shown:g}; {refused} of {len(mistaken)} mistakes refused"
        yield Disagreement("page of metrics", text)
