"""Limits of keys hold over workers and minutes, and what was estimated is corrected."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.gate import Gate
from gateway.access.key import AccessKey
from gateway.access.key_board import (
    CELLS,
    DAY,
    FIRST_TOKENS,
    LARGE_TOKENS,
    MAY_REQUESTS,
    MAY_TOKENS,
    MAY_UNDER_WAY,
    TOKENS_THEN,
    TOLD_S,
    USD,
    KeyBoard,
    doubles,
)
from gateway.access.key_meter import DAY_S, KeyMeter
from gateway.access.key_ring import KeyRing
from gateway.errors import KeyRefused, LimitReached

START_S = 60.0 * 1000
SECRET = b"sk-cuvee-0123456789abcdef"


class Clock:
    """Unix time that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s


class Workers:
    """Meters on one board."""

    def __init__(self, number: int = 1, slots: int = 2) -> None:
        self.clock = Clock()
        memory = bytearray(8 * doubles(workers=number, slots=slots))
        self.board = KeyBoard(memory, workers=number, slots=slots)
        self.meters = [KeyMeter(self.board, n, self.clock) for n in range(number)]

    def admitted(self, key: AccessKey, times: int, tokens: int = 1, end: bool = True) -> int:
        """How many of so many requests are let in, at the workers in turn."""
        count = 0
        for n in range(times):
            meter = self.meters[n % len(self.meters)]
            try:
                charge = meter.enter(key, tokens)
            except LimitReached:
                continue
            count += 1
            charge.add(tokens)
            if end:
                meter.leave(charge)
        return count


@pytest.mark.parametrize("workers", [1, 3])
def test_no_minute_has_more_requests_than_the_limit(workers):
    """Whatever the moment: what was let in stays counted until it is a minute old."""
    all_workers = Workers(workers)
    key = AccessKey(name="a", requests_per_minute=10)

    assert all_workers.admitted(key, 30) == 10
    all_workers.clock.now_s += 59.0
    assert all_workers.admitted(key, 30) == 0
    all_workers.clock.now_s += 31.0  # half of the next minute: half of the last one counts
    assert all_workers.admitted(key, 30) == 5
    all_workers.clock.now_s += 600.0
    assert all_workers.admitted(key, 30) == 10


