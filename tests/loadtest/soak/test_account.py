"""What the account of a soak finds: each kind of lie, and nothing where all tell the same."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from loadtest.soak.account import Books, by_well, disagreements, endings
from loadtest.soak.ledger import (
    ClientEnd,
    Ending,
    EngineBook,
    FleetHistory,
    GatewayBook,
    RequestLine,
)

OK = RequestLine(request_id="1", outcome="ok", status=200, attempts=1)
SHED = RequestLine(request_id="2", outcome="shed", status=429, attempts=0)
CUT = RequestLine(request_id="3", outcome="failed", status=502, attempts=2)


def end(ending: Ending, status: int = 0, **fields: Any) -> ClientEnd:
    return replace(ClientEnd(ending, status, started_s=10.0, at_s=11.0), **fields)


def honest() -> Books:
    """Five requests: served, refused, broken, left, and a client's mistake."""
    return Books(
        sent=5,
        clients={
            1: end(Ending.SERVED, 200),
            2: end(Ending.REFUSED, 429),
            3: end(Ending.BROKEN, 200),
            4: end(Ending.LEFT),
            5: end(Ending.REFUSED, 400, mistake=True),
        },
        doubled=(),
        engines=EngineBook(begun=Counter({1: 1, 3: 2}), completed=Counter({1: 1})),
        gateway=GatewayBook(
            lines={1: [OK], 2: [SHED], 3: [CUT]},
            page={
                'cuvee_requests_total{outcome="ok"}': 1,
                'cuvee_requests_total{outcome="shed"}': 1,
                'cuvee_requests_total{outcome="failed"}': 1,
                'cuvee_responses_total{code="200"}': 1,
                'cuvee_responses_total{code="429"}': 1,
                'cuvee_responses_total{code="502"}': 1,
                "cuvee_retries_total": 1,
                'cuvee_refusals_total{code="400"}': 1,
                'cuvee_in_flight{backend="a-0"}': 0,
            },
            nameless=1,
        ),
        history=FleetHistory(changes=[(0.0, 6), (10.5, 4), (12.0, 6)]),
    )


def kinds(books: Books) -> set[str]:
    return {one.kind for one in disagreements(books)}


def client(number: int, told: ClientEnd) -> Books:
    """The honest books, but for what one client says."""
    books = honest()
    return replace(books, clients={**books.clients, number: told})


def lines(**changed: list[RequestLine]) -> Books:
    """The honest books, but for lines of the log, by number with a leading underscore."""
    books = honest()
    some = {int(name[1:]): told for name, told in changed.items()}
    gateway = replace(books.gateway, lines=books.gateway.lines | some)
    return replace(books, gateway=gateway)


def page(name: str, value: float) -> Books:
    """The honest books, but for one sample of the page of metrics."""
    books = honest()
    return replace(books, gateway=replace(books.gateway, page=books.gateway.page | {name: value}))


def test_honest_books_agree():
    """No disagreement is made up."""
    assert list(disagreements(honest())) == []


@pytest.mark.parametrize(
    ("kind", "books"),
    [
        ("lost", client(4, end(Ending.LOST, detail="no answer"))),
        ("lost", replace(honest(), sent=6)),
        ("mixed up", client(4, end(Ending.MIXED, 200))),
        ("wrong status", client(5, end(Ending.REFUSED, 500, mistake=True))),
        ("answered twice", replace(honest(), doubled=(1,))),
        ("ok but not served", client(2, end(Ending.SERVED, 200))),
        ("told otherwise", client(2, end(Ending.SERVED, 200))),
        ("told otherwise", client(2, end(Ending.REFUSED, 503))),
        ("told otherwise", client(1, end(Ending.BROKEN, 200))),
        ("counted twice", lines(_1=[OK, OK])),
        ("not counted", lines(_1=[])),
        ("page of metrics", page('cuvee_requests_total{outcome="ok"}', 2)),
        ("page of metrics", page('cuvee_requests_total{outcome="abandoned"}', 1)),
        ("page of metrics", page('cuvee_responses_total{code="429"}', 2)),
        ("page of metrics", page("cuvee_retries_total", 0)),
        ("page of metrics", page('cuvee_refusals_total{code="404"}', 3)),
        ("page of metrics", page('cuvee_log_lines_dropped_total{process="gateway"}', 1)),
        ("gauge", page('cuvee_in_flight{backend="a-0"}', 1)),
        ("gauge", page('cuvee_queued_requests{worker="0"}', 2)),
    ],
)  # fmt: skip
def test_each_lie_is_found(kind: str, books: Books):
    """Whoever tells it."""
    assert kind in kinds(books)


def test_an_answer_that_two_engines_gave_was_done_twice():
    """Work is not free."""
    books = honest()
    books.engines.completed[1] += 1

    assert kinds(books) == {"done twice"}


def test_a_body_under_another_head_is_found_at_the_engine():
    """Even where no client would see it."""
    books = honest()
    books.engines.mixed.append("head b'1' with body [b'2']")

    assert kinds(books) == {"mixed up at an engine"}


def test_who_was_cut_off_by_a_workers_death_is_an_orphan():
    """That death is not a fault of the gateway's bookkeeping; a loss at any other time is."""
    books = client(4, end(Ending.LOST))
    killed = replace(books, history=replace(books.history, deaths=[10.9]))

    assert kinds(killed) == set()
    assert endings(killed)[Ending.ORPHANED] == 1
    assert kinds(replace(books, history=replace(books.history, deaths=[30.0]))) == {"lost"}


def test_what_a_dead_worker_had_not_reported_may_be_missing():
    """Half a second of counts and the last lines of its log."""
    books = lines(_1=[])
    killed = replace(books, history=replace(books.history, deaths=[11.4]))

    assert kinds(killed) == set()


def broken(told: ClientEnd) -> bool:
    return told.ending is Ending.BROKEN


def test_failures_are_counted_by_the_engines_that_were_well():
    """The fewest at one time while the request was under way: here four of six."""
    assert by_well(honest(), broken) == {4: 1}
    later = client(3, end(Ending.BROKEN, 200, started_s=12.5, at_s=13.0))
    assert by_well(later, broken) == {6: 1}