@given(st.lists(st.tuples(st.floats(0.0, 20.0), st.integers(0, 2)), max_size=120))
def test_the_limit_holds_for_any_arrivals(arrivals):
    """A client that comes at any rhythm never has more than the limit in a minute of the clock."""
    workers = Workers(3)
    key = AccessKey(name="a", requests_per_minute=7)
    by_minute: dict[int, int] = {}
    for pause_s, worker in arrivals:
        workers.clock.now_s += pause_s
        try:
            charge = workers.meters[worker].enter(key, 1)
        except LimitReached:
            continue
        charge.add(1)
        minute = int(workers.clock.now_s // 60)
        by_minute[minute] = by_minute.get(minute, 0) + 1

    assert max(by_minute.values(), default=0) <= 7


@pytest.mark.parametrize("workers", [1, 2])
def test_tokens_count_by_the_estimate_and_then_by_the_use(workers):
    """A request that used less leaves room again; one that used more takes it."""
    both = Workers(workers)
    key, meter = AccessKey(name="a", tokens_per_minute=1000), both.meters[-1]
    charge = meter.enter(key, 900)
    with pytest.raises(LimitReached, match="Limit 1000, Used 900, Requested 200"):
        both.meters[0].enter(key, 200)
    charge.add(100)
    meter.leave(charge)
    both.meters[0].enter(key, 900)

    assert b"remaining-tokens: 0\r\n" in meter.lines(key)


def test_a_correction_goes_to_the_minute_of_the_estimate():
    """A long answer ends in the next one."""
    workers = Workers()
    key, meter = AccessKey(name="a", tokens_per_minute=1000), workers.meters[0]
    charge = meter.enter(key, 800)
    workers.clock.now_s += 90.0  # half of it counts
    charge.add(200)
    meter.leave(charge)

    assert b"remaining-tokens: 900\r\n" in meter.lines(key)


@pytest.mark.parametrize("began_s", [0.0, 59.0])
@pytest.mark.parametrize("lasted_s", [30.0, 62.0, 119.0, 150.0, 1000.0])
def test_an_answer_that_was_longer_than_estimated_counts_from_its_end_on(began_s, lasted_s):
    """However long it took: else long answers would have no limit."""
    workers = Workers()
    key, meter = AccessKey(name="a", tokens_per_minute=1000), workers.meters[0]
    workers.clock.now_s += began_s
    charge = meter.enter(key, 100)
    workers.clock.now_s += lasted_s
    charge.add(5000)
    meter.leave(charge)

    assert workers.admitted(key, 5, tokens=20) == 0
    workers.clock.now_s += 120.0
    assert workers.admitted(key, 5, tokens=20) == 5


def test_what_no_backend_worked_for_does_not_count():
    """Neither as a request nor with its tokens: the gateway had no room for it."""
    workers = Workers()
    key, meter = AccessKey(name="a", requests_per_minute=1, concurrency=1), workers.meters[0]
    meter.leave(meter.enter(key, 5))

    assert workers.admitted(key, 2) == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_slots_are_free_again_at_the_end(workers):
    """Also those of a worker that died."""
    all_workers = Workers(workers)
    key = AccessKey(name="a", concurrency=3)

    assert all_workers.admitted(key, 9, end=False) == 3
    for number in range(workers):
        all_workers.board.clear(number)
    assert all_workers.admitted(key, 9) == 9


def test_a_refusal_says_when_to_come_again():
    """At that moment there is room, and not a second earlier."""
    workers = Workers()
    key, meter = AccessKey(name="a", requests_per_minute=10), workers.meters[0]
    workers.clock.now_s += 30.0
    workers.admitted(key, 10)
    with pytest.raises(LimitReached) as refused:
        meter.enter(key, 1)
    wait_s = refused.value.retry_after_s
    assert wait_s is not None
    workers.clock.now_s += wait_s - 1.0

    assert workers.admitted(key, 1) == 0
    workers.clock.now_s += 1.0
    assert workers.admitted(key, 1) == 1


def test_a_request_larger_than_the_limit_is_told_so():
    """No wait helps, and SDKs are told not to try."""
    with pytest.raises(LimitReached, match="Request too large") as refused:
        Workers().meters[0].enter(AccessKey(name="a", tokens_per_minute=10), 11)

    assert refused.value.hopeless
    assert (refused.value.status, refused.value.type) == (429, "tokens")
    assert refused.value.code == "rate_limit_exceeded"


def test_lines_are_those_of_openai():
    """Limit, remaining and reset, of requests and of tokens, where they are limited."""
    workers = Workers()
    key = AccessKey(name="a", requests_per_minute=10, tokens_per_minute=500)
    charge = workers.meters[0].enter(key, 120)

    assert charge.lines == (
        b"x-ratelimit-limit-requests: 10\r\nx-ratelimit-remaining-requests: 9\r\n"
        b"x-ratelimit-reset-requests: 2m0s\r\n"
        b"x-ratelimit-limit-tokens: 500\r\nx-ratelimit-remaining-tokens: 380\r\n"
        b"x-ratelimit-reset-tokens: 2m0s\r\n"
    )
    assert workers.meters[0].lines(AccessKey(name="b", slot=1, concurrency=1)) == b""


def test_dollars_end_with_their_day():
    """What was spent counts until midnight, UTC, and the refusal says so."""
    workers = Workers()
    key = AccessKey(name="a", usd_per_day=2.0)
    others = CELLS  # of one worker
    day = float(START_S // DAY_S)
    workers.board.cells[others + USD], workers.board.cells[others + DAY] = 1.99, day
    assert workers.admitted(key, 1) == 1
    workers.board.cells[others + USD] = 2.0
    with pytest.raises(LimitReached, match="exceeded your current quota") as refused:
        workers.meters[0].enter(key, 1)

    assert refused.value.code == refused.value.type == "insufficient_quota"
    assert refused.value.retry_after_s is not None
    workers.clock.now_s += refused.value.retry_after_s
    assert workers.admitted(key, 1) == 1


def test_gateways_keep_to_what_they_agreed_for_as_long_as_they_speak():
    """A first request of a turn may take more tokens than its part; then the part holds."""
    workers = Workers()
    key = AccessKey(name="a", requests_per_minute=100, tokens_per_minute=1000, concurrency=50)
    cells = workers.board.cells
    told = {
        MAY_REQUESTS: 4.0, MAY_TOKENS: 250.0, MAY_UNDER_WAY: 50.0, TOKENS_THEN: 0.0,
        FIRST_TOKENS: 700.0, LARGE_TOKENS: 800.0, TOLD_S: START_S,
    }  # fmt: skip
    for cell, value in told.items():
        cells[CELLS + cell] = value

    assert workers.admitted(key, 1, tokens=600) == 1
    assert workers.admitted(key, 1, tokens=1) == 0
    cells[CELLS + MAY_TOKENS] = 1000.0
    assert workers.admitted(key, 9) == 3
    workers.clock.now_s += 10.0  # nobody was heard for so long: each alone
    assert workers.admitted(key, 9) == 9


def test_a_gate_counts_only_keys_with_limits():
    """And tells the limits of whoever is known, without raising for anybody."""
    workers = Workers()
    limited = AccessKey(name="a", digest=sha256(SECRET).digest(), requests_per_minute=5)
    free = AccessKey(name="b", digest=sha256(SECRET + b"b").digest(), slot=1)
    gate = Gate(KeyRing([limited, free], workers.clock), workers.board, 0, workers.clock)

    charge = gate.enter(gate.identify(SECRET).key, 10)
    assert charge is not None
    assert b"remaining-requests: 4" in gate.lines(SECRET)
    assert gate.enter(gate.identify(SECRET + b"b").key, 10) is None
    assert gate.enter(None, 10) is None
    assert gate.lines(SECRET + b"b") == gate.lines(b"nobody") == b""
    with pytest.raises(KeyRefused):
        gate.identify(b"nobody")
